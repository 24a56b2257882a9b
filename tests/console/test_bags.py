"""Alerts that were alike are found by their bags, and say what people thought of them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from monitor.console import bags, history, reading
from monitor.console.history import AlertRow, BagRow, History, ScoreRow
from monitor.flow import AlertKind
from tests.console.support import Served, alert, bag, name_of, plant, served
from tests.console.test_api import API, OURS

NOW = time.time()


def raised(one: Served, alert_id: str, feature_D: list[float], *, camera: str = name_of(0), age_s: float = 0) -> None:
    """A bag, later bags, and then the alert that the first of them raised."""
    at_s = NOW - age_s
    told = alert(alert_id, camera=camera, captured_wall_s=at_s, decided_wall_s=at_s)
    one.do(one.console.scored, [bag(camera, at_s, 0.9, feature_D), bag(camera, at_s + 1, 0.9, [9.0, 9.0, 9.0])])
    one.do(one.console.alerted, [told])
    one.written()


def test_the_most_alike_come_first_with_their_verdicts_and_only_of_the_same_camera(tmp_path: Path) -> None:
    with served(plant(tmp_path, 2)) as one, httpx.Client(base_url=one.address, timeout=10) as web:
        time.sleep(0.6)  # the wall knows the cameras
        one.console.bags.artefact = "default 1"
        raised(one, "near", [0.9, 0.1, 0.0], age_s=300)
        raised(one, "far", [0.0, 0.0, 1.0], age_s=200)
        raised(one, "elsewhere", [1.0, 0.0, 0.0], camera=name_of(1), age_s=100)
        raised(one, "now", [1.0, 0.0, 0.0])
        assert web.post(f"{API}/alerts/near/verdict", json={"verdict": "false"}, headers=OURS).status_code == 200
        found = web.get(f"{API}/alerts/now/similar").json()
        assert [(row["alert_id"], row["likeness"], row["verdict"]) for row in found] == [
            ("near", 0.994, "false"),
            ("far", 0.0, None),
        ]
        assert web.get(f"{API}/alerts/elsewhere/similar").json() == []
        assert web.get(f"{API}/alerts/nothing/similar").json() == []
        one.console.bags.artefact = "default 2"
        raised(one, "anew", [1.0, 0.0, 0.0])
        assert web.get(f"{API}/alerts/anew/similar").json() == [], "another artefact's features mean something else"
        looked = web.get(f"{API}/alerts/now").json()["attention"]
        assert looked == [{"at_s": pytest.approx(NOW, abs=0.01), "weight": 1.0}]


def test_later_messages_keep_the_bag_that_raised_the_alert(tmp_path: Path) -> None:
    with served(plant(tmp_path, 1)) as one, httpx.Client(base_url=one.address, timeout=10) as web:
        time.sleep(0.6)
        raised(one, "a", [1.0, 0.0])
        one.do(one.console.alerted, [alert("a", seq=2, kind=AlertKind.ENDED)])
        raised(one, "b", [0.0, 1.0])
        assert web.get(f"{API}/alerts/b/similar").json()[0]["likeness"] == 0.0


SECOND = """ALTER TABLE scores DROP COLUMN attention; ALTER TABLE minutes DROP COLUMN attention;
ALTER TABLE minutes DROP COLUMN long_term; ALTER TABLE minutes DROP COLUMN short_term; PRAGMA user_version=2;"""


@pytest.mark.parametrize("former", [SECOND, f"{SECOND} DROP TABLE bags; PRAGMA user_version=1;"])
def test_a_history_of_a_former_version_goes_on(tmp_path: Path, former: str) -> None:
    path = tmp_path / "history.sqlite"
    noon_s = 1_767_268_800.0
    with History(path, wall=lambda: noon_s) as kept:
        kept.put([AlertRow(payload=alert("old"))])
        kept.put([ScoreRow(camera="gate", at_s=noon_s, score=0.2, long_term=0.2, short_term=0.2)])
    base = sqlite3.connect(path)
    base.executescript(former)
    base.close()
    with History(path, wall=lambda: noon_s) as kept:
        for after_s in (1.0, 60.0):
            at_s = noon_s + after_s
            kept.put([ScoreRow(camera="gate", at_s=at_s, score=0.4, long_term=0.6, short_term=0.2, attention=2.0)])
        kept.act(lambda _: None).result(10)
        assert kept.fault is None
        for span_s in (600.0, 50_000.0):
            points = reading.scores(path, "gate", noon_s - 1, noon_s + span_s)["points"]
            assert points[-1]["long_term"] == 0.6
            assert points[-1]["attention"] == 2.0
        assert points[0]["mean"] == 0.3
        assert points[0]["long_term"] is None, "not known of the whole minute"
        assert bags.attention(path, "old") == []
        assert bags.similar(path, "old") == []
    assert not list(tmp_path.glob("*.bad"))


def test_two_thousand_alerts_are_compared_while_nobody_notices(tmp_path: Path) -> None:
    path, random = tmp_path / "history.sqlite", np.random.default_rng(1)
    with History(path) as kept:
        for number in range(2500):
            feature = random.standard_normal(1280).astype("<f2").tobytes()
            told = alert(f"a{number}", decided_wall_s=NOW - number, captured_wall_s=NOW - number)
            row = BagRow(alert_id=f"a{number}", camera=name_of(0), artefact="x", feature=feature, attention="[]")
            kept.put([AlertRow(payload=told), row])
        kept.act(lambda _: None).result(60)
        took_s = []
        for _ in range(5):
            began_s = time.perf_counter()
            assert len(bags.similar(path, "a7")) == bags.MOST_SIMILAR
            took_s.append(time.perf_counter() - began_s)
        print(
            f"similar among 2,000 alerts: {min(took_s) * 1000:.0f} ms, {path.stat().st_size / 2500:.0f} bytes an alert"
        )
        assert min(took_s) < 1
        kept._keep_s = 0
        kept.act(kept._retain).result(60)
        with history.connect(path) as base:
            assert base.execute("SELECT count(*) FROM bags").fetchone()[0] == 0, "they go with their alerts"
