"""Staged scenes: pure by seed, calm without incidents, restless with them, cheap, and written as real video."""

from __future__ import annotations

import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from monitor.stage.scenes import IncidentKind, Scene, Staged, write_clip

SEED = 3_000_000


def staged(kind: IncidentKind, start_s: float = 8.0, end_s: float = 18.0) -> Staged:
    return Staged(kind=kind, start_s=start_s, end_s=end_s)


def small_scene(seed: int, *incidents: Staged, night: bool | None = None, people: int | None = None) -> Scene:
    return Scene(seed, width_px=320, height_px=180, incidents=incidents, night=night, people=people)


def motion(scene: Scene, seconds: range) -> list[float]:
    """Mean absolute difference of frames 4/15 s apart, for each second, as a segment is sampled."""
    energies = []
    for second in seconds:
        frames = [
            cv2.resize(scene.frame(second * 15 + k), (112, 112), interpolation=cv2.INTER_AREA).astype(np.float32)
            for k in (0, 4, 8, 12)
        ]
        energies.append(float(np.mean([np.abs(a - b).mean() for a, b in zip(frames[1:], frames[:-1], strict=True)])))
    return energies


def test_a_frame_is_a_picture_of_the_size_asked_for() -> None:
    frame = Scene(SEED, width_px=320, height_px=240).frame(7)
    assert frame.shape == (240, 320, 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("kind", IncidentKind)
def test_the_same_seed_gives_the_same_frames_whichever_are_asked_for(kind: IncidentKind) -> None:
    one, two = (small_scene(SEED + 1, staged(kind, 2, 12)) for _ in range(2))
    for number in range(0, 90, 9):
        one.frame(number)
    np.testing.assert_array_equal(one.frame(90), two.frame(90))


def test_another_seed_gives_another_scene() -> None:
    difference = small_scene(SEED + 2).frame(0).astype(int) - small_scene(SEED + 3).frame(0).astype(int)
    assert np.abs(difference).mean() > 8


def test_frames_are_their_callers_own() -> None:
    scene = small_scene(SEED + 2)
    before = scene.frame(3).copy()
    scene.frame(3)[:] = 0
    np.testing.assert_array_equal(scene.frame(3), before)


def test_a_scene_without_incidents_is_calm_for_ever() -> None:
    scene = small_scene(SEED + 4, people=4)
    assert scene.incidents == ()
    assert max(motion(scene, range(0, 3600, 200))) < 8


@pytest.mark.parametrize("kind", IncidentKind)
@pytest.mark.parametrize("night", [False, True])
def test_an_incident_moves_more_than_the_calm_before_and_after_it(kind: IncidentKind, night: bool) -> None:
    scene = small_scene(SEED + 5, staged(kind), night=night, people=2)
    calm = motion(scene, range(1, 7)) + motion(scene, range(24, 30))
    restless = motion(scene, range(9, 17))
    above = np.mean([[hot > cool for hot in restless] for cool in calm])
    assert above > 0.8
    assert np.median(restless) > 1.2 * np.median(calm)


def test_people_of_an_incident_are_calm_again_after_it_and_then_gone() -> None:
    calm, busy = (small_scene(SEED + 6, *with_it, people=1) for with_it in ((), (staged(IncidentKind.FIGHT),)))
    np.testing.assert_array_equal(calm.frame(40 * 15), busy.frame(40 * 15))


def test_a_covered_camera_sees_nearly_nothing_and_then_all_again() -> None:
    open_eye, covered = (small_scene(SEED + 7, *with_it) for with_it in ((), (staged(IncidentKind.COVERED),)))
    assert covered.frame(12 * 15).std() < 0.5 * open_eye.frame(12 * 15).std()
    np.testing.assert_array_equal(covered.frame(20 * 15), open_eye.frame(20 * 15))


def test_smoke_hides_a_third_of_the_picture() -> None:
    clear, smoky = (small_scene(SEED + 8, *with_it) for with_it in ((), (staged(IncidentKind.SMOKE),)))
    number = 14 * 15
    changed = np.abs(clear.frame(number).astype(int) - smoky.frame(number).astype(int)).max(axis=2) > 20
    assert changed.mean() > 0.33


def test_incidents_are_kept_in_order_of_time() -> None:
    late, early = staged(IncidentKind.SMOKE, 30, 40), staged(IncidentKind.FALL, 5, 15)
    assert small_scene(SEED, late, early).incidents == (early, late)


def test_an_incident_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="staged fall: end_s 3 must come after start_s 5"):
        staged(IncidentKind.FALL, 5, 3)


@pytest.mark.parametrize("seed", range(SEED, SEED + 200, 40))
@pytest.mark.parametrize("kind", [IncidentKind.FALL, IncidentKind.FIGHT])
def test_incidents_play_within_the_picture_with_people_a_quarter_of_its_height(seed: int, kind: IncidentKind) -> None:
    scene = small_scene(seed, staged(kind), people=0, night=False)
    quiet = small_scene(seed, people=0, night=False)
    number = round(8.05 * 15) if kind is IncidentKind.FIGHT else round(7.9 * 15)
    moved = np.abs(scene.frame(number).astype(int) - quiet.frame(number).astype(int)).max(axis=2) > 25
    rows = np.flatnonzero(moved.any(axis=1))
    assert rows[-1] - rows[0] > 180 / 4


def test_a_frame_costs_little() -> None:
    scene = Scene(SEED + 9, people=4)
    costs = []
    for number in range(60):
        begin = time.thread_time()
        scene.frame(number)
        costs.append(time.thread_time() - begin)
    assert sorted(costs)[15] < 0.015  # about 0.003 on a core of its own


def test_a_clip_is_real_video_of_the_scene(tmp_path: Path) -> None:
    scene = small_scene(SEED + 10, staged(IncidentKind.CROWD, 0.5, 9))
    write_clip(tmp_path / "clip.mp4", scene, 2.0)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert float(stream.average_rate or 0) == 15.0
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 30
    assert np.abs(frames[20].astype(int) - scene.frame(20).astype(int)).mean() < 10
