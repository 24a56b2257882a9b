"""Tells the broker: alerts from the outbox, retained states, scores, availability.

Alerts go one by one in the order of their commit; the next is sent when the broker has acknowledged the one
before, and only then is that one's row deleted. So after any interruption a subscriber sees the last one a
second time at most, and never an order turned round. Retained states are told as they are now, not as they
were; scores are told when there is a connection, and else forgotten.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import aiomqtt

from monitor.alerting.connection import cut, losses, plain, sentence, tls_context, together
from monitor.alerting.contract import (
    SCHEMA_VERSION,
    AlarmState,
    Payload,
    Topics,
    alarm_payload,
    availability_payload,
    iso,
    picture_payload,
    rounded,
    status_payload,
)
from monitor.alerting.flood import LATE_AFTER_S
from monitor.alerting.homeassistant import discovery, site_discovery
from monitor.alerting.outbox import Outbox
from monitor.config import Mqtt
from monitor.flow import BagScore, CameraStatus

log = logging.getLogger(__name__)
_wire = log.getChild("wire")
_wire.setLevel(logging.CRITICAL)  # what paho and aiomqtt warn of, we say in our own words

_SHORT_S = 5.0
"""A connection that ends sooner than this, again and again, hints at a second client with our id."""
_GOOD_BYE_S = 2.0
_CONNECT_S = 6.0
"""paho gives up connecting after 5 s."""
_ANSWERS = 1000
"""Answers to commands that wait for the connection; the oldest go first."""
_REFUSED = 128
"""From here on a broker's answer to a subscription is a no."""
_AT_ONCE = 8
"""Retained messages on their way at once; aiomqtt warns above ten."""


class Publisher:
    """One connection to one broker, for as long as ``run`` runs.

    ``status``, ``alarm``, ``score``, ``due``, ``configure`` may be called from any thread and return at once.
    ``timeout_s`` bounds every wait for the broker; ``on_latency`` hears, for each acknowledged alert of
    this life, the seconds from the capture of its segment to the acknowledgement. ``late_per_s``: alerts that are late
    go no faster, for brokers drop what a slow subscriber does not take (mosquitto: above 1,000 messages).
    """

    def __init__(
        self,
        settings: Mqtt,
        topics: Topics,
        outbox: Outbox,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        version: str,
        on_latency: Callable[[float], None] = lambda _: None,
        late_per_s: float = 50.0,
        timeout_s: float = 10.0,
        backoff_s: tuple[float, float] = (1.0, 30.0),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._outbox = outbox
        self._clock = clock
        self._wall = wall
        self._version = version
        self._on_latency = on_latency
        self._late_every_s = 1 / late_per_s
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._jitter = jitter
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = asyncio.Event()
        self._stale = asyncio.Event()
        self._retained: dict[str, Payload | None] = {}
        self._told: dict[str, Payload | None] = {}
        self._scores: dict[str, Payload] = {}
        self._answers: deque[tuple[str, Payload]] = deque(maxlen=_ANSWERS)
        self._answered = asyncio.Event()
        self.on_command: Callable[[str, bytes, bool], None] | None = None
        """Hears, on the event loop, each message of a command topic: topic, payload, whether it was retained. Set
        before ``run``; None: we subscribe to nothing."""
        self._cameras: frozenset[str] | None = None
        self.connected = False
        self.fault: str | None = None
        """Why it is not connected, in a sentence without secrets; None while it is."""
        self.published = 0
        """Alerts acknowledged in this life."""
        self.late = 0
        """Those of them that were late."""

    @property
    def name(self) -> str:
        return f"MQTT broker {self._settings.host}:{self._settings.port}"

    @property
    def client_id(self) -> str:
        """The configured one; the default is completed by the site, for two sites may share a broker."""
        given = self._settings.client_id
        return f"{given}-{self._topics.site}" if given == "vad-monitor" else given

    # -- what others tell us, from any thread ------------------------------------------------------

    def due(self) -> None:
        """The outbox has a new letter."""
        self._from_any_thread(self._due.set)

    def status(self, camera: str, status: CameraStatus, reason: str | None, since_wall_s: float) -> None:
        payload = status_payload(self._topics.site, camera, status, reason, since_wall_s)
        self._from_any_thread(self._keep, self._topics.camera(camera, "status"), payload, camera)

    def picture(self, camera: str, **said: Any) -> None:
        """What ``picture_payload`` takes."""
        payload = picture_payload(self._topics.site, camera, **said)
        self._from_any_thread(self._keep, self._topics.camera(camera, "picture"), payload, camera)

    def alarm(self, state: AlarmState) -> None:
        payload = alarm_payload(self._topics.site, state)
        self._from_any_thread(self._keep, self._topics.camera(state.camera, "alarm"), payload, state.camera)

    def canary(self, payload: Payload | None) -> None:
        """How the last run of the canary went; None: there is no canary."""
        self._from_any_thread(self._keep, self._topics.canary, payload)

    def told_canary(self, payload: Payload) -> bool:
        """Whether the broker has acknowledged it on this connection."""
        return self.connected and self._told.get(self._topics.canary) == payload

    def score(self, bag: BagScore) -> None:
        """The newest published segment of a bag; at most one message per camera in ``score_every_s``."""
        published = [index for index in sorted(bag.published) if bag.times[index] is not None]
        times = bag.times[published[-1]] if published else None
        if times is None:
            return
        newest = published[-1]
        payload = {
            "schema_version": SCHEMA_VERSION,
            "site": self._topics.site,
            "camera": bag.camera,
            "score": rounded(bag.scores_N[newest]),
            "highest": rounded(max(bag.scores_N[index] for index in published)),
            "long_term": rounded(bag.long_term_N[newest]),
            "short_term": rounded(bag.short_term_N[newest]),
            "bridged": bag.bridged,
            "captured_at": iso(times.captured_wall_s),
        }
        self._from_any_thread(self._keep_score, bag.camera, payload)

    def answer(self, topic: str, payload: Payload) -> None:
        """To a command; may be lost with the connection, as the command may."""
        self._from_any_thread(self._keep_answer, topic, payload)

    def configure(self, cameras: Iterable[str]) -> None:
        """The cameras there are; what is retained of others is cleared, also if a former life left it."""
        self._from_any_thread(self._configure, frozenset(cameras))

    def _from_any_thread(self, call: Callable[..., None], *arguments: object) -> None:
        loop = self._loop
        if loop is None:
            call(*arguments)
            return
        try:
            loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed: the monitor ends, and the outbox keeps what matters
            return

    def _keep(self, topic: str, payload: Payload | None, camera: str | None = None) -> None:
        if camera is not None and self._cameras is not None and camera not in self._cameras:
            return
        self._retained[topic] = payload
        self._stale.set()

    def _keep_score(self, camera: str, payload: Payload) -> None:
        if self._cameras is not None and camera not in self._cameras:
            return
        waiting = self._scores.get(camera)
        if waiting is not None:
            payload["highest"] = max(payload["highest"], waiting["highest"])
        self._scores[camera] = payload

    def _keep_answer(self, topic: str, payload: Payload) -> None:
        self._answers.append((topic, payload))
        self._answered.set()

    def _configure(self, cameras: frozenset[str]) -> None:
        self._cameras = cameras
        ours = {self._topics.availability, self._topics.canary, self._topics.incident}
        if self._settings.home_assistant:
            topic, payload = site_discovery(self._topics, self._version)
            ours.add(topic)
            self._keep(topic, payload)
        for name in cameras:
            ours |= {self._topics.camera(name, what) for what in ("status", "picture", "alarm")}
            if self._settings.home_assistant:
                topic, payload = discovery(self._topics, name, self._version)
                ours.add(topic)
                self._keep(topic, payload)
        for topic in (self._outbox.retained() | set(self._retained)) - ours:
            self._keep(topic, None)
        self._scores = {name: payload for name, payload in self._scores.items() if name in cameras}

    # -- the connection's life ---------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. A broker's fault ends a connection, never this."""
        self._loop = asyncio.get_running_loop()
        failures = short = 0
        while True:
            began_s, acknowledged = self._clock(), self.published
            worked, fault = await self._run_once()
            if worked:
                lasted = self._clock() - began_s > _SHORT_S
                if lasted or self.published > acknowledged:
                    failures = 0
                # Two clients that take a client id from each other publish meanwhile: what was sent proves nothing.
                short = 0 if lasted else short + 1
            if short >= 3:
                fault += f"; does another client use the client id '{self.client_id}'?"
            wait_s = min(self._backoff_s[0] * 2.0**failures, self._backoff_s[1]) * (0.5 + self._jitter() / 2)
            failures = min(failures + 1, 16)
            if fault != self.fault:
                log.warning("%s; trying again in %.1f s and on until it works", fault, wait_s)
            self.fault = fault
            await asyncio.sleep(wait_s)

    async def drain(self, timeout_s: float) -> bool:
        """Waits until every alert is acknowledged and every retained state told; False if that took
        longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(0)  # what other threads have just told us is still on its way
                while not self.connected or len(self._outbox) > 0 or self._stale_topics():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True

    async def _run_once(self) -> tuple[bool, str]:
        """One connection until it breaks: whether it ever worked, and why it ended."""
        connected_s = self._wall()
        try:
            client = await self._connect(connected_s)
        except (aiomqtt.MqttError, OSError) as fault:
            return False, sentence(self._settings, fault, worked=False)
        try:
            self._told.clear()
            self._scores.clear()  # of before the connection: nobody wants old news at once
            await together(self._watch(client), self._work(client, connected_s))
            raise aiomqtt.MqttError("ended")  # neither returns
        except (aiomqtt.MqttError, OSError) as fault:
            return self.connected, sentence(self._settings, fault, worked=self.connected)
        except asyncio.CancelledError:
            await self._good_bye(client, connected_s)
            raise
        finally:
            self.connected = False
            await self._close(client)

    async def _work(self, client: aiomqtt.Client, connected_s: float) -> None:
        await self._online(client, connected_s)
        self.connected, self.fault = True, None
        log.info("%s: connected, %d alerts waiting", self.name, len(self._outbox))
        if self.on_command is not None:
            await self._subscribe(client)
        await together(
            self._send_alerts(client),
            self._send_retained(client),
            self._send_scores(client),
            self._send_answers(client),
        )

    def _client(self, connected_s: float) -> aiomqtt.Client:
        will = availability_payload(self._topics.site, "offline", "connection lost", connected_s, self._version)
        return aiomqtt.Client(
            self._settings.host,
            self._settings.port,
            username=self._settings.username,
            password=plain(self._settings.password),
            identifier=self.client_id,
            clean_session=True,
            keepalive=self._settings.keepalive_s,
            timeout=self._timeout_s,
            logger=_wire,
            will=aiomqtt.Will(self._topics.availability, json.dumps(will), qos=1, retain=True),
            tls_context=tls_context(self._settings),
        )

    async def _connect(self, connected_s: float) -> aiomqtt.Client:
        client = self._client(connected_s)
        lost = losses(client)
        # aiomqtt connects in a thread that nothing can interrupt: a cancellation waits for it, within bounds.
        opening = asyncio.ensure_future(client.__aenter__())
        try:
            await asyncio.shield(opening)
            if lost.done():
                raise aiomqtt.MqttError("it hung up as soon as it had answered")
        except BaseException:
            await asyncio.wait({opening}, timeout=_CONNECT_S)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            cut(client)
            raise
        return client

    async def _close(self, client: aiomqtt.Client) -> None:
        """Ends the connection as politely as ``_GOOD_BYE_S`` allows; what the broker says to that is not asked.

        In a task of its own: asyncio.wait_for, which aiomqtt uses, may swallow a cancellation in Python 3.11.
        """
        closing = asyncio.ensure_future(client.__aexit__(None, None, None))
        try:
            await asyncio.wait({closing}, timeout=_GOOD_BYE_S)
        finally:
            closing.cancel()
            cut(client)
        await asyncio.gather(closing, return_exceptions=True)

    async def _online(self, client: aiomqtt.Client, connected_s: float) -> None:
        await asyncio.to_thread(self._outbox.remember_retained, [self._topics.availability])
        payload = availability_payload(self._topics.site, "online", None, connected_s, self._version)
        payload["waiting_alerts"] = len(self._outbox)
        await client.publish(self._topics.availability, self._dated(payload), qos=1, retain=True)

    async def _good_bye(self, client: aiomqtt.Client, connected_s: float) -> None:
        """Says offline itself: after an orderly end the broker does not send the last will."""
        payload = availability_payload(self._topics.site, "offline", "monitor stopped", connected_s, self._version)
        try:
            await client.publish(
                self._topics.availability, self._dated(payload), qos=1, retain=True, timeout=_GOOD_BYE_S
            )
        except aiomqtt.MqttError as fault:
            log.info("%s: no good-bye (%s)", self.name, fault)

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        """On each connection anew: our session is a clean one, so that no old command waits in it."""
        granted = await client.subscribe(self._topics.commands, qos=1)
        codes = [code if isinstance(code, int) else code.value for code in granted]
        if any(code >= _REFUSED for code in codes):
            log.warning("%s: refuses us the topic %s: no command will come", self.name, self._topics.commands)

    async def _watch(self, client: aiomqtt.Client) -> None:
        """Commands, where there are any. Ends only with the connection, with an error."""
        async for message in client.messages:
            if self.on_command is not None and isinstance(message.payload, bytes):
                self.on_command(message.topic.value, message.payload, message.retain)

    # -- what is told ------------------------------------------------------------------------------

    async def _send_alerts(self, client: aiomqtt.Client) -> None:
        next_late_s = 0.0
        while True:
            self._due.clear()
            letter = await asyncio.to_thread(self._outbox.first)
            if letter is None:
                await self._due.wait()
                continue
            payload, retain = json.loads(letter.payload), letter.kind == "incident"
            if letter.kind != "verdict":
                late = self._wall() - letter.created > LATE_AFTER_S
                if late:
                    await asyncio.sleep(next_late_s - self._clock())
                    next_late_s = self._clock() + self._late_every_s
                payload["delayed_s"] = round(max(0.0, self._wall() - letter.created), 1)
                payload["late"] = late
            if retain:
                await asyncio.to_thread(self._outbox.remember_retained, [letter.topic])
            await client.publish(letter.topic, self._dated(payload), qos=1, retain=retain)
            self.late += bool(payload.get("late"))
            if letter.captured_s is not None:
                self._on_latency(self._clock() - letter.captured_s)
            await asyncio.to_thread(self._outbox.acknowledged, letter)
            self.published += 1

    def _stale_topics(self) -> list[str]:
        return [
            topic
            for topic, payload in self._retained.items()
            if topic not in self._told or self._told[topic] != payload
        ]

    async def _send_retained(self, client: aiomqtt.Client) -> None:
        while True:
            self._stale.clear()
            stale = self._stale_topics()
            if not stale:
                await self._stale.wait()
                continue
            new = [topic for topic in stale if self._retained[topic] is not None]
            await asyncio.to_thread(self._outbox.remember_retained, new)
            for start in range(0, len(stale), _AT_ONCE):
                await together(*(self._send_one(client, topic) for topic in stale[start : start + _AT_ONCE]))

    async def _send_one(self, client: aiomqtt.Client, topic: str) -> None:
        payload = self._retained.get(topic)
        await client.publish(topic, None if payload is None else self._dated(payload), qos=1, retain=True)
        self._told[topic] = payload
        if payload is None and self._retained.get(topic) is None:
            self._retained.pop(topic, None)
            self._told.pop(topic, None)
            await asyncio.to_thread(self._outbox.forget_retained, topic)

    async def _send_answers(self, client: aiomqtt.Client) -> None:
        while True:
            self._answered.clear()
            while self._answers:
                topic, payload = self._answers.popleft()
                await client.publish(topic, self._dated(payload), qos=1)
            await self._answered.wait()

    async def _send_scores(self, client: aiomqtt.Client) -> None:
        while True:
            await asyncio.sleep(self._settings.score_every_s)
            waiting, self._scores = self._scores, {}
            for camera, payload in waiting.items():
                await client.publish(self._topics.camera(camera, "score"), self._dated(payload), qos=0)

    def _dated(self, payload: Payload) -> str:
        """JSON, with the publish time where the payload is of our contract (Home Assistant's is not)."""
        if "schema_version" in payload:
            payload = {**payload, "published_at": iso(self._wall())}
        return json.dumps(payload, ensure_ascii=False)
