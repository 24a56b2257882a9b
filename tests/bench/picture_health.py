"""How often a good picture is called bad, and how often and how soon a bad one is, on real recordings.

    python -m tests.bench.picture_health ../data [--half choice|report|all] [--most 60]

``data`` holds clips.csv files with the columns path and scene (one camera each). Scenes are split in two by their
names' hash: thresholds are chosen on ``choice`` and reported on ``report``. A clip is a few seconds long, so each is
played to and fro (an honest minute of one camera at 15 frames a second, two looks a segment as in cutter.py), learnt
in its first part, and harmed in the second. False alarms are counted in what is not harmed, and over long recordings
and the joined clips of cameras that did not move (``STEADY``: other scenes hold several views of one place). Faults
are applied to the decoded picture, with noise of the sensor after it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from monitor.flow import UNFIT_PICTURES
from monitor.ingest.figures import figures_of
from monitor.ingest.sight import KINDS, LEARN_LOOKS, Sight
from tests.monitor.ingest.rooms import blurred, covered, lit, moved

Grey = npt.NDArray[np.uint8]
SETS = ("industrial", "fights", "shoplifting", "falls", "ped2")
STEADY = ("ped2", *(f"shoplifting-bg{number}" for number in (1, 4, 6, 12, 21, 22)))
LONG = ("pets2001_calm_light_changes.mp4", "vtest.mp4", "one-by-one-person-detection.mp4")
SIDE_PX = 224
LOOK_S = (16 / 15) / 2
"""Two looks a segment of 16 frames at 15 a second."""
AFTER_S = {"black": 10.0, "covered": 10.0, "blurred": 60.0, "moved": 30.0}
"""The defaults of config/plant.py."""
LEARN, HARMED = LEARN_LOOKS + 20, 160
CHANCE = np.random.default_rng(11)


def noisy(picture: Grey, sd: float = 2.0) -> Grey:
    return np.clip(picture + CHANCE.normal(0, sd, picture.shape), 0, 255).astype(np.uint8)


def turned(picture: Grey, degrees: float) -> Grey:
    height_px, width_px = picture.shape
    turn = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), degrees, 1.1)
    return np.asarray(cv2.warpAffine(picture, turn, (width_px, height_px), borderMode=cv2.BORDER_REFLECT), np.uint8)


def _blur(share: float) -> Callable[[Grey], Grey]:
    return lambda one: noisy(blurred(one, share * one.shape[0]))


def _shift(share: float) -> Callable[[Grey], Grey]:
    return lambda one: noisy(moved(one, round(share * one.shape[1]), round(share * one.shape[0] / 2)))


FAULTS: dict[str, tuple[str, Callable[[Grey], Grey]]] = {
    "defocus, sigma 0.5 % of the height": ("blurred", _blur(0.005)),
    "defocus, sigma 1 %": ("blurred", _blur(0.01)),
    "defocus, sigma 2 %": ("blurred", _blur(0.02)),
    "hand or bag, 70 % of the picture": ("covered", lambda one: noisy(covered(one, 1, 0.7))),
    "hand or bag, 85 %": ("covered", lambda one: noisy(covered(one, 1, 0.85))),
    "hand or bag, all": ("covered", lambda one: noisy(covered(one, 1))),
    "white paint, all": ("covered", lambda one: noisy(covered(one, 2, 1.0, 205.0))),
    "moved by 3 % of the width": ("moved", _shift(0.03)),
    "moved by 5 %": ("moved", _shift(0.05)),
    "moved by 10 %": ("moved", _shift(0.1)),
    "moved by 30 %": ("moved", _shift(0.3)),
    "turned by 3 degrees": ("moved", lambda one: noisy(turned(one, 3))),
    "turned by 8 degrees": ("moved", lambda one: noisy(turned(one, 8))),
    "black, noise": ("black", lambda one: noisy(lit(one, 0.02), 3.0)),
}
CONFUSERS: dict[str, Callable[[Grey], Grey]] = {
    "half the light": lambda one: noisy(lit(one, 0.5)),
    "a quarter of the light, noise sd 4": lambda one: noisy(lit(one, 0.25), 4.0),
    "lights on, 1.6 times": lambda one: noisy(lit(one, 1.6)),
    "lens shakes by 0.5 %": lambda one: noisy(moved(one, round(one.shape[1] * 0.005), 0)),
}


@dataclass
class Tally:
    looks: int = 0
    tried: int = 0
    found: int = 0
    delays_s: list[float] = field(default_factory=list)
    unfit: int = 0
    said: Counter[str] = field(default_factory=Counter)
    """What lasted, and was not what was done."""


def scenes(data: Path, half: str) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for name in SETS:
        with (data / name / "clips.csv").open(encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                scene = row.get("scene") or name
                mine = "choice" if hashlib.sha256(scene.encode()).digest()[0] % 2 else "report"
                if half in (mine, "all"):
                    found[scene].append(data / row["path"])
    return found


def frames(path: Path, step: int = 8) -> list[Grey]:
    """Every ``step``-th decoded frame's brightness: one look's distance at 15 frames a second."""
    with av.open(str(path)) as opened:
        opened.streams.video[0].codec_context.thread_count = 1
        shown = enumerate(opened.decode(video=0))
        return [np.asarray(one.to_ndarray(format="gray"), np.uint8) for at, one in shown if at % step == 0]


def to_and_fro(pictures: list[Grey]) -> Iterator[Grey]:
    while True:
        yield from pictures
        yield from pictures[-2:0:-1]


class Camera:
    """Its pictures go to a ``Sight`` one look's time apart."""

    def __init__(self) -> None:
        self.sight, self.now_s, self.spent_s = Sight(AFTER_S), 0.0, 0.0

    def see(self, luma: Grey) -> frozenset[str]:
        small = np.asarray(cv2.resize(luma, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
        picture = np.repeat(small[:, :, None], 3, axis=2)
        self.now_s += LOOK_S
        began_s = time.process_time()
        look = self.sight.look(figures_of(picture), self.now_s)
        self.spent_s += time.process_time() - began_s
        return look.shows


def harm(tally: Tally, camera: Camera, kind: str | None, pictures: Iterator[Grey]) -> None:
    """``kind`` None: nothing bad is shown, and nothing may be said."""
    began_s, found_s = camera.now_s, None
    said: set[str] = set()
    for _ in range(HARMED):
        shows = camera.see(next(pictures))
        tally.looks += 1
        tally.unfit += bool(shows & UNFIT_PICTURES)
        said |= set(camera.sight.faults)
        if kind in camera.sight.faults and found_s is None:
            found_s = camera.now_s - began_s
    tally.tried += 1
    tally.said.update(said - {kind})
    if found_s is not None:
        tally.found += 1
        tally.delays_s.append(found_s)


def learnt(pictures: list[Grey]) -> tuple[Camera, Iterator[Grey]]:
    camera, shown = Camera(), to_and_fro(pictures)
    for _ in range(LEARN):
        camera.see(next(shown))
    return camera, shown


def joined(paths: list[Path]) -> Tally:
    """All clips of one camera behind each other, unharmed."""
    tally, camera, before = Tally(), Camera(), frozenset[str]()
    for path in paths:
        for picture in frames(path):
            shows = camera.see(picture)
            tally.looks += 1
            tally.unfit += bool(shows & UNFIT_PICTURES)
            now = frozenset(camera.sight.faults)
            tally.said.update(now - before)
            before = now
    return tally


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--half", choices=("choice", "report", "all"), default="report")
    arguments.add_argument("--most", type=int, default=60, help="scenes of which one clip each is harmed")
    given = arguments.parse_args()
    if not given.data.is_dir():
        raise SystemExit(f"{given.data}: there are no recordings here; nothing was measured")
    found = scenes(given.data, given.half)
    whole = Tally()
    steady = {name: paths for name, paths in scenes(given.data, "all").items() if name in STEADY}
    steady |= {name: [given.data / "streams" / name] for name in LONG}
    for name, paths in sorted(steady.items()):
        one = joined(paths)
        print(f"  {name}: {one.looks} looks, {dict(one.said) or 'nothing said'}, {one.unfit} kept from scoring")
        whole.looks, whole.unfit = whole.looks + one.looks, whole.unfit + one.unfit
        whole.said.update(one.said)
    hours = whole.looks * LOOK_S / 3600
    print(f"{len(steady)} cameras that did not move, unharmed: {hours:.2f} h, {whole.looks} looks")
    for kind in KINDS:
        print(f"  {kind}: {whole.said[kind]} false alarms, {whole.said[kind] / hours:.2f} an hour")
    print(f"  kept from scoring: {100 * whole.unfit / max(whole.looks, 1):.2f} % of the looks")
    rows: dict[str, tuple[str | None, Tally]] = {name: (kind, Tally()) for name, (kind, _) in FAULTS.items()}
    rows |= {name: (None, Tally()) for name in ("nothing", *CONFUSERS)}
    spent_s, looks = 0.0, 0
    for _, paths in sorted(found.items())[: given.most]:
        pictures = next((some for path in paths[:3] if len(some := frames(path)) >= 6), None)
        if pictures is None:
            continue
        for name, (kind, tally) in rows.items():
            camera, _ = learnt(pictures)
            change = FAULTS[name][1] if name in FAULTS else CONFUSERS.get(name, lambda one: one)
            shown = to_and_fro([change(one) for one in pictures])
            harm(tally, camera, kind, shown)
            spent_s, looks = spent_s + camera.spent_s, looks + LEARN + HARMED
    for name, (kind, tally) in rows.items():
        delay = f"{np.median(tally.delays_s):5.1f} s" if tally.delays_s else "      -"
        other = ", ".join(f"{word} {count}" for word, count in tally.said.most_common()) or "nothing"
        share = f"{100 * tally.found / max(tally.tried, 1):3.0f} %" if kind else "    -"
        unfit = 100 * tally.unfit / max(tally.looks, 1)
        print(f"| {name} | {kind or 'nothing'} | {tally.tried} | {share} | {delay} | {unfit:.0f} % | {other} |")
    print(f"{1e6 * spent_s / max(looks, 1):.0f} microseconds a look (the process's own time)")


if __name__ == "__main__":
    main()
