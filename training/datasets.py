"""Data sets known by name: what each is, where people get it, and its catalogue out of its own files.

A catalogue is made of the lists that the data set's authors publish, as they publish them; what is published is
counted, so that half a list is found here and not in a table. Every set has its page in ``DATA_SETS``; the pages make
this file long.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from training import catalogue
from training.catalogue import CatalogueError, Split, Video


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many videos one part of a data set has."""

    videos: int
    abnormal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One data set: its page in the table."""

    name: str
    paper: str
    licence: str
    videos_from: str
    """A sentence: where people get the videos."""
    features_from: str
    """A sentence: where people get features, as published."""
    files: tuple[str, ...]
    """What ``catalogue`` reads of its folder; by ``or`` where a file is known under several names."""
    read: Callable[[Path], tuple[Video, ...]]
    crops: int
    audio: bool = False
    measure: Literal["AUC", "AP"] = "AUC"
    counts: dict[Split, Count] = field(default_factory=dict)
    """Of the published split; empty where there is none."""
    truth_files: tuple[str, ...] = ()
    """What ``training.truth`` reads besides; empty: the label of a whole clip is all there is."""


def of(name: str) -> DataSet:
    """The page of a data set. Raises CatalogueError for a name that is not in the table."""
    if name not in DATA_SETS:
        raise CatalogueError(f"no data set {name!r}; known are {', '.join(DATA_SETS)}, or a folder or CSV of yours")
    return DATA_SETS[name]


def read(name: str, source: Path, *, whole: bool = True) -> tuple[Video, ...]:
    """The catalogue of a data set, out of its own files in ``source``, train before test, in the lists' order.

    Args:
        whole: the published number of videos must be there; False for a part of the set.

    Raises:
        CatalogueError: an unknown name; a file that is missing, with its layout and where people get it; a line that
            cannot be meant; a video in both parts; a number of videos that is not the published one.
    """
    page = of(name)
    videos = page.read(source)
    by_id: dict[str, Video] = {}
    for video in videos:
        if video.id in by_id:
            where = " and ".join(sorted({str(by_id[video.id].split), str(video.split)}))
            raise CatalogueError(f"{name}: {video.id} is listed twice ({where})")
        by_id[video.id] = video
    for split, count in page.counts.items() if whole else ():
        part = [video for video in videos if video.split == split]
        found = Count(videos=len(part), abnormal=sum(video.label for video in part))
        if found != count:
            raise CatalogueError(
                f"{name}: {found.videos} {split} videos, {found.abnormal} of them abnormal, in {source}; "
                f"published are {count.videos} and {count.abnormal}: is a list cut short?"
            )
    return videos


def own(source: Path) -> tuple[Video, ...]:
    """A person's own videos: a CSV, a folder with a ``clips.csv``, or one with ``normal/`` and ``abnormal/``.

    Raises:
        CatalogueError: there is none of the three, or a mistake in it.
    """
    if source.is_file():
        return catalogue.read(source)
    if (source / "clips.csv").is_file():
        return catalogue.read(source / "clips.csv")
    return catalogue.folder(source)


def find(name: str, folder: Path, file: str) -> Path:
    """A file of a data set, in its folder or anywhere below; ``file`` may give several names with ``or``.

    Raises:
        CatalogueError: there is none, or several that differ: the sentence says which file of which layout, and
            where people get it.
    """
    names = file.split(" or ")
    for known in names:
        if (folder / known).is_file():
            return folder / known
    below = sorted(path for known in names for path in folder.rglob(known) if path.is_file())
    if not below:
        page = DATA_SETS[name]
        raise CatalogueError(
            f"{name}: {file} is missing in {folder}; its layout there is {', '.join(page.files + page.truth_files)}. "
            f"{page.videos_from}"
        )
    if len({path.read_bytes() for path in below}) > 1:
        raise CatalogueError(f"{name}: {file} is in {folder} more than once ({below[0]}, {below[1]}), and they differ")
    return below[0]


def _lines(path: Path) -> Iterable[tuple[str, str]]:
    """``(file:line, text)`` of a list's lines that are not empty, a byte order mark taken off."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


UCF_CLASSES = (
    "Abuse", "Arrest", "Arson", "Assault", "Burglary", "Explosion", "Fighting", "RoadAccidents", "Robbery", "Shooting",
    "Shoplifting", "Stealing", "Vandalism",
)  # fmt: skip


def _ucf_crime(folder: Path) -> tuple[Video, ...]:
    """``Arson/Arson011_x264.mp4``: the folder is the class, ``..._Normal_Videos_Anomaly`` is normal.

    Nobody says which videos are of one camera: each counts as a scene of its own.
    """
    videos: list[Video] = []
    splits: tuple[tuple[Split, str], ...] = (("train", "Anomaly_Train.txt"), ("test", "Anomaly_Test.txt"))
    for split, file in splits:
        for here, path in _lines(find("ucf_crime", folder, file)):
            kind, _, stem = path.removesuffix(".mp4").rpartition("/")
            normal = kind.endswith("Normal_Videos_Anomaly")
            if not (normal or kind in UCF_CLASSES):
                raise CatalogueError(f"{here}: expected CLASS/NAME.mp4 with one of the 13 classes (got {path!r})")
            videos.append(
                Video(id=stem, path=path, label=int(not normal), kind=None if normal else kind, scene=stem, split=split)
            )
    return tuple(videos)


def _shanghaitech(folder: Path) -> tuple[Video, ...]:
    """``01_0014`` is abnormal (of the original test set), ``01_002`` normal (of its training set); ``01`` the camera.

    The split shares its cameras between train and test.
    """
    videos: list[Video] = []
    splits: tuple[tuple[Split, str], ...] = (("train", "SH_Train.txt"), ("test", "SH_Test.txt"))
    for split, file in splits:
        for here, line in _lines(find("shanghaitech", folder, file)):
            # Some copies of the split carry more columns (frames, label); the name is the first.
            stem = re.split(r"[\s,]", line)[0].removesuffix(".avi")
            if not re.fullmatch(r"\d\d_\d{3,4}", stem):
                raise CatalogueError(f"{here}: expected NN_NNNN (abnormal) or NN_NNN (normal), got {line!r}")
            label = int(len(stem) == len("NN_NNNN"))
            videos.append(Video(id=stem, path=f"{stem}.avi", label=label, scene=stem[:2], split=split))
    return tuple(videos)


XD_CLASSES = {
    "B1": "fighting", "B2": "shooting", "B4": "riot", "B5": "abuse", "B6": "car accident", "G": "explosion",
}  # fmt: skip


def xd_violence_classes(video_id: str) -> tuple[str, ...]:
    """Codes of the classes that a name of XD-Violence carries, the weightiest first: ``B2-G-0`` has B2 and G.

    Raises CatalogueError where the name carries no label, or an unknown one.
    """
    label = re.search(r"_label_([A-Z0-9-]+)$", video_id)
    codes = tuple(code for code in label[1].split("-") if code not in ("0", "A")) if label else ()
    if label is None or not (set(codes) <= set(XD_CLASSES)) or (not codes and label[1] != "A"):
        raise CatalogueError(f"{video_id}: no XD-Violence name; expected ..._label_A or up to three of B1 … B6, G")
    return codes


def xd_violence_id(line: str) -> str:
    """The video of a line of its lists, or of a file's name: no folder, crop number, ``__vggish`` or suffix."""
    return re.sub(r"(__\d+|__vggish)?\.(npy|mp4)$", "", re.split(r"[/\\]", line.strip())[-1])


def _xd_violence(folder: Path) -> tuple[Video, ...]:
    """Wu's lists name five files a video, one a crop. ``kind`` is the first class of the name, the scene the film.

    184 films (of 1,630 and 447) are in train and in test.
    """
    videos: dict[tuple[str, Split], Video] = {}
    splits: tuple[tuple[Split, str], ...] = (("train", "rgb_train.list or rgb.list"), ("test", "rgb_test.list"))
    for split, file in splits:
        for here, line in _lines(find("xd_violence", folder, file)):
            stem = xd_violence_id(line)
            try:
                classes = xd_violence_classes(stem)
            except CatalogueError as wrong:
                raise CatalogueError(f"{here}: {wrong}") from wrong
            videos[stem, split] = Video(
                id=stem,
                path=f"{stem}.mp4",
                label=int(bool(classes)),
                kind=classes[0] if classes else None,
                scene=stem.split("__#")[0],
                split=split,
            )
    return tuple(videos.values())


def _ped2(folder: Path) -> tuple[Video, ...]:
    """Column ``weak_split`` of clips.csv is the split; all 28 videos are of one camera."""
    listing = find("ped2", folder, "clips.csv")
    videos = catalogue.read(listing)
    with listing.open(newline="", encoding="utf-8-sig") as lines:
        said = [row.get("weak_split") for row in csv.DictReader(lines)]
    splits: list[Split] = []
    for line, split in enumerate(said, start=2):
        if split != "train" and split != "test":
            raise CatalogueError(f"{listing}:{line}: weak_split must be train or test (got {split or ''!r})")
        splits.append("train" if split == "train" else "test")
    both = (replace(video, split=split) for video, split in zip(videos, splits, strict=True))
    return tuple(sorted(both, key=lambda video: video.split == "test"))


def _pets2009_i3d(folder: Path) -> tuple[Video, ...]:
    """``events_view1.npz`` … ``s3_view4.npz``: id ``events_view1/NAME``, so ``Video.source`` is protocol and view.

    The scene is the recording's time: what carries the same time is the same footage, also under another name
    (``S1.L1-walking--Time-13-57`` of train and ``Regular-Flow--Time-13-57`` of test hold equal features). The
    published splits part such recordings: 3 of 14 test videos of ``events`` are whole in train and a fourth in large
    part, 2 of 12 of ``s3``; and in s3's train, 14-31 is there twice, once as normal and once as abnormal.
    """
    files = sorted(path for path in folder.glob("*_view?.npz") if path.stem[:-6] in ("events", "s3"))
    if not files:
        find("pets2009_i3d", folder, "events_view1.npz")
    videos: list[Video] = []
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        for file in files:
            try:
                with np.load(file, allow_pickle=False) as held:
                    names, labels = held[f"{split}_videos"].tolist(), held[f"{split}_labels"].tolist()
            except KeyError as missing:
                raise CatalogueError(f"pets2009_i3d: {file} holds no {missing.args[0]}") from missing
            for name, label in zip(names, labels, strict=True):
                time = re.sub(r"^.*(Time-\d\d-\d\d)[a-z]?$", r"\1", name)
                videos.append(
                    Video(id=f"{file.stem}/{name}", path=file.name, label=int(label), scene=time, split=split)
                )
    return tuple(videos)


def _clips(name: str, kind: str) -> Callable[[Path], tuple[Video, ...]]:
    """Reader of a set with a clips.csv and one class of anomaly."""

    def reader(folder: Path) -> tuple[Video, ...]:
        videos = catalogue.read(find(name, folder, "clips.csv"))
        return tuple(
            replace(video, kind=kind if video.label and video.kind is None else video.kind) for video in videos
        )

    return reader


_CSV = "clips.csv (path,label and, where known, class,scene,split,fold,frames,width,height,duration_s)"

DATA_SETS: dict[str, DataSet] = {
    page.name: page
    for page in (
        DataSet(
            name="ucf_crime",
            paper="Sultani, Chen, Shah: Real-world anomaly detection in surveillance videos, CVPR 2018",
            licence="none stated; for research, footage from public video sites",
            videos_from="Videos, lists and annotation are at https://www.crcv.ucf.edu/projects/real-world/.",
            features_from=(
                "I3D, ten crops: https://github.com/tianyu0207/RTFM (2048-D, one file a video) and "
                "https://github.com/Roc-Ng/DeepMIL (1024-D, one file a crop)."
            ),
            files=("Anomaly_Train.txt", "Anomaly_Test.txt"),
            truth_files=("Temporal_Anomaly_Annotation.txt or Temporal_Anomaly_Annotation_for_Testing_Videos.txt",),
            read=_ucf_crime,
            crops=10,
            counts={"train": Count(videos=1610, abnormal=810), "test": Count(videos=290, abnormal=140)},
        ),
        DataSet(
            name="shanghaitech",
            paper=(
                "Luo, Liu, Gao: A revisit of sparse coding based anomaly detection in stacked RNN, ICCV 2017; "
                "weak split: Zhong et al.: Graph convolutional label noise cleaner, CVPR 2019"
            ),
            licence="none stated; for research",
            videos_from=(
                "Videos and frame masks are at https://svip-lab.github.io/dataset/campus_dataset.html, the lists at "
                "https://github.com/jx-zhong-for-academic-purpose/GCN-Anomaly-Detection."
            ),
            features_from="I3D, ten crops, 2048-D, one file a video: https://github.com/tianyu0207/RTFM.",
            files=("SH_Train.txt", "SH_Test.txt"),
            truth_files=("test_frame_mask/NN_NNNN.npy",),
            read=_shanghaitech,
            crops=10,
            counts={"train": Count(videos=238, abnormal=63), "test": Count(videos=199, abnormal=44)},
        ),
        DataSet(
            name="xd_violence",
            paper="Wu et al.: Not only look, but also listen, ECCV 2020",
            licence="none stated; for research, footage from films and public video sites",
            videos_from=(
                "Videos and annotation are at https://roc-ng.github.io/XD-Violence/, the lists are made by "
                "https://github.com/Roc-Ng/XDVioDet."
            ),
            features_from=(
                "I3D RGB, five crops, 1024-D, one file a crop, and VGGish, 128-D, one file a video: "
                "https://roc-ng.github.io/XD-Violence/."
            ),
            files=("rgb_train.list or rgb.list", "rgb_test.list"),
            truth_files=("annotations.txt",),
            read=_xd_violence,
            crops=5,
            audio=True,
            measure="AP",
            counts={"train": Count(videos=3954, abnormal=1905), "test": Count(videos=800, abnormal=500)},
        ),
        DataSet(
            name="ped2",
            paper="Mahadevan et al.: Anomaly detection in crowded scenes, CVPR 2010",
            licence="University of California San Diego, for research",
            videos_from="Videos are at http://www.svcl.ucsd.edu/projects/anomaly/dataset.htm.",
            features_from="Nobody publishes features of the weak split that we know of: vad-train extract makes them.",
            files=("clips.csv (path,label,weak_split,frames,abnormal_frames: 0-based start:end, the end not counted)",),
            read=_ped2,
            crops=1,
            counts={"train": Count(videos=10, abnormal=6), "test": Count(videos=18, abnormal=6)},
        ),
        DataSet(
            name="pets2009_i3d",
            paper=(
                "Pereira, Maia: MC-MIL: video surveillance anomaly detection with multi-instance learning and multiple "
                "overlapped cameras, Neural Computing and Applications 2024, on PETS 2009"
            ),
            licence="MIT (features and labels)",
            videos_from="Videos are the PETS 2009 benchmark's, of the University of Reading.",
            features_from=(
                "I3D and frame labels: https://github.com/santiagosilas/MC-VAD-Dataset-BasedOn-PETS2009, to be kept as "
                "one npz a protocol and view."
            ),
            files=(
                "events_view1.npz",
                "... events_view4.npz",
                "s3_view1.npz",
                "... s3_view4.npz ({train,test}_{videos,labels,segments,features,frame_labels})",
            ),
            read=_pets2009_i3d,
            crops=1,
            counts={"train": Count(videos=104, abnormal=32), "test": Count(videos=104, abnormal=28)},
        ),
        DataSet(
            name="industrial",
            paper="Ullah et al.: Industrial Surveillance Dataset, IEEE Transactions on Industrial Informatics 2021",
            licence="no licence file; its note says research purposes only",
            videos_from="People ask the authors of the paper for the videos.",
            features_from="vad-train extract makes them.",
            files=(_CSV,),
            read=_clips("industrial", "violence"),
            crops=1,
        ),
        DataSet(
            name="fights",
            paper="Aktı, Tataroğlu, Ekenel: Vision-based fight detection from surveillance cameras, IPTA 2019",
            licence="MIT (repository); footage from public video sites",
            videos_from="Videos are at https://github.com/seymanurakti/fight-detection-surv-dataset.",
            features_from="vad-train extract makes them.",
            files=(_CSV,),
            read=_clips("fights", "fight"),
            crops=1,
        ),
        DataSet(
            name="falls",
            paper="Alam et al.: GMDCSA24, a dataset for human fall detection in videos",
            licence="MIT",
            videos_from="People get the videos with the paper.",
            features_from="vad-train extract makes them.",
            files=(_CSV,),
            read=_clips("falls", "fall"),
            crops=1,
        ),
        DataSet(
            name="accidents",
            paper="none known: sequences of road cameras with accidents",
            licence="none stated",
            videos_from="We know of no address; any list with frame labels will do.",
            features_from="vad-train extract makes them.",
            files=("clips.csv (path,label,scene,frames,frame_labels: one digit a frame)",),
            read=_clips("accidents", "accident"),
            crops=1,
        ),
        DataSet(
            name="shoplifting",
            paper="none known: staged concealment at one table",
            licence="none stated",
            videos_from="We know of no address; any list of clips will do.",
            features_from="vad-train extract makes them.",
            files=(_CSV,),
            read=_clips("shoplifting", "shoplifting"),
            crops=1,
        ),
    )
}
"""The table, by name."""
