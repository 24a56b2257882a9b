"""A bad network between a camera and its reader: RTSP passed on, RTP over UDP lost and reordered on the way."""

from __future__ import annotations

import random
import re
import select
import socket
import threading
from types import TracebackType

_PORTS = re.compile(rb"client_port=(\d+)-(\d+)")


class LossyRelay:
    """``with LossyRelay(port) as relay``: an RTSP server at ``relay.port`` in front of the one at ``port``.

    Only the client's UDP ports in its SETUP are replaced by the relay's own, so pictures pass here; ``loss`` and
    ``reorder`` are shares of RTP packets (a reordered one comes after the next), from a seed; both may be changed
    while it runs.
    """

    def __init__(self, port: int, *, loss: float = 0.0, reorder: float = 0.0, seed: int = 1) -> None:
        self._server, self.loss, self.reorder = port, loss, reorder
        self._chance = random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="relay", daemon=True)]
        self.lost = self.reordered = 0

    def __enter__(self) -> LossyRelay:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(5)
        self._listening.close()

    def _accept(self) -> None:
        self._listening.settimeout(0.2)
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._serve, args=(client,), name="relay connection", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        ports: list[tuple[socket.socket, int]] = []
        held: bytes | None = None
        try:
            with client, socket.create_connection(("127.0.0.1", self._server), 5) as server:
                while not self._ended.is_set():
                    readable, _, _ = select.select([client, server, *(one for one, _ in ports)], [], [], 0.2)
                    for one in readable:
                        if one is client or one is server:
                            data = one.recv(65536)
                            if not data:
                                return
                            if one is client:
                                server.sendall(self._own_ports(data, ports))
                            else:
                                client.sendall(data)
                    for at, (one, to) in enumerate(ports):
                        if one in readable:
                            packet = one.recv(65536)
                            if at == 0:
                                held = self._pass_on(one, packet, to, held)
                            else:  # RTCP
                                one.sendto(packet, ("127.0.0.1", to))
        except OSError:
            return
        finally:
            for one, _ in ports:
                one.close()

    def _own_ports(self, request: bytes, ports: list[tuple[socket.socket, int]]) -> bytes:
        asked = _PORTS.search(request)
        if asked is None:
            return request
        for _ in range(2):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind(("127.0.0.1", 0))
            ports.append((one, int(asked[len(ports) + 1])))
        mine = b"client_port=%d-%d" % tuple(one.getsockname()[1] for one, _ in ports[:2])
        return request[: asked.start()] + mine + request[asked.end() :]

    def _pass_on(self, one: socket.socket, packet: bytes, to: int, held: bytes | None) -> bytes | None:
        if self._chance.random() < self.loss:
            self.lost += 1
            return held
        if held is None and self._chance.random() < self.reorder:
            self.reordered += 1
            return packet
        one.sendto(packet, ("127.0.0.1", to))
        if held is not None:
            one.sendto(held, ("127.0.0.1", to))
        return None
