"""The staged plant: who plays what, and the whole of it over real RTSP."""

from __future__ import annotations

import os
import signal
import time

import av
import pytest

from monitor.stage import clock
from monitor.stage.layout import SEEDS
from monitor.stage.plant import LEAD_S, StagedPlant, play


@pytest.mark.parametrize("cameras", [2, 3, 4, 5, 6, 8])
def test_each_busy_camera_sees_every_kind_and_the_calm_ones_none(cameras: int) -> None:
    parts = play(7, cameras)
    busy = [part for part in parts if part.incidents]
    assert len(parts) - len(busy) == max(1, cameras // 4)
    for part in busy:
        assert len({staged.kind for staged in part.incidents}) == 5
        assert part.incidents[0].start_s >= LEAD_S


def test_incidents_of_one_camera_never_overlap() -> None:
    for seed in range(20):
        for part in play(seed, 4):
            ends = [staged.end_s for staged in part.incidents[:-1]]
            assert all(end < later.start_s for end, later in zip(ends, part.incidents[1:], strict=True))


def test_a_seed_is_a_play_and_its_scenes_belong_to_the_split() -> None:
    assert play(3, 4) == play(3, 4)
    assert play(3, 4) != play(4, 4)
    assert all(part.seed in SEEDS["demo"] for part in play(3, 4))
    assert all(part.seed in SEEDS["tests"] for part in play(3, 4, "tests"))


def test_a_plant_has_a_camera() -> None:
    with pytest.raises(ValueError, match="at least one camera"):
        play(1, 0)


@pytest.mark.slow
def test_cameras_are_served_in_real_time_and_show_what_time_it_is() -> None:
    with StagedPlant(5, 2, split="tests") as plant:
        assert list(plant.urls) == ["camera-1", "camera-2"]
        late_ms: list[float] = []
        with av.open(plant.urls["camera-1"], options={"rtsp_transport": "tcp"}, timeout=20) as stream:
            for frame in stream.decode(video=0):
                painted_ms = clock.read(frame.to_ndarray(format="rgb24"))
                assert painted_ms is not None
                late_ms.append(time.time() * 1000 - painted_ms)
                if len(late_ms) == 60:
                    break
        assert sorted(late_ms)[30] < 1500, "a loaded machine is slow, but not by seconds"
        first = plant.incidents[0]
        assert first.start_wall_s == pytest.approx(plant.started_wall_s + LEAD_S, abs=1e-6)


@pytest.mark.slow
def test_it_ends_with_its_owner_and_says_so_when_it_cannot_start() -> None:
    plant = StagedPlant(5, 1, split="tests")
    with plant:
        pid = plant._process.pid
        assert pid is not None
        os.kill(pid, signal.SIGINT)  # Ctrl-C reaches the whole group: the plant leaves ending to its owner
        time.sleep(0.5)
        assert plant._process.is_alive()
    assert plant._process.exitcode == 0
