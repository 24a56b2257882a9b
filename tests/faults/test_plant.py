"""One plant, one fault after the other: each is done for real, measured, and written to ``.bench/faults.json``.

The tests run in the order of the file and share one monitor, as faults do in a plant; the last one settles the account
of all alerts since the start.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.observe.health import LOOP_LIMIT_S
from tests.e2e.clips import moving_clip
from tests.faults.disks import Disk, disk
from tests.faults.failing_scorer import ERROR
from tests.faults.relay import LossyRelay
from tests.faults.results import Row, record
from tests.faults.rig import (
    DETECT_S,
    KEEPALIVE_S,
    KEY_FRAME_S,
    LOOK_S,
    NO_LOOK,
    RECOVER_S,
    Rig,
    account_of,
    rig,
    waited_s,
)
from tests.monitor.ingest.conftest import LIVE, RtspServer, needs_rtsp  # noqa: F401 - a fixture
from tests.soak.sample import readers

pytestmark = pytest.mark.slow

OTHER = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=480,height=272,framerate=10/1 ! "
    "jpegenc ! rtpjpegpay name=pay0 pt=26"
)
"""The camera after an update: another size, codec and rate than LIVE."""
SMEARED_AFTER_S, SEGMENT_S = 5.0, 16 / 15
BROKER_DETECT_S = 2 * KEEPALIVE_S + 2.0
"""paho looks once a second whether the last packet, and then the ping's answer, is older than the keep-alive."""
BROKER_RECOVER_S = 1.0 + 5.0
"""The publisher's first wait, and paho's own limit for one try."""


class Plant:
    def __init__(self, made: Rig, gate: RtspServer, relay: LossyRelay, state: Disk, evidence: Disk) -> None:
        self.rig, self.gate, self.relay, self.state, self.evidence = made, gate, relay, state, evidence
        self.started = 0


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, needs_rtsp: None) -> Iterator[Plant]:  # noqa: F811
    """Cameras: ``gate`` (its server is harmed) and ``mate`` share a process; ``yard`` and ``lossy`` another one."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "monitor").mkdir()
    gate = RtspServer({"mounts": {"/gate": {"launch": LIVE}}})
    rest = RtspServer({"mounts": {f"/{name}": {"launch": LIVE} for name in ("mate", "yard", "lossy")}})
    try:
        with (
            disk(folder / "monitor" / "state", folder / "state.img") as state,
            disk(folder / "monitor" / "evidence", folder / "evidence.img") as evidence,
            LossyRelay(rest.port) as relay,
        ):
            cameras = [
                {"name": "gate", "url": gate.url("/gate")},
                {"name": "mate", "url": rest.url("/mate")},
                {"name": "yard", "url": rest.url("/yard")},
                {
                    "name": "lossy",
                    "url": f"rtsp://127.0.0.1:{relay.port}/lossy",
                    "transport": "udp",
                    "picture": NO_LOOK | {"smeared_after_s": SMEARED_AFTER_S},
                },
            ]
            with rig(folder, cameras) as made:
                made.start()
                for camera in cameras:
                    made.monitor.said(f"camera '{camera['name']}': alarm raised", 90)
                waited_s(lambda: all(made.status(c["name"]) == "ok" for c in cameras), 30, "all are watched")
                yield Plant(made, gate, relay, state, evidence)
    finally:
        gate.process.send_signal(signal.SIGCONT)
        gate.kill()
        rest.kill()


def reader_of(monitor_pid: int, port: int) -> int:
    """The pid of the reader process that is connected to this port of 127.0.0.1."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if int(row[2].rpartition(":")[2], 16) == port}
    (found,) = [pid for pid in readers(monitor_pid) if sockets & _open_files(pid)]
    return found


def _open_files(pid: int) -> set[str]:
    names = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.add(str(descriptor.readlink()))
    return names


def _is_back(rig: Rig, camera: str, since: int) -> bool:
    """It was lost since then, and is no more."""
    statuses = [one["status"] for one in rig.told(f"/{camera}/status", since)]
    return "lost" in statuses and statuses[-1] != "lost"


def _frames_come(rig: Rig, camera: str) -> float:
    """How long until it decodes anew; by its status, looked at once a second, a short loss might be missed."""

    def frames() -> float:
        return rig.monitor.metric("vad_camera_frames_decoded_total", camera=camera) or 0.0

    before = frames()
    return waited_s(lambda: frames() > before, 30, f"frames of {camera}")


# -- the outbox's disk, first: later its files have room of their own, and do without the disk's for a minute -------


def _disk_fault(plant: Plant, fault: str, detected_s: float, since: int, others: Any, since_s: float) -> None:
    rig = plant.rig
    recovered_s = waited_s(lambda: rig.metric("vad_outbox_durable") == 1, 30, "a durable outbox", since_s)
    assert rig.monitor.get("/readyz")[0] == 200
    rig.alerts_flow()
    record(
        Row(
            fault=fault,
            seen="`vad_outbox_durable` 0, `/readyz` 503: alerts are not durable; they go on from memory",
            detected_s=detected_s,
            # At the first write that fails: what still fits into the files as they are is durable.
            recovered_s=recovered_s,
            recover_limit_s=5.0 + LOOK_S,
            others_affected=others(),
            **rig.account(since),
        )
    )


@pytest.mark.parametrize("kind", ["full", "unwritable"])
def test_an_outbox_disk_that_takes_nothing_more_costs_no_alert(plant: Plant, kind: str) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    began_s = time.monotonic()
    with getattr(plant.state, kind)():
        detected_s = waited_s(lambda: rig.metric("vad_outbox_durable") == 0, 30, "noticing", began_s)
        status, text = rig.monitor.get("/readyz?verbose")
        assert (status, "alerts are not durable" in text) == (503, True)
        told = rig.mark()
        waited_s(lambda: len(rig.alerts(told)) >= 3, 20, "alerts go on from memory")
    name = {"full": "outbox: disk full", "unwritable": "outbox: disk cannot be written (immutable files)"}[kind]
    _disk_fault(plant, name, detected_s, since, others, time.monotonic())


# -- streams ---------------------------------------------------------------------------------------------------


def test_a_server_that_is_stopped_is_noticed_and_its_camera_comes_back(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others("gate"), plant.rig.mark()
    plant.gate.process.send_signal(signal.SIGSTOP)
    detected_s = waited_s(lambda: rig.status("gate") == "lost", 30, "the loss")
    seen = rig.reason("gate")
    time.sleep(1)
    plant.gate.process.send_signal(signal.SIGCONT)
    recovered_s = waited_s(lambda: _is_back(rig, "gate", since), 30, "the return")
    rig.settle()
    rig.alerts_flow()
    record(
        Row(
            fault="RTSP server stopped (SIGSTOP)",
            seen=f"status `lost`: {_plain(seen)}",
            detected_s=detected_s,
            detect_limit_s=DETECT_S,
            recovered_s=recovered_s,
            # A try that began while it was stopped ends with its time-out first.
            recover_limit_s=RECOVER_S,
            others_affected=others(),
            **rig.account(since),
        )
    )


def test_a_server_that_comes_back_with_other_size_codec_and_rate_is_read_on(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others("gate"), plant.rig.mark()
    plant.gate.kill()
    detected_s = waited_s(lambda: rig.status("gate") == "lost", 30, "the loss")
    seen, logged = rig.reason("gate"), len(rig.monitor.log)
    plant.gate.mounts["/gate"]["launch"] = OTHER
    plant.gate.start()
    recovered_s = waited_s(lambda: _is_back(rig, "gate", since), 30, "the return")
    rig.said("camera 'gate': the stream is there (mjpeg 480x272)", logged, 5)
    rig.settle()
    rig.alerts_flow()
    record(
        Row(
            fault="RTSP server killed; back with other size, codec, rate",
            seen=f"status `lost`: {_plain(seen)}; log: the stream is there (mjpeg 480x272)",
            detected_s=detected_s,
            detect_limit_s=DETECT_S,
            recovered_s=recovered_s,
            recover_limit_s=RECOVER_S,
            others_affected=others(),
            **rig.account(since),
        )
    )


def test_lost_and_reordered_packets_spoil_segments_of_that_camera_only_and_are_said(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others("lossy"), plant.rig.mark()

    def invalid() -> float:
        return rig.monitor.metric("vad_camera_segments_invalid_total", camera="lossy", reason="decode_error") or 0.0

    def scored() -> float:
        return rig.monitor.metric("vad_camera_segments_scored_total", camera="lossy") or 0.0

    before = invalid()
    plant.relay.loss, plant.relay.reorder = 0.05, 0.05

    def picture() -> str:
        return str(rig.told("/lossy/picture")[-1]["state"])

    began_s = time.monotonic()
    detected_s = waited_s(lambda: invalid() >= before + 2, 30, "invalid segments")
    said_s = waited_s(lambda: picture() == "smeared", 30, "the picture's state", began_s)
    # The first damaged segment may have begun before packets were lost.
    assert said_s >= SMEARED_AFTER_S - SEGMENT_S
    assert "network" in rig.told("/lossy/picture")[-1]["to_do"]
    plant.relay.loss = plant.relay.reorder = 0.0
    assert plant.relay.lost > 0
    assert plant.relay.reordered > 0
    clean = scored()
    # A whole bag must be learnt again where more segments than max_gap were spoilt.
    recovered_s = waited_s(lambda: scored() >= clean + 2, 30, "scores")
    waited_s(lambda: picture() == "good", 30, "a good picture")
    rig.alerts_flow()
    record(
        Row(
            fault="5 % of RTP packets lost, 5 % reordered (UDP, for seconds)",
            seen='picture `smeared`, status `degraded`, `vad_camera_segments_invalid_total{reason="decode_error"}`',
            detected_s=detected_s,
            recovered_s=recovered_s,
            recover_limit_s=7 * 16 / 15 + KEY_FRAME_S + LOOK_S,
            others_affected=others(),
            **rig.account(since),
        )
    )


# -- reader processes ------------------------------------------------------------------------------------------


def test_a_reader_process_that_is_killed_is_replaced(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others("gate", "mate"), plant.rig.mark()
    logged = len(rig.monitor.log)
    os.kill(reader_of(rig.monitor.process.pid, plant.gate.port), signal.SIGKILL)
    detected_s = rig.said("the reader process of 'gate', 'mate' ended (signal 9); starting another", logged, 10)
    recovered_s = _frames_come(rig, "mate")
    rig.settle()
    rig.alerts_flow()
    record(
        Row(
            fault="reader process killed (SIGKILL)",
            seen="log: the reader process of 'gate', 'mate' ended (signal 9); `vad_reader_restarts_total`",
            detected_s=detected_s,
            detect_limit_s=1.0,
            recovered_s=recovered_s,
            # The new interpreter imports before it opens.
            recover_limit_s=RECOVER_S + 3.0,
            others_affected=others(),
            **rig.account(since),
        )
    )


def test_a_reader_process_that_is_stopped_is_replaced(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others("gate", "mate"), plant.rig.mark()
    logged, restarts = len(rig.monitor.log), rig.metric("vad_reader_restarts_total") or 0.0
    stopped = reader_of(rig.monitor.process.pid, plant.gate.port)
    os.kill(stopped, signal.SIGSTOP)
    said = "the reader process of 'gate', 'mate' ended (it did not answer for 10 s); starting another"
    detected_s = rig.said(said, logged, 30)
    recovered_s = _frames_come(rig, "mate")
    rig.settle()
    assert (rig.metric("vad_reader_restarts_total") or 0.0) == restarts + 1
    assert not Path(f"/proc/{stopped}").exists(), "no zombie is left"
    rig.alerts_flow()
    record(
        Row(
            fault="reader process stopped (SIGSTOP)",
            seen="log: the reader process of 'gate', 'mate' ended (it did not answer for 10 s)",
            detected_s=detected_s,
            detect_limit_s=20.0,
            recovered_s=recovered_s,
            recover_limit_s=RECOVER_S + 3.0,
            others_affected=others(),
            **rig.account(since),
        )
    )


# -- the broker ------------------------------------------------------------------------------------------------


def _broker_fault(plant: Plant, fault: str, seen: str, *, detected_s: float, since_s: float, **more: Any) -> None:
    """Measures the return, and records."""
    rig, since, others = plant.rig, more.pop("since"), more.pop("others")
    recovered_s = waited_s(lambda: rig.metric("vad_mqtt_connected") == 1, 40, "the connection", since_s)
    rig.alerts_flow(30)
    record(
        Row(
            fault=fault,
            seen=seen,
            detected_s=detected_s,
            recovered_s=recovered_s,
            others_affected=others(),
            **rig.account(since),
            **more,
        )
    )


def test_a_broker_that_is_killed_and_forgets_everything_is_told_again(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    rig.broker.kill(signal.SIGKILL)
    detected_s = waited_s(lambda: rig.metric("vad_mqtt_connected") == 0, 30, "noticing")
    assert rig.monitor.get("/readyz")[0] == 200, "a broker's fault is a metric, never unready"
    waited_s(lambda: (rig.metric("vad_outbox_messages") or 0) >= 3, 20, "alerts in the outbox")
    for kept in rig.broker.folder.glob("mosquitto.db*"):
        kept.unlink()
    # The witness has no session at a broker that forgot it: it must be there before the monitor is.
    affected = others()  # by the broker; that the monitor is stopped for a moment is our own doing
    rig.monitor.process.send_signal(signal.SIGSTOP)
    rig.heard.ready.clear()
    rig.broker.start()
    assert rig.heard.ready.wait(15)
    told = rig.mark()
    since_s = time.monotonic()
    rig.monitor.process.send_signal(signal.SIGCONT)
    waited_s(lambda: rig.status("yard", told) in ("ok", "degraded"), 30, "the retained status, told again")
    _broker_fault(
        plant,
        "broker killed (SIGKILL), back without its persistence",
        "`vad_mqtt_connected` 0, `vad_outbox_messages` grows; retained topics are told again",
        detected_s=detected_s,
        detect_limit_s=BROKER_DETECT_S,
        since_s=since_s,
        recover_limit_s=16.0,  # half a minute at most between two tries, and it was away for seconds
        since=since,
        others=lambda: affected,
    )


def test_a_broker_that_hangs_is_noticed_and_gets_everything(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    rig.broker.signal(signal.SIGSTOP)
    try:
        detected_s = waited_s(lambda: rig.metric("vad_mqtt_connected") == 0, 40, "noticing")
    finally:
        rig.broker.signal(signal.SIGCONT)
    _broker_fault(
        plant,
        "broker hangs (SIGSTOP)",
        "`vad_mqtt_connected` 0, `vad_outbox_messages` grows",
        detected_s=detected_s,
        detect_limit_s=BROKER_DETECT_S,
        since_s=time.monotonic(),
        recover_limit_s=BROKER_RECOVER_S,
        since=since,
        others=others,
    )


def test_a_slow_broker_delays_and_loses_nothing(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    for _ in range(6):  # a tenth of its speed
        rig.broker.signal(signal.SIGSTOP)
        time.sleep(0.9)
        rig.broker.signal(signal.SIGCONT)
        time.sleep(0.1)
    recovered_s = rig.alerts_flow()
    assert rig.metric("vad_mqtt_connected") == 1
    record(
        Row(
            fault="slow broker (stopped for 90 % of the time)",
            seen="`vad_outbox_messages`, `vad_capture_to_acknowledged_seconds`",
            recovered_s=recovered_s,
            recover_limit_s=BROKER_RECOVER_S,
            others_affected=others(),
            **rig.account(since),
        )
    )


def test_a_broker_that_refuses_is_named_and_gets_everything_once_it_does_not(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    conf = rig.broker.folder / "mosquitto.conf"
    open_to_all = conf.read_text()
    logged = len(rig.monitor.log)
    rig.broker.kill(signal.SIGTERM)
    conf.write_text(open_to_all.replace("allow_anonymous true", "allow_anonymous false"))
    rig.broker.start()
    detected_s = waited_s(lambda: re.search("refused|not authori", rig.monitor.log[logged:], re.I), 30, "the refusal")
    rig.broker.kill(signal.SIGTERM)
    conf.write_text(open_to_all)
    rig.broker.start()
    _broker_fault(
        plant,
        "broker refuses the login, then no more",
        "log names the refusal; `vad_mqtt_connected` 0",
        detected_s=detected_s,
        detect_limit_s=BROKER_DETECT_S,
        since_s=time.monotonic(),
        recover_limit_s=8.0 + BROKER_RECOVER_S,  # the wait between two tries doubles
        since=since,
        others=others,
    )


# -- a disk that hangs, and the disk of the evidence -----------------------------------------------------------------


def test_an_outbox_disk_that_hangs_makes_the_monitor_unready_and_loses_nothing(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    with plant.state.frozen():
        detected_s = waited_s(lambda: rig.monitor.get("/readyz")[0] == 503, 60, "unready")
        assert "waited for the disk" in rig.monitor.get("/readyz?verbose")[1]
        assert rig.monitor.get("/livez")[0] == 200
    since_s = time.monotonic()
    recovered_s = waited_s(lambda: rig.monitor.get("/readyz")[0] == 200, 30, "ready", since_s)
    rig.alerts_flow()
    record(
        Row(
            fault="outbox: disk hangs (fsfreeze)",
            seen="`/readyz` 503: alerts have waited for the disk for … s; `/livez` stays 200",
            detected_s=detected_s,
            # From the last decision before the freeze, or the first write after it, which is due within a second.
            detect_limit_s=LOOP_LIMIT_S + LOOK_S + 3.0,
            recovered_s=recovered_s,
            recover_limit_s=5.0,
            others_affected=others(),
            **rig.account(since),
        )
    )


def _reloads(rig: Rig, result: str) -> float:
    return rig.monitor.metric("vad_config_reloads_total", result=result) or 0.0


def _reload(rig: Rig) -> None:
    """By the metric: the log sums up what it says again and again."""
    before = _reloads(rig, "applied")
    rig.monitor.process.send_signal(signal.SIGHUP)
    waited_s(lambda: _reloads(rig, "applied") > before, 15, "the reload")


def _new_alarm(plant: Plant, camera: str) -> int:
    """The camera's alarm ends by a change of mode and is raised anew; from which message on."""
    rig, since = plant.rig, plant.rig.mark()
    for mode in ("observe", "alert"):
        cameras = [one | ({"mode": mode} if one["name"] == camera else {}) for one in rig.plant["cameras"]]
        rig.monitor.write(rig.plant | {"cameras": cameras})
        _reload(rig)
    waited_s(lambda: any(a["camera"] == camera and a["kind"] == "raised" for a in rig.alerts(since)), 20, "a new alarm")
    return since


@pytest.mark.parametrize("kind", ["full", "unwritable"])
def test_an_evidence_disk_that_takes_nothing_costs_the_clip_and_says_so(plant: Plant, kind: str) -> None:
    rig, others = plant.rig, plant.rig.watch_others()
    failed = rig.metric("vad_evidence_failed_total") or 0.0
    began_s = time.monotonic()
    with getattr(plant.evidence, kind)():
        since = _new_alarm(plant, "yard")
        waited_s(lambda: (rig.metric("vad_evidence_failed_total") or 0.0) > failed, 30, "failed evidence")
        note = waited_s(
            lambda: [a for a in rig.alerts(since) if a["camera"] == "yard" and a["evidence"].get("note")], 20, "a note"
        )
        assert note >= 0
        notes = [a["evidence"]["note"] for a in rig.alerts(since) if a["evidence"].get("note")]
        detected_s = time.monotonic() - began_s
    assert not list((rig.folder / "evidence").rglob("*.part")), "nothing half written is left"
    again = _new_alarm(plant, "yard")
    recovered_s = waited_s(
        lambda: [a for a in rig.alerts(again) if a["camera"] == "yard" and a["evidence"]["state"] == "ready"],
        30,
        "evidence",
    )
    record(
        Row(
            fault=f"evidence: disk {'full' if kind == 'full' else 'cannot be written (immutable folder)'}",
            seen=f"the alert's note: {_plain(notes[-1])}; `vad_evidence_failed_total`",
            detected_s=detected_s,
            detect_limit_s=30.0,
            recovered_s=recovered_s,
            recover_limit_s=10.0,
            others_affected=others(),
            **rig.account(since),
        )
    )


# -- the configuration, and a twin ---------------------------------------------------------------------------------


def test_reloads_under_load_with_and_without_mistakes_disturb_nobody(plant: Plant) -> None:
    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    applied, refused = _reloads(rig, "applied"), _reloads(rig, "refused")
    began_s = time.monotonic()
    for number in range(20):
        labels = {"round": str(number)}
        cameras = [one | {"labels": labels} for one in rig.plant["cameras"]]
        if number % 2 == 1:  # the last of them, too: its file stays until it was read
            cameras[1] = cameras[1] | {"fps": "fast"}
        rig.monitor.write(rig.plant | {"cameras": cameras})
        rig.monitor.process.send_signal(signal.SIGHUP)
        time.sleep(0.15)
    waited_s(lambda: _reloads(rig, "refused") > refused, 15, "a refusal")
    rig.monitor.write(rig.plant)
    _reload(rig)
    took_s = time.monotonic() - began_s
    assert _reloads(rig, "applied") > applied
    rig.alerts_flow()
    record(
        Row(
            fault="21 reloads in seconds, ten of them with a mistake",
            seen="log: configuration not reloaded, the old one stays; `vad_config_reloads_total`",
            recovered_s=took_s,
            others_affected=others(),
            **rig.account(since),
        )
    )


def test_two_monitors_with_one_client_id_find_out_and_lose_nothing(plant: Plant, tmp_path: Path) -> None:
    from tests.e2e.running import RunningMonitor

    rig, others, since = plant.rig, plant.rig.watch_others(), plant.rig.mark()
    clip = moving_clip(tmp_path / "twin.mp4", seconds=20)
    twin_plant = rig.plant | {"site": "twin", "cameras": [{"name": "twin", "url": clip.as_uri()}]}
    (tmp_path / "twin").mkdir()
    logged = len(rig.monitor.log)
    twin = RunningMonitor(tmp_path / "twin", twin_plant)
    try:
        twin.said("MQTT broker", 60)
        began_s = time.monotonic()
        hint = "does another client use the client id 'rig'?"
        detected_s = waited_s(
            lambda: hint in rig.monitor.log[logged:] or hint in twin.log, 60, "the hint in a log", began_s
        )
    finally:
        # In peace whatever came of it: its alarms are in the account of all tests.
        try:
            twin.end(seconds=40)
        finally:
            twin.close()
    _broker_fault(
        plant,
        "two monitors with one client id",
        f"log: {hint}",
        detected_s=detected_s,
        since_s=time.monotonic(),
        recover_limit_s=30.0,
        since=since,
        others=others,
    )


# -- the end ---------------------------------------------------------------------------------------------------


def test_a_monitor_that_is_killed_in_the_middle_of_its_alarms_is_missed_and_ends_them_when_it_is_back(
    plant: Plant,
) -> None:
    rig = plant.rig
    ours = [alert for alert in rig.alerts() if alert["site"] == rig.plant["site"]]
    open_alerts = {alert["alert_id"] for alert in ours} - {a["alert_id"] for a in ours if a["kind"] == "ended"}
    assert len(open_alerts) == 4
    pids = readers(rig.monitor.process.pid)
    assert len(pids) == 2
    since = rig.mark()
    rig.monitor.process.kill()
    rig.monitor.process.wait()
    detected_s = waited_s(
        lambda: [one["state"] for one in rig.told("availability", since)][-1:] == ["offline"], 30, "the last will"
    )
    waited_s(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10, "the readers' end")
    began_s = time.monotonic()
    rig.monitor.close()
    rig.start()
    recovered_s = waited_s(
        lambda: {a["alert_id"] for a in rig.alerts(since) if a["kind"] == "ended"} >= open_alerts, 60, "ends", began_s
    )
    record(
        Row(
            fault="monitor killed (SIGKILL) with four alarms raised",
            seen="availability `offline` (last will); at the next start each alarm ends: monitor restarted",
            detected_s=detected_s,
            detect_limit_s=1.5 * KEEPALIVE_S,
            recovered_s=recovered_s,
            recover_limit_s=45.0,  # a start, on a loaded machine
            **rig.account(since),
        )
    )


def test_an_accelerator_error_ends_the_monitor_with_that_error_and_the_next_start_goes_on(plant: Plant) -> None:
    rig, since = plant.rig, plant.rig.mark()
    assert rig.monitor.end() == 0
    rig.monitor.close()
    logged = len(rig.monitor.log)
    rig.start(("-m", "tests.faults.failing_scorer"))
    assert rig.monitor.process.wait(90) == 1
    assert ERROR in rig.monitor.log[logged:]
    rig.monitor.close()
    rig.start()
    recovered_s = rig.said("watching 4 cameras", len(rig.monitor.log), 60, "the start")
    rig.alerts_flow(60)
    record(
        Row(
            fault="accelerator error in the scorer",
            seen=f"exit code 1, log: {ERROR}; whoever supervises starts it again",
            recovered_s=recovered_s,
            recover_limit_s=45.0,
            **rig.account(since),
        )
    )


def test_sigterm_with_alarms_raised_and_evidence_pending_ends_all_of_them(plant: Plant) -> None:
    rig, since = plant.rig, plant.rig.mark()
    rig.settle(60)
    _new_alarm(plant, "yard")  # its evidence has a second to wait for
    began_s = time.monotonic()
    assert rig.monitor.end() == 0
    took_s = time.monotonic() - began_s
    waited_s(lambda: rig.told("availability")[-1]["state"] == "offline", 10, "the good-bye")
    ended = {alert["camera"]: alert["reason"] for alert in rig.alerts(since) if alert["kind"] == "ended"}
    assert set(ended.values()) == {"monitor stopped"} and len(ended) == 4, ended
    record(
        Row(
            fault="SIGTERM with alarms raised, evidence pending",
            seen="every alarm ends: monitor stopped; availability `offline`",
            recovered_s=took_s,
            recover_limit_s=10.0 + 2.0,
            **rig.account(since),
        )
    )


def test_the_account_is_settled_every_alert_is_whole(plant: Plant) -> None:
    """After all of the above: no message of any alert is missing, every ``raised`` has its ``ended``."""
    alerts = plant.rig.alerts()
    account = account_of(alerts, whole=True)
    assert account.problems == []
    raised = set(re.findall(r"alarm raised .*?alert (\S+?)\"", plant.rig.monitor.log))
    assert raised
    assert raised <= {alert["alert_id"] for alert in alerts}, "every alarm that the log tells of was told"
    record(
        Row(
            fault="all of the above, one after the other",
            seen="",
            due=account.due,
            delivered=account.delivered,
            duplicated=account.duplicated,
        )
    )


def _plain(sentence: str) -> str:
    """Without the port, which is another at each run."""
    return re.sub(r"rtsp://127\.0\.0\.1:\d+", "rtsp://…", sentence).replace(str(Path.cwd()), "…")
