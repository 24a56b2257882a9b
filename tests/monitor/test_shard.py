"""Several monitors share one plant.yaml: which camera belongs to whom."""

from __future__ import annotations

import signal
from collections import Counter
from math import sqrt
from pathlib import Path

import pytest

from monitor import cli
from monitor.config import WHOLE, Plant, Shard, load
from monitor.config.shard import owner
from tests.e2e.clips import moving_clip
from tests.e2e.running import running

CAMERAS = [f"camera-{number}" for number in range(1000)]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    file = tmp_path / "plant.yaml"
    rows = "".join(f"  - {{name: {name}, url: 'rtsp://192.0.2.1/{name}'}}\n" for name in CAMERAS[:50])
    file.write_text(f"site: works\nmqtt: off\ncameras:\n{rows}")
    return load(file)


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 16])
def test_every_shard_has_about_as_many_cameras_as_the_others(shards: int) -> None:
    sizes = Counter(owner(camera, shards) for camera in CAMERAS)
    assert set(sizes) == set(range(shards))
    even = len(CAMERAS) / shards
    assert all(abs(size - even) <= 4 * sqrt(even) for size in sizes.values()), "no more uneven than chance"


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_one_shard_more_takes_its_part_and_no_camera_moves_between_the_others(shards: int) -> None:
    moved = [camera for camera in CAMERAS if owner(camera, shards) != owner(camera, shards + 1)]
    assert {owner(camera, shards + 1) for camera in moved} == {shards}
    assert 0.8 < len(moved) * (shards + 1) / len(CAMERAS) < 1.2


def test_a_camera_keeps_its_shard_for_ever() -> None:
    """Literal: a change of this table moves the cameras of every plant."""
    assert [owner(camera, 3) for camera in ("gate", "yard", "press-2", "door", "Halle ß")] == [0, 1, 1, 2, 1]


def test_the_shards_of_a_plant_are_the_plant(plant: Plant) -> None:
    parts = [Shard(index=index, count=4).of(plant) for index in range(4)]
    names = [camera.name for part in parts for camera in part.cameras]
    assert sorted(names) == sorted(camera.name for camera in plant.cameras)
    assert WHOLE.of(plant) == plant


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/3", "0/0", "a/b", "1/3/4", "1.0/3", "²/3"])
def test_what_is_no_shard_is_said_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="like 0/3"):
        Shard.parse(text)


def test_a_shard_is_written_as_index_and_count() -> None:
    assert Shard.parse("2/3") == Shard(index=2, count=3)


@pytest.mark.slow
def test_two_monitors_of_one_plant_watch_its_cameras_once_each(tmp_path: Path) -> None:
    """Through the command line, and over a reload."""
    clip = moving_clip(tmp_path / "yard.mp4", seconds=5)
    cameras = [{"name": name, "url": clip.as_uri()} for name in ("gate", "yard")]
    plant = {"site": "works", "mqtt": "off", "cameras": cameras}
    seen = {}
    for shard in ("0/2", "1/2", "2/3"):
        with running(tmp_path / shard.replace("/", "of"), plant, "--shard", shard) as monitor:
            monitor.said("watching")
            names = {name for name in ("gate", "yard") if monitor.metric("vad_camera_up", camera=name) is not None}
            monitor.process.send_signal(signal.SIGHUP)
            monitor.said("configuration reloaded: 0 cameras added, 0 removed")
            assert monitor.get("/readyz")[0] == 200
            assert monitor.end() == 0
            seen[shard] = names
    assert seen == {
        shard: {name for name in ("gate", "yard") if owner(name, int(shard[2])) == int(shard[0])} for shard in seen
    }
    assert seen["0/2"] | seen["1/2"] == {"gate", "yard"}


@pytest.mark.parametrize("wrong", ["3/3", "one"])
def test_a_wrong_shard_is_wrong_usage(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--cameras", "plant.yaml", "--shard", wrong]) == cli.USAGE
    assert "like 0/3" in capsys.readouterr().err
