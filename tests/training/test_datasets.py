"""Data sets by name: catalogues out of their own files, counted; what is missing is said with where to get it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training import catalogue, datasets
from training.catalogue import CatalogueError, Video


def filled(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_every_page_says_what_a_person_needs() -> None:
    assert list(datasets.DATA_SETS) == [
        "ucf_crime", "shanghaitech", "xd_violence", "ped2", "pets2009_i3d", "industrial", "fights", "falls",
        "accidents", "shoplifting",
    ]  # fmt: skip
    for name, page in datasets.DATA_SETS.items():
        assert page.name == name
        assert page.paper and page.licence and page.files
        assert page.videos_from.endswith(".") and page.features_from.endswith(".")
    assert {name for name, page in datasets.DATA_SETS.items() if page.audio} == {"xd_violence"}
    assert {name for name, page in datasets.DATA_SETS.items() if page.measure == "AP"} == {"xd_violence"}
    assert {name: page.crops for name, page in datasets.DATA_SETS.items() if page.crops > 1} == {
        "ucf_crime": 10,
        "shanghaitech": 10,
        "xd_violence": 5,
    }


def test_an_unknown_name_is_answered_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no data set 'ucf'; known are ucf_crime, shanghaitech"):
        datasets.read("ucf", tmp_path)


def test_ucf_crime_takes_the_class_from_the_folder(tmp_path: Path) -> None:
    filled(
        tmp_path,
        Anomaly_Train__txt="Abuse/Abuse001_x264.mp4\nTraining_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4\n",
        Anomaly_Test__txt="Testing_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4 \n",
    )
    assert datasets.read("ucf_crime", tmp_path, whole=False) == (
        Video(
            id="Abuse001_x264",
            path="Abuse/Abuse001_x264.mp4",
            label=1,
            kind="Abuse",
            scene="Abuse001_x264",
            split="train",
        ),
        Video(
            id="Normal_Videos001_x264",
            path="Training_Normal_Videos_Anomaly/Normal_Videos001_x264.mp4",
            label=0,
            scene="Normal_Videos001_x264",
            split="train",
        ),
        Video(
            id="Normal_Videos_003_x264",
            path="Testing_Normal_Videos_Anomaly/Normal_Videos_003_x264.mp4",
            label=0,
            scene="Normal_Videos_003_x264",
            split="test",
        ),
    )
    with pytest.raises(
        CatalogueError, match=r"2 train videos, 1 of them abnormal, in .*; published are 1610 and 810: is a list cut"
    ):
        datasets.read("ucf_crime", tmp_path)


def test_a_list_with_the_published_length_but_other_labels_is_refused(tmp_path: Path) -> None:
    filled(
        tmp_path,
        SH_Train__txt="\n".join([f"01_{k:04}" for k in range(62)] + [f"01_{k:03}" for k in range(176)]),
        SH_Test__txt="\n".join([f"02_{k:04}" for k in range(44)] + [f"02_{k:03}" for k in range(155)]),
    )
    with pytest.raises(CatalogueError, match=r"238 train videos, 62 of them abnormal, .* published are 238 and 63"):
        datasets.read("shanghaitech", tmp_path)


def test_shanghaitech_takes_label_and_camera_from_the_name(tmp_path: Path) -> None:
    filled(tmp_path, SH_Train__txt="01_0014\n13_007\n", SH_Test__txt="05_0021 313\n")
    assert datasets.read("shanghaitech", tmp_path, whole=False) == (
        Video(id="01_0014", path="01_0014.avi", label=1, scene="01", split="train"),
        Video(id="13_007", path="13_007.avi", label=0, scene="13", split="train"),
        Video(id="05_0021", path="05_0021.avi", label=1, scene="05", split="test"),
    )


def test_xd_violence_takes_label_class_and_film_from_the_name(tmp_path: Path) -> None:
    filled(
        tmp_path,
        rgb__list="/a/RGB/Bad.Boys.1995__#00-26-51_00-27-53_label_B2-G-0__0.npy\n"
        "/a/RGB/Bad.Boys.1995__#00-26-51_00-27-53_label_B2-G-0__1.npy\n",
        rgb_test__list="D:\\RGBTest\\v=yviKz5J-pEA__#1_label_A__0.npy\n",
    )
    assert datasets.read("xd_violence", tmp_path, whole=False) == (
        Video(
            id="Bad.Boys.1995__#00-26-51_00-27-53_label_B2-G-0",
            path="Bad.Boys.1995__#00-26-51_00-27-53_label_B2-G-0.mp4",
            label=1,
            kind="B2",
            scene="Bad.Boys.1995",
            split="train",
        ),
        Video(
            id="v=yviKz5J-pEA__#1_label_A",
            path="v=yviKz5J-pEA__#1_label_A.mp4",
            label=0,
            scene="v=yviKz5J-pEA",
            split="test",
        ),
    )


@pytest.mark.parametrize(
    ("line", "video_id"),
    [
        ("/x/RGB/Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6__3.npy",
         "Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6"),
        ("/x/v=-etV57xZ4_I__#1_label_B4-0-0__vggish.npy", "v=-etV57xZ4_I__#1_label_B4-0-0"),
        ("v=-etV57xZ4_I__#1_label_B4-0-0.mp4", "v=-etV57xZ4_I__#1_label_B4-0-0"),
        ("v=-etV57xZ4_I__#1_label_B4-0-0", "v=-etV57xZ4_I__#1_label_B4-0-0"),
    ],
)  # fmt: skip
def test_a_file_of_xd_violence_is_of_one_video(line: str, video_id: str) -> None:
    assert datasets.xd_violence_id(line) == video_id


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("a__#1_label_A", ()),
        ("a__#1_label_B2-0-0", ("B2",)),
        ("a_label_G-B2-B6", ("G", "B2", "B6")),
        ("a_label_G", ("G",)),
    ],
)
def test_a_name_of_xd_violence_carries_its_classes(name: str, classes: tuple[str, ...]) -> None:
    assert datasets.xd_violence_classes(name) == classes


@pytest.mark.parametrize("name", ["a__#1", "a_label_B3-0-0", "a_label_0-0-0", "a_label_B2.mp4"])
def test_a_name_of_xd_violence_without_a_known_label_is_refused(name: str) -> None:
    with pytest.raises(CatalogueError, match="no XD-Violence name"):
        datasets.xd_violence_classes(name)


@pytest.mark.parametrize(
    ("name", "file", "where"),
    [
        ("ucf_crime", "Anomaly_Train.txt", "crcv.ucf.edu"),
        ("shanghaitech", "SH_Train.txt", "svip-lab.github.io"),
        ("xd_violence", "rgb_train.list or rgb.list", "roc-ng.github.io"),
        ("ped2", "clips.csv", "svcl.ucsd.edu"),
        ("pets2009_i3d", "events_view1.npz", "University of Reading"),
        ("industrial", "clips.csv", "ask the authors"),
    ],
)
def test_a_missing_file_is_named_with_its_layout_and_where_people_get_it(
    tmp_path: Path, name: str, file: str, where: str
) -> None:
    with pytest.raises(CatalogueError) as refused:
        datasets.read(name, tmp_path)
    said = str(refused.value)
    assert said.startswith(f"{name}: {file} is missing in {tmp_path}; its layout there is ")
    assert where in said


@pytest.mark.parametrize(
    ("name", "files", "sentence"),
    [
        ("ucf_crime", {"Anomaly_Train__txt": "Abuse001_x264.mp4\n"}, r"Anomaly_Train.txt:1: expected CLASS/NAME.mp4"),
        ("shanghaitech", {"SH_Train__txt": "01_0014\n1_2\n"}, r"SH_Train.txt:2: expected NN_NNNN"),
        ("xd_violence", {"rgb__list": "film__#1__0.npy\n"}, r"rgb.list:1: film__#1: no XD-Violence name"),
        (
            "shanghaitech",
            {"SH_Train__txt": "01_0014\n", "SH_Test__txt": "01_0014\n"},
            r"01_0014 is listed twice \(test",
        ),
        ("ped2", {"clips__csv": "path,label\na.mp4,0\n"}, r"clips.csv:2: weak_split must be train or test \(got ''\)"),
    ],
)
def test_a_line_that_cannot_be_meant_is_a_sentence(
    tmp_path: Path, name: str, files: dict[str, str], sentence: str
) -> None:
    filled(tmp_path, **files)
    with pytest.raises(CatalogueError, match=sentence):
        datasets.read(name, tmp_path, whole=False)


def test_a_list_may_lie_deeper_but_not_twice_with_two_contents(tmp_path: Path) -> None:
    for place, text in (("splits", "01_0014\n"), ("copy", "01_0014\n")):
        (tmp_path / place).mkdir()
        filled(tmp_path / place, SH_Train__txt=text, SH_Test__txt="01_0015\n")
    assert len(datasets.read("shanghaitech", tmp_path, whole=False)) == 2
    filled(tmp_path / "copy", SH_Train__txt="01_0016\n")
    with pytest.raises(CatalogueError, match=r"more than once .* and they differ"):
        datasets.read("shanghaitech", tmp_path, whole=False)


def test_pets_has_a_video_a_view_and_one_scene_a_recording(tmp_path: Path) -> None:
    for view in (1, 2):
        np.savez(
            tmp_path / f"s3_view{view}.npz",
            train_videos=np.array(["S3-Event-Recognition--Time-14-27a"]),
            train_labels=np.array([1], np.uint8),
            test_videos=np.array(["S3-Event-Recognition--Time-14-27b"]),
            test_labels=np.array([0], np.uint8),
        )
    videos = datasets.read("pets2009_i3d", tmp_path, whole=False)
    assert [(video.source, video.split, video.label, video.scene) for video in videos] == [
        ("s3_view1", "train", 1, "Time-14-27"),
        ("s3_view2", "train", 1, "Time-14-27"),
        ("s3_view1", "test", 0, "Time-14-27"),
        ("s3_view2", "test", 0, "Time-14-27"),
    ]
    np.savez(tmp_path / "s3_view3.npz", train_videos=np.array(["a"]))
    with pytest.raises(CatalogueError, match=r"s3_view3.npz holds no train_labels"):
        datasets.read("pets2009_i3d", tmp_path, whole=False)


def test_a_clip_set_gives_its_abnormal_clips_their_class(tmp_path: Path) -> None:
    filled(tmp_path, clips__csv="path,label\na.mp4,1\nb.mp4,0\n")
    assert [video.kind for video in datasets.read("fights", tmp_path)] == ["fight", None]


def test_a_persons_own_videos_are_a_csv_or_a_folder(tmp_path: Path) -> None:
    for name in ("normal/a.mp4", "abnormal/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert [video.id for video in datasets.own(tmp_path)] == ["normal/a", "abnormal/b"]
    filled(tmp_path, clips__csv="path,label\nc.mp4,0\n", other__csv="path,label\nd.mp4,0\n")
    assert [video.id for video in datasets.own(tmp_path)] == ["c"]
    assert [video.id for video in datasets.own(tmp_path / "other.csv")] == ["d"]
    with pytest.raises(CatalogueError, match="expected normal/ and abnormal/"):
        datasets.own(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "folder", "parts", "scenes"),
    [
        ("ucf_crime", "truth/ucf_crime", {"train": (1610, 810), "test": (290, 140)}, 1900),
        ("shanghaitech", "truth/shanghaitech", {"train": (238, 63), "test": (199, 44)}, 13),
        ("xd_violence", "truth/xd_violence", {"train": (3954, 1905), "test": (800, 500)}, 1893),
        ("ped2", "ped2", {"train": (10, 6), "test": (18, 6)}, 1),
        ("pets2009_i3d", "pets2009_i3d", {"train": (104, 32), "test": (104, 28)}, 21),
        ("industrial", "industrial", {None: (227, 108)}, 22),
        ("fights", "fights", {None: (242, 120)}, 32),
        ("falls", "falls", {None: (26, 14)}, 4),
        ("accidents", "accidents", {None: (32, 30)}, 32),
        ("shoplifting", "shoplifting", {None: (125, 56)}, 34),
    ],
)
def test_the_published_files_give_the_published_numbers(
    shared_data: Path, tmp_path: Path, name: str, folder: str, parts: dict[str | None, tuple[int, int]], scenes: int
) -> None:
    videos = datasets.read(name, shared_data / folder)
    found = {
        split: (count, sum(video.label for video in videos if video.split == split))
        for split, count in Counter(video.split for video in videos).items()
    }
    assert found == parts
    assert len({video.scene for video in videos}) == scenes
    catalogue.write(tmp_path / "clips.csv", videos)
    assert catalogue.read(tmp_path / "clips.csv") == videos


def test_thirteen_classes_of_ucf_crime_have_the_published_numbers(shared_data: Path) -> None:
    videos = datasets.read("ucf_crime", shared_data / "truth" / "ucf_crime")
    assert Counter(video.kind for video in videos if video.label) == {
        "Abuse": 50, "Arrest": 50, "Arson": 50, "Assault": 50, "Burglary": 100, "Explosion": 50, "Fighting": 50,
        "RoadAccidents": 150, "Robbery": 150, "Shooting": 50, "Shoplifting": 50, "Stealing": 100, "Vandalism": 50,
    }  # fmt: skip
