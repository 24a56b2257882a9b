"""Forty cameras lost at once and back: nobody waits for anybody, and nobody comes back with everybody.

Forty, not two hundred: each needs a decoder here and an encoder's share there, on the two cores of a test machine.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.results import Row, record
from tests.faults.rig import ALWAYS, DETECT_S, PATIENCE, RECOVER_S, account_of, rig, waited_s
from tests.monitor.ingest.conftest import needs_rtsp, rtsp_server  # noqa: F401 - fixtures

CAMERAS = 40
SMALL = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=96,framerate=5/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 pt=96 config-interval=1"
)


@pytest.mark.slow
def test_forty_cameras_lost_at_once_come_back_spread_by_chance(
    tmp_path: Path,
    rtsp_server: Callable[..., Any],  # noqa: F811 - the fixture
) -> None:
    storm = rtsp_server({"/all": {"launch": SMALL}})
    calm = rtsp_server({"/calm": {"launch": SMALL}})
    lost = [f"c{number:02}" for number in range(CAMERAS)]
    # A group of its own for the one that is not lost: the cameras of a process are named in order.
    cameras = [{"name": name, "url": storm.url("/all"), "fps": 5} for name in lost]
    cameras.append({"name": "calm", "url": calm.url("/calm"), "fps": 5})
    patience = PATIENCE | {"thresholds": ALWAYS | {"update_every_s": 60.0}}
    with rig(tmp_path, cameras, ingest={"cameras_per_process": 10}, defaults=patience) as plant:
        plant.start()
        waited_s(lambda: len(raised(plant.alerts())) == CAMERAS + 1, 120, "all alarms")
        others = plant.watch_others(*lost)
        storm.process.send_signal(signal.SIGSTOP)
        detected_s = waited_s(lambda: all(plant.status(name) == "lost" for name in lost), 40, "all lost")
        storm.kill()
        time.sleep(2)  # tries are refused meanwhile, and the waits have drawn apart
        storm.start()
        back_s = waited_s(lambda: all(plant.status(name) != "lost" for name in lost), 60, "all back")
        affected = others()
        assert plant.monitor.end() == 0
        waited_s(lambda: len(ended(plant.alerts())) == CAMERAS + 1, 20, "all ends")
        account = account_of(plant.alerts(), whole=True)
    assert account.problems == []
    record(
        Row(
            fault=f"{CAMERAS} cameras lost at once and back",
            seen="each `lost`, each back by itself (the waits are spread by chance)",
            detected_s=detected_s,
            # Five reader processes and forty streams share two cores with the server.
            detect_limit_s=DETECT_S,
            recovered_s=back_s,
            recover_limit_s=RECOVER_S + 3.0,
            due=account.due,
            delivered=account.delivered,
            duplicated=account.duplicated,
            others_affected=affected,
        )
    )


def raised(alerts: list[dict[str, Any]]) -> set[str]:
    return {alert["camera"] for alert in alerts if alert["kind"] == "raised"}


def ended(alerts: list[dict[str, Any]]) -> set[str]:
    return {alert["camera"] for alert in alerts if alert["kind"] == "ended"}
