"""What the operators' page costs with 200 cameras: ``python -m tests.bench.console``, into .bench/console.json.

A console of a plant of our making is served by a process of its own, every camera with a new score twice a second, and
opened in a headless Chromium again and again, each time with nothing cached. Times are the browser's own, from the
beginning of the navigation: to the first tile and to all tiles, each when it was painted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import needs_program
from tests.console.support import plant, served, waving

WATCHED_S = 10
SEEN = """(() => {
  const painted = (name) => requestAnimationFrame(() => setTimeout(() => (window.bench[name] = performance.now()), 0));
  window.bench = { long: [] };
  new PerformanceObserver((list) => list.getEntries().forEach((e) => window.bench.long.push([e.startTime, e.duration])))
    .observe({ type: "longtask", buffered: true });
  let first = false;
  const watch = new MutationObserver(() => {
    const count = document.getElementsByClassName("tile").length;
    if (count && !first) { first = true; painted("first"); }
    if (count >= %d) { watch.disconnect(); painted("all"); }
  });
  watch.observe(document, { childList: true, subtree: true });
})()"""
WEIGHT = """performance.getEntriesByType("resource").filter((e) => !/picture|live/.test(e.name))
  .reduce((sum, e) => sum + e.transferSize, performance.getEntriesByType("navigation")[0].transferSize)"""


def serve(pipe: Connection, folder: str, cameras: int, picture: bytes) -> None:
    """A process: until the pipe closes."""
    with served(plant(Path(folder), cameras), picture) as one:
        one.beating = waving
        time.sleep(45)  # the tiles' lines are full, as on any other day
        pipe.send(one.address)
        try:
            pipe.recv()
        except EOFError:
            return


def picture() -> bytes:
    """A JPEG of the size that readers make."""
    import cv2
    import numpy as np

    noise = cv2.resize(np.random.default_rng(0).integers(0, 255, (34, 60, 3), np.uint8), (480, 270))
    return bytes(cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def view(browser: Browser, address: str, cameras: int) -> dict[str, float]:
    """One opening of the wall, milliseconds and bytes."""
    context = browser.new_context(viewport={"width": 1920, "height": 1080})
    page = context.new_page()
    page.add_init_script(SEEN % cameras)
    page.goto(f"{address}/console/")
    page.wait_for_function("() => window.bench.all !== undefined", timeout=30_000)
    bench = page.evaluate("window.bench")
    weight = page.evaluate(WEIGHT)
    page.wait_for_timeout(WATCHED_S * 1000)
    later = [took for began, took in page.evaluate("window.bench.long") if began > bench["all"]]
    context.close()
    return {
        "first_tile_ms": bench["first"],
        "all_tiles_ms": bench["all"],
        "bytes_before_pictures": weight,
        "longest_task_after_ms": max(later, default=0.0),
        "long_tasks_after": len(later),
    }


def events(address: str) -> tuple[int, float]:
    """As one viewer is sent them: bytes of the first event (the whole wall), bytes a second of those after it."""
    with httpx.stream("GET", f"{address}/console/api/v1/live", timeout=20) as answer:
        began_s: float | None = None
        first = count = 0
        for chunk in answer.iter_raw():
            if began_s is None:
                if b"event: change" in chunk:
                    began_s = time.monotonic()
                else:
                    first += len(chunk)
                continue
            count += len(chunk)
            if time.monotonic() - began_s > WATCHED_S:
                return first, count / (time.monotonic() - began_s)
    raise RuntimeError("the console ended")


def measure(cameras: int, times: int) -> dict[str, Any]:
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as drivers:
        server = spawn.Process(target=serve, args=(theirs, folder, cameras, picture()))
        server.start()
        theirs.close()
        try:
            address = ours.recv()
            browser = drivers.chromium.launch(
                executable_path=needs_program("chromium", "chromium"), args=["--no-sandbox"]
            )
            views = [view(browser, address, cameras) for _ in range(times)]
            browser.close()
            first, sent = events(address)
        finally:
            ours.close()
            server.join(20)
    middle = {key: round(statistics.median(one[key] for one in views)) for key in views[0]}
    worst = {key: round(max(one[key] for one in views)) for key in views[0]}
    return {
        "cameras": cameras,
        "views": times,
        "median": middle,
        "worst": worst,
        "first_event_bytes": first,
        "event_bytes_a_second": round(sent),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--cameras", type=int, default=200)
    ask.add_argument("--times", type=int, default=7)
    said = ask.parse_args()
    told = json.dumps(measure(said.cameras, said.times), indent=1)
    Path(".bench").mkdir(exist_ok=True)
    Path(".bench/console.json").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
