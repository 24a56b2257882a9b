"""What leaving out parts of decoding costs in accuracy, on real clips: ``python -m tests.bench.decode_accuracy DATA``.

The shipped recipe is learnt from clips that were decoded whole and judged on scenes it never saw, whose clips the
monitor's own reader decodes under each setting. All differences are paired: the same models, clips and seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.features import backbone
from monitor.features.backbone import Backbone
from monitor.flow import Segment
from monitor.ingest.camera import ReaderSettings
from monitor.ingest.cutter import Cut, Slot
from monitor.ingest.reader import Reader
from tests.bench.rows import Row, machine, table, write
from tests.conftest import ROOT
from training import catalogue, default, evaluate, extract, features, report, train
from training.catalogue import Video
from training.features import Features
from training.report import OutOfFold
from training.train import Trained

KEPT = ROOT / "tests" / "bench" / "results" / "decode-accuracy.json"
WHOLE = "nothing left out"
LEFT_OUT: dict[str, dict[str, str]] = {
    WHOLE: {},
    "skip_loop_filter: nonref": {"skip_loop_filter": "nonref"},
    "skip_loop_filter: all": {"skip_loop_filter": "all"},
    "skip_frame: nonref": {"skip_frame": "nonref"},
    "both: all, nonref": {"skip_loop_filter": "all", "skip_frame": "nonref"},
}


def read(path: Path, encoder: Backbone, fps: float, left_out: dict[str, str]) -> tuple[list[Segment], int]:
    """A clip's segments, by the monitor's reader, and how many frames it decoded."""
    segments: list[Segment] = []

    def keep(cut: Cut) -> None:
        piece = cut.piece
        segments.append(
            Segment(
                camera=str(path),
                number=piece.number,
                start_s=piece.start_s,
                end_s=piece.end_s,
                captured_s=piece.captured_s,
                captured_wall_s=piece.captured_wall_s,
                pictures=None if cut.slot is None else cut.slot.pictures,
                invalid=piece.invalid,
            )
        )

    reader = Reader(
        ReaderSettings(name=path.stem, url=path.resolve().as_uri(), fps=fps, frozen_after_s=None, **left_out),  # type: ignore[arg-type]
        encoder.preprocessing,
        live=False,
        take_slot=lambda: Slot(pictures=np.empty(encoder.preprocessing.shape, np.uint8)),
        deliver=keep,
        changed=lambda: None,
        mark=lambda _doing: None,
        recorder=None,
    )
    reader.run()
    return segments, reader.health().frames_decoded


def made(
    data: Path, videos: Sequence[Video], encoder: Backbone, fps: float, folder: Path
) -> tuple[dict[str, dict[str, Features]], dict[str, dict[str, int]]]:
    """Features and numbers of decoded frames, by what is left out and by clip. Features that are there are kept."""
    from tqdm import tqdm

    found: dict[str, dict[str, Features]] = {name: {} for name in LEFT_OUT}
    frames: dict[str, dict[str, int]] = {name: {} for name in LEFT_OUT}
    for index, (name, left_out) in enumerate(LEFT_OUT.items()):
        # Learnt from as the shipped one is, mirrored too; judged by the whole picture alone.
        crops = extract.CROPS[2 if name == WHOLE else 1]
        for video in tqdm(videos, desc=name, unit="clip", disable=None):
            kept = folder / str(index)
            counted = kept / f"{video.id}.frames"
            if not counted.is_file():
                segments, decoded = read(data / video.path, encoder, fps, left_out)
                features.write(kept, video.id, extract.of_segments(segments, encoder, crops))
                counted.write_text(str(decoded), encoding="ascii")
            found[name][video.id] = features.read(kept, video.id)
            frames[name][video.id] = int(counted.read_text(encoding="ascii"))
    return found, frames


def judged(
    videos: Sequence[Video], found: dict[str, dict[str, Features]], seeds: Sequence[int], name: str
) -> dict[str, OutOfFold]:
    """By what is left out: the scores that models of whole clips give to clips of scenes they never saw."""
    models: dict[tuple[int, int], Trained] = {}

    def keep(seed: int, fold: int, trained: Trained) -> None:
        models[seed, fold] = trained

    recipe = default.RECIPES[name]
    whole = report.out_of_fold(videos, found[WHOLE], recipe, seeds, keep=keep)
    scored = {WHOLE: whole}
    for left_out in LEFT_OUT:
        if left_out == WHOLE:
            continue
        of_video: dict[tuple[int, str], npt.NDArray[np.float32]] = {}
        for (seed, fold), trained in models.items():
            held_out = [video for video in whole.videos if video.fold == fold]
            given = train.publish(trained, [found[left_out][video.id].features_NCD for video in held_out])["ensemble"]
            of_video |= {(seed, video.id): scores_N for video, scores_N in zip(held_out, given, strict=True)}
        segments = {"ensemble": [[of_video[seed, video.id] for video in whole.videos] for seed in seeds]}
        scored[left_out] = OutOfFold(videos=whole.videos, segments=segments)
    return scored


def differences(
    one: OutOfFold, other: OutOfFold, here: npt.NDArray[np.bool_], seeds: Sequence[tuple[int, int]]
) -> npt.NDArray[np.float64]:
    """How much higher the other's published scores of the same segments are; ``seeds``: pairs, of one and the other."""

    def each() -> Iterator[npt.NDArray[np.float64]]:
        for of_one, of_other in seeds:
            for index in np.flatnonzero(here):
                first, second = one.segments["ensemble"][of_one][index], other.segments["ensemble"][of_other][index]
                both = min(len(first), len(second))
                yield second[:both].astype(np.float64) - first[:both]

    return np.concatenate(list(each()))


def rows(scored: dict[str, OutOfFold], frames: dict[str, dict[str, int]]) -> list[Row]:
    whole = scored[WHOLE]
    seeds = len(whole.segments["ensemble"])
    same = [(seed, seed) for seed in range(seeds)]
    thresholds = default.thresholds(whole)
    made_rows = []
    for source in sorted({video.source for video in whole.videos}):
        here = np.array([video.source == source for video in whole.videos])
        videos = [video for video in whole.videos if video.source == source]
        apart = np.abs(differences(whole, whole, here, [(seed, (seed + 1) % seeds) for seed in range(seeds)]))
        clips = whole.clips()[:, here]
        whole_auc = _by_fold(videos, clips)
        made_rows.append(
            Row(
                name=f"{source}: clip AUC, {WHOLE}",
                value=float(whole_auc.mean()),
                unit="",
                limit=f"± {whole_auc.mean(axis=0).std(ddof=1):.3f} over folds; scores of two seeds lie "
                f"{apart.mean():.3f} apart (95 % below {np.quantile(apart, 0.95):.3f}); "
                f"{_shares(default.operating_point(whole, thresholds)[source])}",
            )
        )
        for name, found in scored.items():
            if name == WHOLE:
                continue
            theirs = found.clips()[:, here]
            gain = _by_fold(videos, theirs) - whole_auc
            interval = evaluate.gain_interval(videos, theirs.mean(axis=0), clips.mean(axis=0))
            higher = differences(whole, found, here, same)
            apart = np.abs(higher)
            raised = default.operating_point(found, thresholds)[source]
            flipped = (clips >= thresholds.raise_at) != (theirs >= thresholds.raise_at)
            left = sum(frames[name][v.id] for v in videos) / sum(frames[WHOLE][v.id] for v in videos)
            made_rows.append(
                Row(
                    name=f"{source}: clip AUC, {name}",
                    value=float(whole_auc.mean() + gain.mean()),
                    unit="",
                    peer=WHOLE,
                    peer_value=float(whole_auc.mean()),
                    limit=f"{gain.mean():+.4f} ± {gain.std(ddof=1):.4f} over folds and seeds, 95 % of scenes "
                    f"[{interval.low:+.3f}, {interval.high:+.3f}]; scores {apart.mean():.3f} apart "
                    f"(95 % below {np.quantile(apart, 0.95):.3f}), shifted by {higher.mean():+.3f}; "
                    f"{_shares(raised)}, {100 * flipped.mean():.1f} % change sides; "
                    f"{100 * left:.0f} % of frames decoded",
                )
            )
    return made_rows


def _shares(raised: dict[str, float]) -> str:
    abnormal, calm = (100 * raised[f"{kind} clips raised"] for kind in ("abnormal", "calm"))
    return f"{abnormal:.1f} % of abnormal and {calm:.1f} % of calm clips raised"


def _by_fold(videos: Sequence[Video], clips_SV: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(seeds, folds) clip AUC."""
    aucs = [evaluate.by_fold(videos, scores_V) for scores_V in clips_SV]
    return np.array([[of_seed[fold] for fold in sorted(of_seed)] for of_seed in aucs])


def main() -> None:
    """``.bench/decode-accuracy.json``, or with ``--keep`` the run that the README's table is printed from."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.decode_accuracy", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder of the data sets")
    parser.add_argument("--sets", default=",".join(default.SETS), help="by comma (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--features", type=Path, default=Path(".bench/decode-accuracy"), help="where they are kept")
    parser.add_argument("--out", type=Path, default=Path(".bench/decode-accuracy.json"))
    parser.add_argument("--keep", action="store_const", dest="out", const=KEPT, help=f"as {KEPT.relative_to(ROOT)}")
    arguments = parser.parse_args()
    name = "effnet_lite0"
    on = machine()
    videos = [v for v in catalogue.local(arguments.data, arguments.sets.split(",")) if v.fold is not None]
    encoder = backbone.create(name)
    found, frames = made(arguments.data, videos, encoder, default.RECIPES[name].fps, arguments.features)
    said = rows(judged(videos, found, range(arguments.seeds), name), frames)
    print(table(said))
    write(said, arguments.out, on)


if __name__ == "__main__":
    main()
