"""A publisher and a broker that speaks badly: nothing is lost, nothing crashes, and a good broker gets everything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from monitor.alerting.outbox import Outbox
from tests.fuzz.broker import WAYS, BadBroker
from tests.monitor.alerting.servers import eventually, mosquitto, subscriber
from tests.monitor.alerting.test_mqtt import letter, outbox, publisher, running, seqs  # noqa: F401 - a fixture

LETTERS = 20
ROUNDS = 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_broker_that_speaks_badly_costs_no_alert_and_no_monitor(
    tmp_path: Path,
    outbox: Outbox,  # noqa: F811 - the fixture
    seed: int,
) -> None:
    unhandled: list[dict[str, Any]] = []

    async def go() -> list[int]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        for number in range(1, LETTERS + 1):
            outbox.commit([letter(number)], {})
        with mosquitto(tmp_path / "broker") as good:
            # The witness has a lasting session there, and is away while another one answers at the port.
            with subscriber(good.port, "vad/#", "-i", "witness"):
                pass
            good.kill(Signals.SIGTERM)
            it = publisher(outbox, good.port)
            async with running(it):
                with BadBroker(good.port, seed) as bad:
                    await eventually(lambda: bad.tried.total() >= ROUNDS * len(WAYS), 60, "every way of speaking badly")
                assert len(outbox) == LETTERS, "nobody acknowledged anything"
                await asyncio.to_thread(good.start)
                assert await it.drain(20), it.fault
            with subscriber(good.port, "vad/#", "-i", "witness") as heard:
                await eventually(lambda: len(set(seqs(heard))) == LETTERS, 10, "all letters")
                return list(dict.fromkeys(seqs(heard)))

    assert asyncio.run(go()) == list(range(1, LETTERS + 1))
    assert [str(context) for context in unhandled] == []
