"""Something at the broker's port that speaks MQTT badly, each connection in another way, from a seed."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

CONNACK = b"\x20\x02\x00\x00"
UNKNOWN_MIDS = range(40_000, 65_536)
"""What the publisher never used here: an honest number would be an acknowledgement that a broker has to stand by."""


def packet(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A control packet; ``length`` lies about its body's."""
    rest, spelled = len(body) if length is None else length, bytearray()
    while True:
        rest, seven = divmod(rest, 128)
        spelled.append(seven | (0x80 if rest else 0))
        if not rest:
            return bytes([kind]) + bytes(spelled) + body


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 400))


def wrong_connack(chance: random.Random) -> bytes:
    return packet(0x20, chance.randbytes(chance.choice((0, 1, 2, 3, 60))))


def endless_length(chance: random.Random) -> bytes:
    return CONNACK + bytes([chance.randrange(256)]) + b"\xff" * chance.randrange(4, 9)


def huge_publish(chance: random.Random) -> bytes:
    """It claims up to 256 MB, sends one, and goes."""
    return CONNACK + packet(0x30, b"\x00\x01a" + bytes(1_000_000), chance.choice((1_000_003, 200_000_000, 268_435_455)))


def unknown_acknowledgements(chance: random.Random) -> bytes:
    kinds = (0x40, 0x50, 0x62, 0x70, 0x90, 0xB0)
    mids = (chance.choice(UNKNOWN_MIDS).to_bytes(2, "big") for _ in range(50))
    return CONNACK + b"".join(packet(chance.choice(kinds), mid + chance.randbytes(chance.randrange(3))) for mid in mids)


def malformed(chance: random.Random) -> bytes:
    """Packets of any kind whose bodies are noise: topics that are no UTF-8, lengths that point beyond the end."""
    made = []
    for _ in range(20):
        kind = chance.randrange(256)
        if kind >> 4 == 4:
            continue  # an acknowledgement whose number might be honest
        made.append(packet(kind, chance.randbytes(chance.randrange(12))))
    return CONNACK + b"".join(made)


def broken_off(chance: random.Random) -> bytes:
    whole = CONNACK + packet(0x31, b"\x00\x05vad/x" + bytes(40))
    return whole[: chance.randrange(1, len(whole))]


def twice_connected(chance: random.Random) -> bytes:
    return CONNACK * chance.randrange(2, 5)


WAYS: tuple[Callable[[random.Random], bytes], ...] = (
    noise,
    wrong_connack,
    endless_length,
    huge_publish,
    unknown_acknowledgements,
    malformed,
    broken_off,
    twice_connected,
)


class BadBroker:
    """``with BadBroker(port, seed) as bad``: answers each connection badly, then hangs up or keeps silent."""

    def __init__(self, port: int, seed: int) -> None:
        self.tried: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", port))
        self._listening.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="bad broker")

    def __enter__(self) -> BadBroker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(0.3)
                way = WAYS[self.tried.total() % len(WAYS)]
                self.tried[way.__name__] += 1
                try:
                    client.recv(4096)  # its CONNECT
                    client.sendall(way(self._chance))
                    client.recv(4096)
                    self._ended.wait(self._chance.choice((0.0, 0.0, 0.05, 0.2)))
                except OSError:
                    continue
