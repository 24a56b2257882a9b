"""Prints each alert once, none missed while it was away. Usage: subscriber.py HOST PORT [USER] (MQTT_PASSWORD)"""

import asyncio
import json
import os
import sys

import aiomqtt


async def main(host: str, port: str, user: str | None = None) -> None:
    told: set[tuple[str, int]] = set()
    login = {"username": user, "password": os.environ.get("MQTT_PASSWORD")}
    # A name of its own and a lasting session: the broker keeps what comes while it is away.
    async with aiomqtt.Client(host, int(port), identifier="recipe", clean_session=False, **login) as client:
        await client.subscribe("vad/+/cameras/+/alert", qos=1)
        async for message in client.messages:
            alert = json.loads(message.payload)
            if (alert["alert_id"], alert["seq"]) not in told:  # at least once means: now and then twice
                told.add((alert["alert_id"], alert["seq"]))
                print(alert["site"], alert["camera"], alert["kind"], f"{alert['score']:.2f}", flush=True)


asyncio.run(main(*sys.argv[1:]))
