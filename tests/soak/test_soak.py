"""A short soak; the long ones are `make soak MINUTES=60`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.monitor.ingest.conftest import needs_rtsp  # noqa: F401 - a fixture
from tests.soak.picture import draw
from tests.soak.plan import CALM_S, LASTS_S, planned
from tests.soak.run import soak
from tests.soak.verdict import compared, problems


def test_a_plan_is_its_seed_has_every_kind_and_leaves_the_end_calm() -> None:
    plan = planned(1, 3600, list(LASTS_S))
    assert plan == planned(1, 3600, list(LASTS_S))
    assert plan != planned(2, 3600, list(LASTS_S))
    assert {fault.kind for fault in plan[: len(LASTS_S)]} == set(LASTS_S)
    assert all(after.at_s > before.over_s for before, after in itertools.pairwise(plan))
    assert plan[-1].over_s <= 3600 - CALM_S


def sample(at_s: float, memory_mb: float = 500.0) -> dict[str, float]:
    kinds = ("anonymous_mb", "rss_mb", "descriptors", "threads")
    held = {f"{of}_{kind}": memory_mb for of in ("monitor", "readers") for kind in kinds}
    return held | {"at_s": at_s, "processes": 5, "zombies": 0, "segments_total": at_s}


def test_a_soak_that_grows_loses_alerts_or_leaves_a_camera_behind_is_failed() -> None:
    good = {
        "compared": compared([sample(at_s) for at_s in range(0, 600, 5)], [(at_s, 1.0) for at_s in range(600)]),
        "samples": [sample(0)],
        "alerts": {"due": 7, "delivered": 7, "duplicated": 0, "problems": []},
        "not_well": [],
        "exit_code": 0,
        "left_behind": [],
    }
    assert problems(good) == []
    growing = compared([sample(at_s, 500 + at_s) for at_s in range(0, 600, 5)], [])
    said = problems(good | {"compared": growing})
    assert any(sentence.startswith("monitor_anonymous_mb went from") for sentence in said)
    later = compared([sample(at_s) for at_s in range(0, 600, 5)], [(at_s, 1 + at_s / 60) for at_s in range(600)])
    assert any(sentence.startswith("lag_p95_s") for sentence in problems(good | {"compared": later}))
    lost = good["alerts"] | {"delivered": 6}  # type: ignore[operator]
    assert problems(good | {"alerts": lost}) == ["of 7 alert messages due 6 were delivered"]
    assert problems(good | {"not_well": ["gate"]}) == ["in the end not watched: gate"]
    assert problems(good | {"left_behind": [77]}) == ["processes left behind: [77]"]


def _soaked(minutes: float, cameras: int, folder: Path) -> None:
    result = soak(cameras, minutes, 1, folder / "soak.json")
    draw(folder / "soak.png", result)
    assert (folder / "soak.png").stat().st_size > 10_000
    # How late and how many: in minutes the machine's other work (another worker of the tests) decides that.
    own = [one for one in result["problems"] if not one.startswith(("lag_p95_s", "dropped_share"))]
    assert own == [], json.dumps(result["compared"], indent=1)
    assert result["faults"]
    assert result["alerts"]["due"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_minutes_with_faults_end_as_they_began(tmp_path: Path, needs_rtsp: None) -> None:  # noqa: F811
    _soaked(3, 8, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_ten_minutes_with_faults_end_as_they_began(tmp_path: Path, needs_rtsp: None) -> None:  # noqa: F811
    _soaked(10, 16, tmp_path)
