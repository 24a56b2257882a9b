"""A whole monitor in this process: what it tells its broker at start, at a reload and at its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import yaml

from monitor import config
from monitor.app import WAITING_DECISIONS, Monitor
from monitor.console.access import hash_token
from monitor.observe.audit import read
from monitor.observe.log import RedactedRecord
from tests.conftest import free_port
from tests.e2e.clips import moving_clip
from tests.monitor.alerting.servers import Subscriber, eventually, mosquitto, subscriber
from tests.monitor.observe.test_http import get

ALWAYS = {"raise_at": 0.0, "clear_at": 0.0, "update_every_s": 60.0}
"""Thresholds under which every score is an alarm: what is tested here is the way, not the judgement."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_clip(tmp_path_factory.mktemp("clips") / "yard.mp4", seconds=20)


def write(folder: Path, port: int, cameras: list[dict[str, Any]], **more: Any) -> Path:
    file = folder / "plant.yaml"
    plant = {
        "site": "works",
        "mqtt": {"host": "127.0.0.1", "port": port},
        "http": {"port": 0},
        "defaults": {"thresholds": ALWAYS},
        "ingest": {"file_folders": [".."]},
        "evidence": {"pre_roll_s": 0.5, "post_roll_s": 0.5},
        "cameras": cameras,
    }
    file.write_text(yaml.safe_dump(plant | more), encoding="utf-8")
    return file


def live(file: Path, scenario: Callable[[Monitor], Awaitable[None]], **options: Any) -> None:
    async def whole() -> None:
        monitor = Monitor(config.load(file), file, **options)
        running = asyncio.create_task(monitor.run())
        waited: set[asyncio.Future[Any]] = {running, monitor.started}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        try:
            if not running.done():
                await scenario(monitor)
        finally:
            monitor.stop()
            await running

    asyncio.run(whole())


def last(heard: Subscriber, end: str) -> dict[str, Any]:
    return (heard.payloads(end) or [{}])[-1]


async def retain(port: int, topic: str, payload: str) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.publish(topic, payload, qos=1, retain=True)


def test_a_camera_that_is_switched_off_is_shown_so_whatever_a_former_life_left(tmp_path: Path, clip: Path) -> None:
    cameras = [{"name": "off", "url": clip.as_uri(), "enabled": False}]
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        asyncio.run(retain(broker.port, "vad/works/cameras/off/status", '{"status": "ok"}'))
        asyncio.run(retain(broker.port, "vad/works/cameras/off/alarm", '{"state": "raised"}'))

        async def scenario(_: Monitor) -> None:
            await eventually(lambda: last(heard, "off/status").get("status") == "disabled", 10, "the status")
            await eventually(lambda: last(heard, "off/alarm").get("state") == "calm", 10, "the alarm")

        live(write(tmp_path, broker.port, cameras), scenario)


def test_a_reload_ends_adds_and_changes_cameras_and_disturbs_no_other(tmp_path: Path, clip: Path) -> None:
    names = ["off", "stays"]
    before: list[dict[str, Any]] = [{"name": name, "url": clip.as_uri()} for name in names]
    after: list[dict[str, Any]] = [
        before[0] | {"enabled": False},
        before[1] | {"labels": {"hall": "3"}, "thresholds": {"raise_at": 1.0, "clear_at": 1.0}},
        {
            "name": "new",
            "url": "rtsp://127.0.0.1:9/x",
            "username": "viewer",
            "password": "hunter 22",
            "mode": "observe",
        },
    ]
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        file = write(tmp_path, broker.port, before)

        async def scenario(monitor: Monitor) -> None:
            for name in names:
                await eventually(lambda: last(heard, f"{name}/alarm").get("state") == "raised", 60, f"{name} raised")  # noqa: B023
            scored = {figures.camera: figures.segments_scored for figures in monitor._watch.figures()}
            lives = monitor._pool._cameras["stays"].placed
            write(tmp_path, broker.port, after)
            await monitor.reload()
            await eventually(lambda: last(heard, "off/alarm").get("state") == "calm", 20, "the end")
            assert last(heard, "off/alert")["kind"] == "ended"
            assert last(heard, "off/alert")["reason"] == "switched off in the configuration (enabled: false)"
            await eventually(lambda: last(heard, "off/status").get("status") == "disabled", 5, "the status")
            await eventually(lambda: last(heard, "new/alarm").get("mode") == "observe", 5, "the new camera's alarm")
            await eventually(lambda: last(heard, "new/status").get("status") == "lost", 20, "the new camera's status")
            await eventually(lambda: last(heard, "stays/alarm").get("state") == "calm", 20, "the new thresholds")
            assert monitor._pool._cameras["stays"].placed is lives, "new thresholds restart no reader"
            figures = {one.camera: one for one in monitor._watch.figures()}
            assert figures["stays"].segments_scored > scored["stays"]
            assert figures["stays"].alarms == 1
            assert not [s for s in heard.payloads("stays/status")[1:] if s["status"] == "connecting"]
            assert RedactedRecord.redaction("viewer:hunter 22, hunter%2022") == "viewer:***, ***"

        live(file, scenario)


def test_a_reload_that_is_asked_for_during_the_start_is_done_after_it(tmp_path: Path, clip: Path) -> None:
    file = write(tmp_path, 1, [{"name": "one", "url": clip.as_uri(), "enabled": False}], mqtt="off")

    async def whole() -> list[str]:
        monitor = Monitor(config.load(file), file)
        running = asyncio.create_task(monitor.run())
        await asyncio.sleep(0.05)
        write(tmp_path, 1, [{"name": "two", "url": clip.as_uri(), "enabled": False}], mqtt="off")
        await monitor.reload()
        names = list(monitor._watch.seen())
        monitor.stop()
        await running
        return names

    assert asyncio.run(whole()) == ["two"]


def test_without_mqtt_nothing_is_waited_for_at_the_end(tmp_path: Path, clip: Path) -> None:
    file = write(tmp_path, 1, [{"name": "off", "url": clip.as_uri(), "enabled": False}])
    asked_s = 0.0

    async def scenario(_: Monitor) -> None:
        nonlocal asked_s
        asked_s = time.monotonic()

    live(file, scenario, dry_run=True)
    assert time.monotonic() - asked_s < 5.0


def test_scores_wait_for_a_disk_that_hangs_in_bounded_number_and_the_scorer_goes_on_afterwards(
    tmp_path: Path, clip: Path
) -> None:
    file = write(tmp_path, 1, [{"name": "off", "url": clip.as_uri(), "enabled": False}], mqtt="off")
    thaws, given = threading.Event(), 0

    def score(monitor: Monitor) -> None:
        nonlocal given
        for _ in range(WAITING_DECISIONS + 10):
            monitor.scored([])
            given += 1

    async def scenario(monitor: Monitor) -> None:
        monitor._decisions.submit(thaws.wait)  # the alarms' thread, as it is while a commit hangs
        scoring = asyncio.create_task(asyncio.to_thread(score, monitor))
        await eventually(lambda: given == WAITING_DECISIONS)
        await asyncio.sleep(0.2)
        assert given == WAITING_DECISIONS, "no more wait in memory"
        thaws.set()
        await scoring
        assert given == WAITING_DECISIONS + 10

    live(file, scenario)


def test_beyond_this_machine_strangers_get_one_word_and_metrics_have_an_address_of_their_own(
    tmp_path: Path, clip: Path
) -> None:
    port, ann = free_port(), {"role": "viewer", "token_sha256": hash_token("the-token-of-ann")}
    http = {"host": "0.0.0.0", "port": 0, "metrics": {"host": "127.0.0.1", "port": port}}
    cameras = [{"name": "off", "url": clip.as_uri(), "enabled": False}]
    file = write(tmp_path, 1, cameras, mqtt="off", http=http, console={"users": {"ann": ann}})
    bearer = {"Authorization": "Bearer the-token-of-ann"}

    async def scenario(monitor: Monitor) -> None:
        address = (await monitor.started).http

        async def told(path: str, there: str = address, **headers: str) -> tuple[int, str]:
            answer = await asyncio.to_thread(get, there, path, **headers)
            return answer.status, answer.text

        assert await told("/readyz?verbose") == (200, "ok\n")
        assert "ok: artefact: " in (await told("/readyz?verbose", **bearer))[1]
        assert (await told("/metrics", **bearer))[0] == 404
        assert (await told("/console/api/v1/cameras"))[0] == 401
        status, text = await told("/metrics", f"http://127.0.0.1:{port}")
        assert (status, "vad_build_info" in text) == (200, True)
        assert (await told("/console/", f"http://127.0.0.1:{port}"))[0] == 404

    live(file, scenario)
    assert [row["what"] for row in read(tmp_path / "state")] == ["stop", "start"]


def test_a_failure_ends_the_monitor_with_the_original_error_and_leaves_no_thread(tmp_path: Path, clip: Path) -> None:
    file = write(tmp_path, 1, [{"name": "yard", "url": clip.as_uri()}], mqtt="off")

    async def scenario(monitor: Monitor) -> None:
        await asyncio.to_thread(monitor.failed, RuntimeError("the accelerator is gone"))

    with pytest.raises(RuntimeError, match="the accelerator is gone"):
        live(file, scenario)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("scorer", "alerts"))]
