"""Minutes of watching while faults of a plan happen: samples, alerts, and what became of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from monitor.alerting.contract import seconds as wall_of
from tests.e2e.running import eventually
from tests.faults.rig import account_of
from tests.soak.harm import FPS, SIZE_PX, Soaked, fault, soaked
from tests.soak.plan import LASTS_S, Fault, is_calm, planned
from tests.soak.sample import counted, family, held
from tests.soak.verdict import compared, problems

SAMPLE_EVERY_S = 5.0
START_S = 180.0
"""For all alarms to be raised, on a machine that others load too."""
SETTLE_S = 120.0


class Harm:
    """Does the plan's faults in a thread of its own, and keeps when each really began and ended."""

    def __init__(self, soak: Soaked, plan: list[Fault], began_s: float) -> None:
        self.done: list[Fault] = []
        self.error: BaseException | None = None
        self._soak, self._plan, self._began_s = soak, plan, began_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="harm")

    def __enter__(self) -> Harm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for one in self._plan:
                if self._ended.wait(max(0.0, self._began_s + one.at_s - time.monotonic())):
                    return
                at_s = time.monotonic() - self._began_s
                with fault(self._soak, one):
                    self._ended.wait(one.lasts_s)
                lasted_s = time.monotonic() - self._began_s - at_s
                self.done.append(Fault(kind=one.kind, at_s=at_s, lasts_s=lasted_s, which=one.which))
        except BaseException as error:
            self.error = error


def soak(cameras: int, minutes: float, seed: int, out: Path) -> dict[str, Any]:
    """The result, also written to ``out`` (and drawn beside it) where it fails."""
    with tempfile.TemporaryDirectory(prefix="vad-soak-") as name, soaked(Path(name), cameras) as plant:
        kinds = [kind for kind in LASTS_S if plant.evidence is not None or kind != "evidence disk full"]
        plan = planned(seed, minutes * 60, kinds)
        names = [camera["name"] for camera in plant.plant["cameras"]]
        for one in names:
            plant.monitor.said(f"camera '{one}': alarm raised", START_S)
        began_s, began_wall_s = time.monotonic(), time.time()
        with Harm(plant, plan, began_s) as harm:
            samples = watched(plant, harm, began_s, minutes * 60)
        with contextlib.suppress(AssertionError):  # who is not well is named below
            eventually(lambda: not not_well(plant, names), SETTLE_S, "all cameras are watched")
            eventually(lambda: (plant.monitor.metric("vad_outbox_messages") or 0) <= 1, SETTLE_S, "an empty outbox")
        missing = not_well(plant, names)
        members = family(plant.monitor.process.pid)
        code = plant.monitor.end(seconds=60)
        left = [pid for pid in members if Path(f"/proc/{pid}").exists()]
        with contextlib.suppress(AssertionError):
            eventually(lambda: not account(plant).problems, 20, "every alert's end")
        settled = account(plant)
        lags = [
            (at_s, lag_s, is_calm(at_s, harm.done))
            for at_s, lag_s in lags_of(plant, began_wall_s)
            if 0 <= at_s <= minutes * 60
        ]
        log = plant.monitor.log
    result = {
        "cameras": cameras,
        "picture": f"{SIZE_PX[0]}x{SIZE_PX[1]} at {FPS} fps, H.264, all frames analysed",
        "minutes": minutes,
        "seed": seed,
        "exit_code": code,
        "not_well": missing,
        "left_behind": left,
        "faults_by_kind": {kind: sum(one.kind == kind for one in harm.done) for kind in kinds},
        "not_tried": sorted(set(LASTS_S) - set(kinds)),
        "alerts": {
            "due": settled.due,
            "delivered": settled.delivered,
            "duplicated": settled.duplicated,
            "problems": settled.problems,
        },
        "lag_s": {
            which: quantiles([lag for _, lag, calm in lags if calm is (which == "calm")])
            for which in ("calm", "faults")
        },
        "counters": {
            key: samples[-1][key]
            for key in samples[-1]
            if key.startswith(("segments", "dropped", "invalid")) or key.endswith("_total")
        },
        "cores": cores(samples),
        "load": os.getloadavg()[1],
        "compared": compared(samples, [(at_s, lag_s) for at_s, lag_s, calm in lags if calm]),
        "tracebacks": log.count("Traceback"),
    }
    result |= {
        "faults": [{"kind": one.kind, "at_s": one.at_s, "over_s": one.over_s} for one in harm.done],
        "samples": samples,
        "lags": lags,
    }
    result = {"problems": problems(result)} | result
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result) + "\n", encoding="utf-8")
    out.with_suffix(".log").write_text(log, encoding="utf-8")
    if harm.error is not None:
        raise harm.error
    return result


def watched(plant: Soaked, harm: Harm, began_s: float, seconds: float) -> list[dict[str, float]]:
    """A sample every few seconds. A monitor that ends, or a fault that could not be done, ends the soak."""
    samples: list[dict[str, float]] = []
    while (at_s := time.monotonic() - began_s) < seconds and harm.error is None:
        assert plant.monitor.process.poll() is None, f"the monitor ended:\n{plant.monitor.log[-3000:]}"
        scrape = plant.monitor.get("/metrics")[1]
        heard = sum(topic.endswith("/alert") for topic, _, _ in list(plant.heard.seen))
        samples.append({"at_s": at_s, "alerts_heard": heard} | counted(scrape) | held(plant.monitor.process.pid))
        time.sleep(max(0.0, SAMPLE_EVERY_S - (time.monotonic() - began_s - at_s)))
    return samples


def not_well(plant: Soaked, names: list[str]) -> list[str]:
    """Cameras that are not scored now. Degraded is scored: it may have lost segments in the last minutes."""
    told = dict.fromkeys(names, "")
    for topic, _, text in list(plant.heard.seen):
        if topic.endswith("/status") and text and (said := json.loads(text)).get("camera") in told:
            told[said["camera"]] = said["status"]
    return [name for name, status in told.items() if status not in ("ok", "degraded")]


def account(plant: Soaked) -> Any:
    return account_of([payload for _, payload in alerts(plant)], whole=True)


def alerts(plant: Soaked) -> list[tuple[float, dict[str, Any]]]:
    """(wall time at the subscriber, payload)."""
    return [
        (float(topic.split(" ")[0]), json.loads(text))
        for topic, _, text in list(plant.heard.seen)
        if topic.endswith("/alert") and text
    ]


def lags_of(plant: Soaked, began_wall_s: float) -> list[tuple[float, float]]:
    """(second of the soak, from the picture to the subscriber in s) of what the scores caused."""
    return [
        (at - began_wall_s, at - wall_of(payload["captured_at"]))
        for at, payload in alerts(plant)
        if payload["kind"] == "updated" and payload["reason"] != "evidence ready"
    ]


def cores(samples: list[dict[str, float]]) -> float:
    """A reader that ends takes its seconds out of the sum: such steps are left out."""
    used_s = sum(max(0.0, b["cpu_s"] - a["cpu_s"]) for a, b in itertools.pairwise(samples))
    return used_s / (samples[-1]["at_s"] - samples[0]["at_s"])


def quantiles(values: list[float]) -> dict[str, float] | None:
    ordered = sorted(values)
    return {f"p{q}": ordered[int(q / 100 * (len(ordered) - 1))] for q in (50, 95, 99)} if ordered else None
