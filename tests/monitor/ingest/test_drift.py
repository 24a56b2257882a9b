"""How a camera's time stamps run against the monitor's clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ingest.drift import Drift


def watched(
    seconds: float, stamp: Callable[[float], float], late: Callable[[float], float] = lambda _: 0.0, fps: float = 15.0
) -> Drift:
    """Frames that were taken at ``t``, are stamped ``stamp(t)``, and come ``late(t)`` later."""
    drift = Drift()
    captured_s = 0.0
    for index in range(int(seconds * fps)):
        at_s = index / fps
        captured_s = max(at_s + late(at_s), captured_s)
        drift.see(stamp(at_s), 1000.0 + captured_s)
    return drift


@pytest.mark.parametrize("ppm", [-20_000.0, -5_000.0, -300.0, 0.0, 300.0, 5_000.0, 20_000.0])
def test_a_clock_that_runs_wrong_is_measured_within_a_tenth_in_two_minutes(ppm: float) -> None:
    jitter = np.random.default_rng(1)
    drift = watched(120, lambda t: t * (1 + ppm / 1e6), lambda _: 0.05 + jitter.exponential(0.02))
    assert drift.ppm == pytest.approx(ppm, rel=0.1, abs=60)


@settings(max_examples=25, deadline=None)
@given(ppm=st.floats(-30_000, 30_000), seed=st.integers(0, 99), fps=st.sampled_from([5.0, 12.5, 25.0]))
def test_any_drift_is_found_under_any_jitter(ppm: float, seed: int, fps: float) -> None:
    jitter = np.random.default_rng(seed)
    drift = watched(120, lambda t: t * (1 + ppm / 1e6), lambda _: jitter.exponential(0.03), fps)
    assert drift.ppm == pytest.approx(ppm, rel=0.15, abs=200)


def test_nothing_is_said_in_the_first_minute_or_without_stamps() -> None:
    assert watched(50, lambda t: t * 1.01).ppm is None
    drift = Drift()
    for second in range(600):
        drift.see(None, float(second))
    assert (drift.ppm, drift.lag_s) == (None, None)


def test_a_stream_that_falls_behind_has_a_lag_that_grows() -> None:
    drift = watched(100, lambda t: t, lambda t: 0.1 * t)
    assert drift.lag_s == pytest.approx(9.5, abs=1.0)
    assert drift.ppm == pytest.approx(-1e6 * (1 - 1 / 1.1), rel=0.1)


def test_a_stall_that_is_made_up_for_leaves_no_lag() -> None:
    """The network held everything up for eight seconds; then it all came at once."""
    drift = watched(200, lambda t: t, lambda t: max(58.0 - t, 0.0) if t > 50 else 0.0)
    assert drift.lag_s == pytest.approx(0.0, abs=0.01)
    assert drift.ppm == pytest.approx(0.0, abs=50)


@pytest.mark.parametrize("step_s", [86_400.0, 3.0, -3.0, -86_400.0])
def test_a_camera_whose_clock_is_set_is_measured_anew(step_s: float) -> None:
    drift = watched(200, lambda t: t + (step_s if t > 100 else 0.0))
    assert drift.lag_s == pytest.approx(0.0, abs=0.01)
    assert drift.ppm == pytest.approx(0.0, abs=1)


def test_frames_out_of_order_are_no_new_clock() -> None:
    drift = watched(90, lambda t: t + (0.2 if round(t * 15) % 3 == 0 else 0.0))
    assert drift.ppm == pytest.approx(0.0, abs=60)
