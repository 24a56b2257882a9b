"""The embedded broker, with our publisher and with mosquitto's clients."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator

import pytest

from monitor.alerting.alerts import Alerts
from monitor.alerting.broker import BrokerError, EmbeddedBroker
from monitor.alerting.contract import AlarmState
from monitor.alerting.outbox import Outbox

from .servers import Subscriber, eventually
from .support import bag, cameras
from .test_mqtt import TOPICS, letter, publisher, running, seqs

OPEN: list[Subscriber] = []


@pytest.fixture(autouse=True)
def _no_subscriber_stays() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().stop()


async def subscribed(port: int, topic: str = "vad/#", *options: str) -> Subscriber:
    OPEN.append(Subscriber(port, topic, *options))
    await eventually(OPEN[-1].ready.is_set, what="the subscription")
    return OPEN[-1]


def test_alerts_reach_a_subscriber_and_retained_states_a_later_one() -> None:
    async def scenario() -> None:
        outbox = Outbox(None, wall=time.time)
        async with EmbeddedBroker() as broker:
            assert broker.port > 0
            it = publisher(outbox, broker.port)
            it.configure(["gate"])
            first = await subscribed(broker.port)
            alerts = Alerts(TOPICS, outbox, clock=time.monotonic, wall=time.time, on_due=it.due, on_state=it.alarm)
            alerts.start(cameras("gate"))
            async with running(it):
                await eventually(lambda: it.connected)
                alerts.score(bag([0.9]))
                for number in range(2, 40):
                    outbox.commit([letter(number)], {})
                assert await it.drain(10)
                await eventually(lambda: len(seqs(first)) == 39)
                assert seqs(first) == list(range(1, 40))
                second = await subscribed(broker.port)
                # amqtt tells what is retained twice to a lasting session.
                await eventually(lambda: len(second.payloads("/alarm")) >= 1)
                assert second.payloads("/alarm")[0]["state"] == "raised"
                assert seqs(second) == []
                it.configure([])
                assert await it.drain(5)
                third = await subscribed(broker.port)
                await eventually(lambda: len(third.payloads("/availability")) >= 1)
                await asyncio.sleep(0.2)
                assert third.payloads("/alarm") == []
            await eventually(lambda: third.payloads("/availability")[-1]["state"] == "offline")

    asyncio.run(scenario())


def test_with_users_only_they_may_connect(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with EmbeddedBroker(users={"vad": "right-one", "eye": "other"}) as broker:
            wrong = publisher(Outbox(None, wall=time.time), broker.port, username="vad", password="wrong-one")
            async with running(wrong):
                await eventually(lambda: wrong.fault is not None)
            assert wrong.fault is not None
            assert "refuses user 'vad'" in wrong.fault
            nobody = publisher(Outbox(None, wall=time.time), broker.port)
            async with running(nobody):
                await eventually(lambda: nobody.fault is not None)
            right = publisher(Outbox(None, wall=time.time), broker.port, username="vad", password="right-one")
            async with running(right):
                await eventually(lambda: right.connected)
                right.alarm(AlarmState(camera="gate"))
                assert await right.drain(5)
                listening = await subscribed(broker.port, "vad/#", "-u", "eye", "-P", "other")
                await eventually(lambda: len(listening.payloads("/alarm")) >= 1)

    asyncio.run(scenario())
    assert "right-one" not in caplog.text
    assert "wrong-one" not in caplog.text


def test_without_users_it_stays_on_loopback() -> None:
    with pytest.raises(BrokerError) as caught:
        EmbeddedBroker("0.0.0.0")
    assert str(caught.value) == (
        "the embedded broker would listen on 0.0.0.0 for anybody: give it mqtt.users, or host: 127.0.0.1"
    )
    EmbeddedBroker("0.0.0.0", users={"vad": "secret"})
    EmbeddedBroker("::1")


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_sentences() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(BrokerError) as caught:
                async with EmbeddedBroker(port=port):
                    pass
            assert str(caught.value) == (
                f"the embedded broker cannot listen on 127.0.0.1:{port} (another program uses it): "
                "choose another mqtt.port"
            )
        with pytest.raises(BrokerError) as caught:
            async with EmbeddedBroker("192.0.2.1", 1883, users={"vad": "secret"}):
                pass
        assert str(caught.value) == (
            "the embedded broker cannot listen on 192.0.2.1:1883 (no address of this machine): choose another mqtt.host"
        )

    asyncio.run(scenario())


def test_nonsense_on_the_port_harms_nobody_and_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with EmbeddedBroker() as broker:
            it = publisher(Outbox(None, wall=time.time), broker.port)
            async with running(it):
                await eventually(lambda: it.connected)
                for nonsense in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff", b"\x00" * 64):
                    _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
                    writer.write(nonsense)
                    await writer.drain()
                    await asyncio.sleep(0.05)
                    writer.close()
                await asyncio.sleep(0.1)
                it.alarm(AlarmState(camera="gate"))
                assert await it.drain(5)

    asyncio.run(scenario())
    assert [r.name for r in caplog.records if r.name.startswith(("amqtt", "transitions", "asyncio"))] == []


def test_it_ends_soon_with_clients_still_connected_and_can_be_started_again() -> None:
    async def scenario() -> float:
        port = 0
        for _ in range(2):
            async with EmbeddedBroker(port=port) as broker:
                port = broker.port
                await subscribed(port)
                it = publisher(Outbox(None, wall=time.time), port)
                task = asyncio.create_task(it.run())
                await eventually(lambda it=it: it.connected)  # type: ignore[misc]
                began_s = time.monotonic()
            took_s = time.monotonic() - began_s
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return took_s

    assert asyncio.run(scenario()) < 4, "bounded, although amqtt may wait for ever"
