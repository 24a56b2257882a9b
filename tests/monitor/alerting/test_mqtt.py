"""The publisher against a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import jsonschema
import pytest

from monitor.alerting.alerts import Alerts
from monitor.alerting.connection import together
from monitor.alerting.contract import AlarmState, Topics, schema
from monitor.alerting.mqtt import Publisher
from monitor.alerting.outbox import Letter, Outbox
from monitor.config import Mqtt
from monitor.flow import CameraStatus, Evidence
from tests.conftest import free_port, needs_program

from .servers import Mosquitto, Subscriber, certificates, eventually, mosquitto, subscriber, until
from .support import NOON, bag, cameras

TOPICS = Topics("vad", "plant-7")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "state" / "outbox.sqlite", wall=time.time) as box:
        yield box


def publisher(outbox: Outbox, port: int, late_per_s: float = 1000.0, **settings: Any) -> Publisher:
    latencies: list[float] = []
    made = Publisher(
        Mqtt(kind="external", port=port, **{"score_every_s": 0.2, "keepalive_s": 5, **settings}),
        TOPICS,
        outbox,
        clock=time.monotonic,
        wall=time.time,
        version="1.2.3",
        on_latency=latencies.append,
        late_per_s=late_per_s,
        timeout_s=1.0,
        backoff_s=(0.05, 0.2),
    )
    made.latencies = latencies  # type: ignore[attr-defined]
    return made


@contextlib.asynccontextmanager
async def running(it: Publisher) -> AsyncIterator[Publisher]:
    task = asyncio.create_task(it.run())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), task


def letter(number: int, payload: str = "{}") -> Letter:
    return Letter(
        alert_id="a",
        seq=number,
        kind="updated",
        topic=TOPICS.camera("gate", "alert"),
        payload=json.dumps({"schema_version": 1, "alert_id": "a", "seq": number}),
        created=NOON,
        captured_s=time.monotonic(),
    )


def seqs(listening: Subscriber) -> list[int]:
    return [payload["seq"] for payload in listening.payloads("/alert")]


def test_an_incident_reaches_a_subscriber_as_the_contract_says(broker: Mosquitto, outbox: Outbox) -> None:
    async def scenario(listening: Subscriber) -> list[float]:
        it = publisher(outbox, broker.port, home_assistant=True)
        alerts = Alerts(
            TOPICS,
            outbox,
            clock=time.monotonic,
            wall=time.time,
            request_evidence=lambda wanted: None,
            on_due=it.due,
            on_state=it.alarm,
        )
        it.configure(["gate"])
        alerts.start(cameras("gate", clear_after_s=0))
        it.status("gate", CameraStatus.OK, None, NOON)
        async with running(it):
            await eventually(lambda: it.connected)
            for number, score in enumerate([0.1, 0.9, 0.1]):
                scored = bag([score], newest=number)
                it.score(scored)
                await asyncio.to_thread(alerts.score, scored)
            raised = alerts.states()["gate"].alert_id
            assert raised is not None
            await asyncio.to_thread(alerts.evidence_done, raised, Evidence(clip="x", clip_sha256="a" * 64))
            assert await it.drain(5)
            await eventually(lambda: len(listening.payloads("/score")) >= 1)
        return it.latencies  # type: ignore[attr-defined, no-any-return]

    with subscriber(broker.port, "#") as listening:
        latencies = asyncio.run(scenario(listening))
        until(lambda: len(listening.payloads("/availability")) == 2, what="the good-bye")
        told = listening.payloads("/alert")
        assert [(x["seq"], x["kind"]) for x in told] == [(1, "raised"), (2, "updated"), (3, "ended")]
        assert [x["evidence"]["state"] for x in told] == ["pending", "ready", "ready"]
        states = [x["state"] for x in listening.payloads("/alarm")]
        assert (states[-1], set(states) <= {"calm", "raised"}) == ("calm", True)
        assert listening.payloads("/score")[0]["highest"] == 0.9
        assert [x["state"] for x in listening.payloads("/availability")] == ["online", "offline"]
        assert [x["device"]["name"] for x in listening.payloads("/config")] == ["plant-7", "plant-7 gate"]
        for what in ("alert", "alarm", "status", "score", "availability"):
            for payload in listening.payloads(f"/{what}"):
                jsonschema.validate(payload, schema(what))
                assert set(payload) <= set(schema(what)["properties"])
        assert {topic for topic, _, _ in listening.seen if topic.startswith("vad/")} == {
            "vad/plant-7/availability",
            "vad/plant-7/cameras/gate/status",
            "vad/plant-7/cameras/gate/alarm",
            "vad/plant-7/cameras/gate/score",
            "vad/plant-7/cameras/gate/alert",
        }
    # Raised has a known capture time, and so has the evidence's update not.
    assert 1 <= len(latencies) <= 2
    assert len(outbox) == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_broker_that_ends_twice_in_mid_flow_gets_every_alert_in_order(
    tmp_path: Path, outbox: Outbox, end: signal.Signals
) -> None:
    count = 150

    async def scenario(broker: Mosquitto, listening: Subscriber) -> None:
        it = publisher(outbox, broker.port)
        async with running(it):
            await eventually(lambda: it.connected)
            for number in range(1, count + 1):
                own_topic = TOPICS.camera(str(number), "alert")
                await asyncio.to_thread(outbox.commit, [replace(letter(number), topic=own_topic)], {})
                it.due()
                if number in (40, 90):
                    await asyncio.to_thread(broker.kill, end)
                if number in (60, 110):
                    await asyncio.to_thread(broker.start)
            assert await it.drain(15), it.fault
        await eventually(lambda: count in seqs(listening))

    with (
        mosquitto(tmp_path / "noting", extra="log_type all\nlog_dest stderr\n") as broker,
        subscriber(broker.port) as listening,
    ):
        asyncio.run(scenario(broker, listening))
        passed_on = list(dict.fromkeys(seqs(listening)))
        noted = (broker.folder / "mosquitto.log").read_text()
    received = re.findall(r"Received PUBLISH from vad-monitor-plant-7 .*cameras/(\d+)/alert", noted)
    assert list(dict.fromkeys(int(number) for number in received)) == list(range(1, count + 1))
    assert len(received) <= count + 2, "twice is only what was on its way at an end"
    assert passed_on == sorted(passed_on)
    # A mosquitto that is killed forgets what it had acknowledged and neither passed on nor saved: nobody
    # on our side of it can know. One that is stopped passes on everything.
    if end is signal.SIGTERM:
        assert passed_on == list(range(1, count + 1))
    assert len(outbox) == 0


def test_a_broker_that_is_down_at_the_start_is_told_of_in_one_sentence_and_everything_comes_later(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path / "late")

    async def scenario() -> None:
        it = publisher(outbox, broker.port)
        outbox.commit([letter(1), letter(2)], {})
        async with running(it):
            await eventually(lambda: it.fault is not None)
            assert it.fault == (
                f"MQTT broker 127.0.0.1:{broker.port}: nobody listens there: is the broker running, and "
                "mqtt.port right? ([Errno 111] Connection refused)"
            )
            assert not await it.drain(0.5)
            await asyncio.to_thread(broker.start)
            assert await it.drain(10)
            assert (it.connected, it.fault, it.published) == (True, None, 2)

    try:
        asyncio.run(scenario())
    finally:
        broker.kill()
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1, "said once, not at every attempt"


def test_a_wrong_password_is_a_sentence_without_the_password(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    passwords = tmp_path / "passwords"
    program = needs_program("mosquitto_passwd", "mosquitto")
    subprocess.run([program, "-c", "-b", str(passwords), "vad", "right-one"], check=True, capture_output=True)
    extra = f"allow_anonymous false\npassword_file {passwords}\n"

    async def scenario(port: int) -> None:
        it = publisher(outbox, port, username="vad", password="wrong-one")
        async with running(it):
            await eventually(lambda: it.fault is not None)
        assert it.fault is not None
        assert it.fault.startswith(f"MQTT broker 127.0.0.1:{port} refuses user 'vad'")
        assert it.fault.endswith("check mqtt.username and mqtt.password")
        right = publisher(outbox, port, username="vad", password="right-one")
        async with running(right):
            await eventually(lambda: right.connected)

    with mosquitto(tmp_path / "closed", extra=extra) as broker:
        asyncio.run(scenario(broker.port))
    assert "wrong-one" not in caplog.text
    assert "right-one" not in caplog.text


def test_an_unknown_host_is_a_sentence(outbox: Outbox) -> None:
    async def scenario() -> str | None:
        it = publisher(outbox, 1883, host="no-such-host.invalid")
        async with running(it):
            await eventually(lambda: it.fault is not None)
        return it.fault

    assert "check mqtt.host" in (asyncio.run(scenario()) or "")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("keys"))


class TestTls:
    @pytest.fixture
    def secure(self, tmp_path: Path, keys: Path) -> Iterator[Mosquitto]:
        extra = (
            f"cafile {keys}/ca.pem\ncertfile {keys}/server.pem\nkeyfile {keys}/server.key\n"
            "require_certificate true\nuse_identity_as_username true\n"
        )
        with mosquitto(tmp_path / "secure", extra=extra) as running_:
            yield running_

    def outcome(self, outbox: Outbox, port: int, **settings: Any) -> str | None:
        async def scenario() -> str | None:
            it = publisher(outbox, port, **settings)
            async with running(it):
                await eventually(lambda: it.connected or it.fault is not None)
                if it.connected:
                    outbox.commit([letter(1)], {})
                    it.due()
                    assert await it.drain(5)
                return it.fault

        return asyncio.run(scenario())

    def test_with_our_authority_and_a_client_certificate_alerts_arrive(
        self, secure: Mosquitto, keys: Path, outbox: Outbox
    ) -> None:
        options = ("--cafile", f"{keys}/ca.pem", "--cert", f"{keys}/client.pem", "--key", f"{keys}/client.key")
        with subscriber(secure.port, "vad/#", *options) as listening:
            fault = self.outcome(
                outbox,
                secure.port,
                tls=True,
                ca_file=keys / "ca.pem",
                cert_file=keys / "client.pem",
                key_file=keys / "client.key",
            )
            assert fault is None
            assert seqs(listening) == [1]

    def test_a_broker_of_another_authority_is_refused(self, secure: Mosquitto, keys: Path, outbox: Outbox) -> None:
        fault = self.outcome(outbox, secure.port, tls=True, ca_file=keys / "stranger.pem")
        assert "its certificate is not trusted: check mqtt.ca_file and mqtt.host" in (fault or "")

    def test_a_broker_whose_certificate_is_for_another_name_is_refused(
        self, secure: Mosquitto, keys: Path, outbox: Outbox
    ) -> None:
        fault = self.outcome(outbox, secure.port, host="localhost", tls=True, ca_file=keys / "ca.pem")
        assert "its certificate is not trusted: check mqtt.ca_file and mqtt.host" in (fault or "")

    def test_without_the_client_certificate_the_advice_names_it(
        self, secure: Mosquitto, keys: Path, outbox: Outbox
    ) -> None:
        fault = self.outcome(outbox, secure.port, tls=True, ca_file=keys / "ca.pem")
        assert "whether it wants a client certificate" in (fault or "")

    def test_tls_on_a_plain_port_says_so(self, broker: Mosquitto, keys: Path, outbox: Outbox) -> None:
        fault = self.outcome(outbox, broker.port, tls=True, ca_file=keys / "ca.pem")
        assert "mqtt.tls" in (fault or "")

    def test_a_certificate_file_that_is_none_is_named(self, tmp_path: Path, outbox: Outbox) -> None:
        wrong = tmp_path / "wrong.pem"
        wrong.write_text("nothing")
        fault = self.outcome(outbox, free_port(), tls=True, ca_file=wrong)
        assert f"mqtt.ca_file {wrong} cannot be used (not a usable PEM file" in (fault or "")


def test_a_broker_that_hangs_and_wakes_gets_everything_in_order(broker: Mosquitto, outbox: Outbox) -> None:
    async def scenario(listening: Subscriber) -> None:
        it = publisher(outbox, broker.port)
        async with running(it):
            await eventually(lambda: it.connected)
            broker.signal(signal.SIGSTOP)
            for number in range(1, 6):
                outbox.commit([letter(number)], {})
                it.due()
            began_s = time.monotonic()
            await eventually(lambda: it.fault is not None, 6, "noticing")
            assert time.monotonic() - began_s < 5
            assert not it.connected
            broker.signal(signal.SIGCONT)
            assert await it.drain(15), it.fault
        await eventually(lambda: 5 in seqs(listening))

    with subscriber(broker.port) as listening:
        asyncio.run(scenario(listening))
        got = seqs(listening)
    assert list(dict.fromkeys(got)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("when", ["connecting", "connected"])
def test_the_end_does_not_wait_for_a_broker_that_hangs(broker: Mosquitto, outbox: Outbox, when: str) -> None:
    async def scenario() -> float:
        it = publisher(outbox, broker.port)
        if when == "connecting":
            broker.signal(signal.SIGSTOP)
        task = asyncio.create_task(it.run())
        if when == "connected":
            await eventually(lambda: it.connected)
            broker.signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)
        began_s = time.monotonic()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return time.monotonic() - began_s

    try:
        assert asyncio.run(scenario()) < 5
    finally:
        broker.signal(signal.SIGCONT)


def test_retained_states_are_told_again_to_a_broker_that_forgot_them(tmp_path: Path, outbox: Outbox) -> None:
    broker = Mosquitto(tmp_path / "broker")
    broker.start()

    def forget() -> None:
        broker.kill()
        (broker.folder / "mosquitto.db").unlink(missing_ok=True)
        broker.start()

    async def scenario() -> None:
        it = publisher(outbox, broker.port)
        async with running(it):
            it.configure(["gate"])
            it.status("gate", CameraStatus.LOST, "no frame for 10 s", NOON)
            it.alarm(AlarmState(camera="gate", raised=True, alert_id="a1"))
            assert await it.drain(5)
            await asyncio.to_thread(forget)
            await eventually(lambda: it.connected)
            assert await it.drain(5)

            def look() -> dict[str, Any]:
                with subscriber(broker.port) as listening:
                    time.sleep(0.3)
                    return {topic: json.loads(text) for topic, kept, text in listening.seen if kept}

            kept = await asyncio.to_thread(look)
        assert kept["vad/plant-7/cameras/gate/status"]["reason"] == "no frame for 10 s"
        assert kept["vad/plant-7/cameras/gate/alarm"]["alert_id"] == "a1"
        assert kept["vad/plant-7/availability"]["state"] == "online"

    try:
        asyncio.run(scenario())
    finally:
        broker.kill()


def test_what_is_retained_of_removed_cameras_is_cleared_also_after_a_restart(broker: Mosquitto, outbox: Outbox) -> None:
    async def life(*names: str, then: tuple[str, ...] | None = None) -> None:
        it = publisher(outbox, broker.port, home_assistant=True)
        it.configure(names)
        for name in names:
            it.alarm(AlarmState(camera=name))
        async with running(it):
            assert await it.drain(5)
            if then is not None:
                it.configure(then)
                it.alarm(AlarmState(camera="yard"))  # a late word of a camera that is gone
                assert await it.drain(5)

    def retained() -> set[str]:
        with subscriber(broker.port, "#") as listening:
            time.sleep(0.3)
            return {topic for topic, kept, _ in listening.seen if kept and "/alarm" in topic}

    asyncio.run(life("gate", "yard", "hall", then=("gate", "hall")))
    assert retained() == {f"vad/plant-7/cameras/{name}/alarm" for name in ("gate", "hall")}
    asyncio.run(life("gate"))
    assert retained() == {"vad/plant-7/cameras/gate/alarm"}
    assert {topic.split("/")[-1] for topic in outbox.retained()} == {"availability", "alarm", "config"}


def test_scores_are_rate_limited_and_keep_the_highest(broker: Mosquitto, outbox: Outbox) -> None:
    async def scenario(listening: Subscriber) -> None:
        it = publisher(outbox, broker.port, score_every_s=0.3)
        async with running(it):
            await eventually(lambda: it.connected)
            await asyncio.sleep(0.05)
            for number, score in enumerate([0.2, 0.8, 0.3]):
                it.score(bag([score], newest=number))
            await eventually(lambda: len(listening.payloads("/score")) == 1)
            await asyncio.sleep(0.4)

    with subscriber(broker.port) as listening:
        asyncio.run(scenario(listening))
        (score,) = listening.payloads("/score")
    assert (score["score"], score["highest"]) == (0.3, 0.8)


def test_the_end_comes_whenever_it_is_asked_for(broker: Mosquitto, outbox: Outbox) -> None:
    """Found by chance: a cancellation that met an acknowledgement was swallowed, and the monitor did not end."""

    async def life(after_s: float) -> None:
        it = publisher(outbox, broker.port)
        task = asyncio.create_task(it.run())
        await asyncio.sleep(after_s)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=8)
        assert done, f"still running after a cancellation at {after_s * 1000:.1f} ms"

    async def scenario() -> None:
        for step in range(40):
            await life(step * 0.0004)

    asyncio.run(scenario())


def test_a_job_that_swallows_a_cancellation_is_asked_again() -> None:
    asked = 0

    async def stubborn() -> None:
        nonlocal asked
        while asked < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                asked += 1

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise aiomqtt.MqttError("gone")

    async def scenario() -> None:
        async with asyncio.timeout(5):
            await together(stubborn(), fails())

    with pytest.raises(aiomqtt.MqttError, match="gone"):
        asyncio.run(scenario())
    assert asked == 2


@pytest.mark.parametrize("busy", [False, True], ids=["silent", "each tells alerts on every connection"])
def test_two_clients_with_one_id_find_out(broker: Mosquitto, outbox: Outbox, busy: bool) -> None:
    async def scenario() -> list[str | None]:
        second = Outbox(None, wall=time.time)
        one, two = (publisher(box, broker.port, client_id="same") for box in (outbox, second))
        hints: list[str | None] = []
        numbers = itertools.count(1)

        def told() -> bool:
            if busy:
                for box, told_by in ((outbox, one), (second, two)):
                    box.commit([letter(next(numbers))], {})
                    told_by.due()
            hints.extend((one.fault, two.fault))
            return any("another client use the client id 'same'" in (hint or "") for hint in hints)

        async with running(one), running(two):
            await eventually(told)
        return hints

    asyncio.run(scenario())


def test_the_default_client_id_is_completed_by_the_site(outbox: Outbox) -> None:
    assert publisher(outbox, 1).client_id == "vad-monitor-plant-7"
    assert publisher(outbox, 1, client_id="mine").client_id == "mine"


def test_what_waited_for_the_broker_is_marked_late_and_announced(broker: Mosquitto, outbox: Outbox) -> None:
    def letter(number: int, ago_s: float) -> Letter:
        payload = json.dumps({"schema_version": 1, "alert_id": f"a{number}"})
        topic = TOPICS.camera("gate", "alert")
        created = time.time() - ago_s
        return Letter(alert_id=f"a{number}", seq=1, kind="raised", topic=topic, payload=payload, created=created)

    outbox.commit([letter(1, 7200.0), letter(2, 45.0), letter(3, 1.0)], {})

    async def scenario() -> int:
        it = publisher(outbox, broker.port)
        async with running(it):
            assert await it.drain(5)
        return it.late

    with subscriber(broker.port) as listening:
        assert asyncio.run(scenario()) == 2
        until(lambda: len(listening.payloads("/alert")) == 3)
        told = listening.payloads("/alert")
        assert [(x["alert_id"], x["late"]) for x in told] == [("a1", True), ("a2", True), ("a3", False)]
        assert 7200 <= told[0]["delayed_s"] < 7220 and 45 <= told[1]["delayed_s"] < 65
        assert listening.payloads("/availability")[0]["waiting_alerts"] == 3


def test_what_waited_comes_no_faster_than_it_may_and_what_is_new_as_fast_as_it_can(
    broker: Mosquitto, outbox: Outbox
) -> None:
    count, late_per_s = 30, 10.0
    old = [replace(letter(number), captured_s=None, created=time.time() - 3600) for number in range(1, count + 1)]
    outbox.commit(old, {})

    async def scenario() -> tuple[float, float]:
        it = publisher(outbox, broker.port, late_per_s)
        began_s = time.monotonic()
        async with running(it):
            await eventually(lambda: it.published == count, 30)
            late_s, began_s = time.monotonic() - began_s, time.monotonic()
            new = [replace(letter(number), created=time.time()) for number in range(count + 1, 2 * count + 1)]
            await asyncio.to_thread(outbox.commit, new, {})
            it.due()
            assert await it.drain(30)
            return late_s, time.monotonic() - began_s

    with subscriber(broker.port) as listening:
        late_s, new_s = asyncio.run(scenario())
        until(lambda: len(seqs(listening)) == 2 * count)
        assert seqs(listening) == list(range(1, 2 * count + 1))
        assert [one["late"] for one in listening.payloads("/alert")] == [True] * count + [False] * count
    assert late_s >= (count - 1) / late_per_s > new_s


def test_what_waits_for_its_turn_says_how_long_it_waited_in_all(broker: Mosquitto, outbox: Outbox) -> None:
    created = time.time() - 3600
    outbox.commit([replace(letter(number), captured_s=None, created=created) for number in (1, 2)], {})

    async def scenario() -> None:
        it = publisher(outbox, broker.port, late_per_s=0.5)
        async with running(it):
            await eventually(lambda: it.published == 2, 30)

    with subscriber(broker.port) as listening:
        asyncio.run(scenario())
        until(lambda: len(seqs(listening)) == 2)
        first, second = listening.payloads("/alert")
    assert second["delayed_s"] - first["delayed_s"] >= 1.9
