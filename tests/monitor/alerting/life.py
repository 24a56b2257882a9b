"""A life of the alerting half of a monitor, to be killed: ``python -m tests.monitor.alerting.life PORT STATE N``.

Raises an alarm on each of N cameras, one after another, writing to its output what it has committed, then waits.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from monitor.alerting.alerts import Alerts
from monitor.alerting.outbox import Outbox
from monitor.config import AlertSettings

from .support import bag, cameras
from .test_mqtt import TOPICS, publisher


async def live(port: int, state: Path, count: int) -> None:
    names = [f"camera {number}" for number in range(40)]
    with Outbox(state, wall=time.time) as outbox:
        it = publisher(outbox, port)
        it.configure(names)
        alerts = Alerts(
            TOPICS,
            outbox,
            clock=time.monotonic,
            wall=time.time,
            on_due=it.due,
            on_state=it.alarm,
            settings=AlertSettings(),
        )
        alerts.start(cameras(*names))
        asyncio.get_running_loop().create_task(it.run(), name="mqtt")
        for name in names[:count]:
            await asyncio.to_thread(alerts.score, bag([0.9], camera=name))
            state_of = alerts.states()[name]
            print(state_of.alert_id, flush=True)
        if count == 0:
            assert await it.drain(10)
            print("drained", flush=True)
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(live(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
