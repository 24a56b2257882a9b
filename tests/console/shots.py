"""Pictures of the console, to be looked at: ``python -m tests.console.shots FOLDER`` (make shots).

The console is real, its plant is of our making: rooms of the staged plant, a day of made-up scores, alerts that were
judged, cameras that are raised, lost and shelved. Every page in both themes at a desk's size, a phone's and a wall's,
with 4 and with 200 cameras. ``--keep`` makes the two small ones that the README shows.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

import monitor.console
from monitor.console.history import ScoreRow, StatusRow, add_verdict
from monitor.console.wall import SCORES
from monitor.flow import AlertKind, BagScore, Evidence, SegmentTimes
from monitor.stage.layout import SEEDS
from monitor.stage.scenes import IncidentKind, Scene, Staged, write_clip
from tests.conftest import needs_program
from tests.console.support import Served, alert, bag, camera, name_of, plant, served

KEPT = Path(monitor.console.__file__).parent / "pictures"
DESK, PHONE, WALL = (1280, 800), (390, 844), (3840, 2160)
SCENES = 16
DAY_S = 86_400.0
CLIP_S = 14.0


def scene(number: int, **more: Any) -> Scene:
    return Scene(SEEDS["tests"].start + number % SCENES, width_px=480, height_px=270, **more)


@functools.cache
def room(number: int) -> bytes:
    picture = scene(number).frame(60)
    return bytes(cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def shows(name: str) -> bytes:
    return room((int(name.removeprefix("camera-")) - 1) % SCENES)


def proof(folder: Path) -> Evidence:
    """A clip of people running, and its snapshot."""
    there = folder / "evidence" / name_of(0)
    there.mkdir(parents=True)
    running = (Staged(kind=IncidentKind.CROWD, start_s=0.5, end_s=CLIP_S),)
    made = Scene(SEEDS["tests"].start, width_px=640, height_px=360, incidents=running)
    write_clip(there / "a0.mp4", made, CLIP_S)
    cv2.imwrite(str(there / "a0.jpg"), made.frame(120)[:, :, ::-1])
    links = {what: f"{name_of(0)}/a0.{kind}" for what, kind in (("clip", "mp4"), ("snapshot", "jpg"))}
    return Evidence(**links, clip_sha256="a" * 64, snapshot_sha256="b" * 64)


def level(camera: int, at_s: float) -> float:
    return 0.22 + 0.1 * math.sin(at_s / 700 + camera) + 0.05 * math.sin(at_s / 37 + 2 * camera)


def day(one: Served, folder: Path, now_s: float) -> None:
    """What was in the last day, of the first two cameras, and the alert that is open."""
    chance = random.Random(1)
    begun_s = now_s - DAY_S
    rows: list[Any] = []
    for number in range(2):
        name = name_of(number)
        lost_s = now_s - 5 * 3600 + 1800 * number
        changes = [(begun_s, "ok"), (lost_s, "lost"), (lost_s + 1500, "learning"), (lost_s + 1700, "ok")]
        changes += [(now_s - 7200, "degraded"), (now_s - 5400, "ok")]
        rows += [StatusRow(camera=name, at_s=at_s, status=status, reason="") for at_s, status in changes]
        at_s = begun_s
        while at_s < now_s:
            at_s += 1.07 if at_s > now_s - 3600 else 20.0
            if lost_s <= at_s < lost_s + 1700:
                continue
            since_s = at_s - (now_s - 9)
            value = 0.9 - 0.3 * math.exp(-since_s) if number == 0 and since_s > 0 else level(number, at_s)
            value = min(max(value + chance.gauss(0, 0.015), 0.0), 1.0)
            looked = min(chance.expovariate(1.0) * (2.5 if value > 0.6 else 1), 6.0)
            parts = {"long_term": max(value - 0.08, 0), "short_term": min(value + 0.08, 1)}
            rows.append(ScoreRow(camera=name, at_s=at_s, score=value, attention=looked, **parts))
    kept = one.console.history
    assert kept is not None
    kept.put(rows)
    told = []
    for number in range(1, 15):
        raised_s = now_s - number * DAY_S / 15 - 300
        facts = {"camera": name_of((number * 5) % min(4, len(one.cameras))), "peak_score": 0.65 + 0.02 * number}
        times = {"onset_wall_s": raised_s - 4, "captured_wall_s": raised_s - 1, "decided_wall_s": raised_s}
        ended = {"kind": AlertKind.ENDED, "seq": 2, "reason": "score below clear threshold"}
        told += [alert(f"b{number}", **facts, **times)]
        told += [alert(f"b{number}", **facts, **ended, **(times | {"decided_wall_s": raised_s + 20 + 7 * number}))]
    one.do(one.console.alerted, told)
    words = [
        ("real", "vehicle", "too near"),
        ("false", "normal_work", ""),
        ("false", "light_weather", "sun"),
        ("unsure", None, ""),
    ]
    for number in range(2, 13):
        said, category, note = words[number % len(words)]
        at_s = now_s - number * DAY_S / 15 - 300 + 20 + 5 * number
        judged = add_verdict(f"b{number}", at_s=at_s, verdict=said, category=category, note=note, who="sato")
        kept.act(judged).result(20)
    whole = tuple(
        SegmentTimes(number=n, start_s=0.0, end_s=1.0, captured_s=0.0, captured_wall_s=now_s - 1 - 1.07 * (31 - n))
        for n in range(32)
    )
    weights = np.array([0.01 + 0.5 * max(n - 21, 0) for n in range(32)], np.float32)
    scores = np.full(32, 0.3, np.float32)
    of_bag = BagScore(
        camera=name_of(0),
        times=whole,
        scores_N=scores,
        long_term_N=scores,
        short_term_N=scores,
        attention_N=weights / weights.sum(),
        bridged=0,
        published=(),
        scored_s=0.0,
        feature_D=np.ones(8, np.float16),
    )
    one.do(one.console.scored, [of_bag])
    times = {"onset_wall_s": now_s - 8, "captured_wall_s": now_s - 1, "decided_wall_s": now_s}
    open_now = alert("a0", evidence=proof(folder), peak_score=0.9, score=0.88, labels={"hall": "1"}, **times)
    one.do(one.console.alerted, [open_now])
    one.written()


def beat(one: Served, at_s: float | None = None) -> None:
    at_s = at_s or time.time()
    watched = [(n, c) for n, c in enumerate(one.cameras) if c.status != "lost"]
    one.console.scored(
        [bag(c.name, at_s, 0.88 if at_s > (c.onset_s or math.inf) else level(n, at_s)) for n, c in watched]
    )


def trouble(one: Served, count: int, now_s: float) -> None:
    one.cameras[0] = camera(0, raised=True, alert_id="a0", onset_s=now_s - 8, peak_score=0.9)
    one.cameras[2] = camera(2, status="lost", reason="no frame for 10 s; reconnecting in 4 s")
    if count > 4:
        one.cameras[5] = camera(5, status="degraded", reason="picture frozen for 12 s")
        one.cameras[6] = camera(6, mode="observe", would_raise=True)


def take(page: Page, address: str, places: dict[str, str], save: Callable[[str], str]) -> None:
    for name, place in places.items():
        page.goto(f"{address}/console/#/{place}")
        page.wait_for_timeout(2500)
        page.screenshot(path=save(name))


def every(browser: Browser, folder: Path, address: str, count: int) -> None:
    places = {"wall": "wall"}
    if count == 4:
        places |= {"alert": "alert/a0", "camera": "camera/camera-1", "alerts": "alerts", "shift": "shift"}
    for theme in ("light", "dark"):
        for size, (width, height) in {"desk": DESK, "phone": PHONE, "wall": WALL}.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=theme,
                locale="ja-JP" if theme == "dark" and size == "phone" else "en-GB",
            )
            page = context.new_page()
            take(
                page,
                address,
                places,
                lambda name, size=size, theme=theme: f"{folder}/{count}-{name}-{size}-{theme}.png",
            )
            if count == 4 and size == "desk":
                page.keyboard.press("Escape")
                page.goto(f"{address}/console/#/camera/camera-1")
                page.keyboard.press("4")
                page.wait_for_timeout(1500)
                page.screenshot(path=f"{folder}/{count}-camera-day-{theme}.png")
            context.close()


def small(browser: Browser, address: str) -> None:
    for name, place, theme in (("wall", "wall", "light"), ("alert", "alert/a0", "dark")):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=theme, locale="en-GB")
        page = context.new_page()
        page.goto(f"{address}/console/#/{place}")
        page.wait_for_timeout(5500)
        shown = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        shrunk = cv2.resize(shown, (960, 600), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(KEPT / f"{name}.jpg"), shrunk, [cv2.IMWRITE_JPEG_QUALITY, 82])
        context.close()


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m tests.console.shots", description=__doc__)
    ask.add_argument("folder", type=Path, nargs="?", default=Path(".bench/shots"))
    ask.add_argument("--keep", action="store_true", help="make the two small pictures of the README instead")
    said = ask.parse_args()
    said.folder.mkdir(parents=True, exist_ok=True)
    for number in range(SCENES):
        room(number)  # painting one takes longer than a page waits
    with sync_playwright() as drivers:
        browser = drivers.chromium.launch(executable_path=needs_program("chromium", "chromium"), args=["--no-sandbox"])
        for count in (12,) if said.keep else (4, 200):
            with tempfile.TemporaryDirectory() as name, served(plant(Path(name), count), shows) as one:
                now_s = time.time()
                day(one, Path(name), now_s)
                trouble(one, count, now_s)
                time.sleep(1)
                for back in range(SCORES, 0, -1):  # the tiles' lines are full, as on any other day
                    one.do(beat, one, now_s - back)
                one.beating = beat
                if said.keep:
                    small(browser, one.address)
                else:
                    every(browser, said.folder, one.address, count)
        browser.close()


if __name__ == "__main__":
    main()
