"""H.264 access units as RTP packets (RFC 6184, packetisation mode 1), and sender reports (RFC 3550). No I/O.

Annex B: an access unit is NAL units with start codes (00 00 01) before each.
"""

from __future__ import annotations

import base64
import secrets
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

CLOCK_HZ = 90_000
PAYLOAD_TYPE = 96
LARGEST_PACKET = 1400
"""Bytes of an RTP packet with its header: fits an Ethernet frame with room for tunnels."""
_HEADER = struct.Struct(">BBHII")
_SPS, _PPS, _FU_A = 7, 8, 28
_NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900, where NTP time starts, to 1970."""


def nal_units(access_unit: bytes) -> list[bytes]:
    """The NAL units of an Annex B access unit, without start codes. No start code: no units."""
    # A NAL unit never ends with a zero byte, so zeros before a start code belong to the start code.
    parts = access_unit.split(b"\x00\x00\x01")[1:]
    return [unit for part in parts if (unit := part.rstrip(b"\x00"))]


def fragments(unit: bytes, most: int) -> Iterator[bytes]:
    """A NAL unit as RTP payloads of at most ``most`` bytes: itself, or FU-A fragments (RFC 6184, 5.8)."""
    if len(unit) <= most:
        yield unit
        return
    indicator, kind = (unit[0] & 0xE0) | _FU_A, unit[0] & 0x1F
    step = most - 2
    for start in range(1, len(unit), step):
        first, last = start == 1, start + step >= len(unit)
        yield bytes((indicator, kind | (0x80 if first else 0) | (0x40 if last else 0))) + unit[start : start + step]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSets:
    """A stream's sequence and picture parameter sets, one NAL unit each, without start codes."""

    sps: bytes
    pps: bytes

    @classmethod
    def among(cls, units: Iterable[bytes]) -> ParameterSets | None:
        """The last sets among the NAL units; None unless both kinds are there."""
        found = {unit[0] & 0x1F: unit for unit in units}
        sps, pps = found.get(_SPS, b""), found.get(_PPS, b"")
        return cls(sps=sps, pps=pps) if len(sps) >= 4 and pps else None

    @property
    def fmtp(self) -> str:
        """The format parameters of an SDP (RFC 6184, 8.1)."""
        sprop = ",".join(base64.b64encode(unit).decode() for unit in (self.sps, self.pps))
        return f"packetization-mode=1;profile-level-id={self.sps[1:4].hex()};sprop-parameter-sets={sprop}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Burst:
    """The RTP packets of one access unit; the same bytes go to every client."""

    packets: tuple[bytes, ...]
    keyframe: bool

    @cached_property
    def usual(self) -> bytes:
        """All packets interleaved on channel 0, which nearly every TCP client asks for: joined once for all."""
        return interleaved(0, self.packets)


def interleaved(channel: int, packets: Iterable[bytes]) -> bytes:
    """Packets as they travel in the RTSP connection (RFC 2326, 10.12)."""
    return b"".join(part for packet in packets for part in (struct.pack(">cBH", b"$", channel, len(packet)), packet))


class Packetiser:
    """Numbers a mount's packets. All clients share the numbers, so a client from whom an access unit was withheld
    sees the loss in its sequence numbers, as it would on a real network."""

    def __init__(self) -> None:
        self.ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(16)
        self._offset = secrets.randbits(31) | 1
        self._timestamp = self._offset
        self._packets = self._octets = 0

    def burst(self, units: Iterable[bytes], pts_90k: int, keyframe: bool) -> Burst:
        """The packets of one access unit; the last one carries the marker."""
        self._timestamp = (pts_90k + self._offset) & 0xFFFFFFFF
        payloads = [piece for unit in units for piece in fragments(unit, LARGEST_PACKET - _HEADER.size)]
        packets = []
        for number, payload in enumerate(payloads, 1):
            marker = 0x80 if number == len(payloads) else 0
            header = _HEADER.pack(0x80, marker | PAYLOAD_TYPE, self._sequence, self._timestamp, self.ssrc)
            self._sequence = (self._sequence + 1) & 0xFFFF
            packets.append(header + payload)
        self._packets += len(packets)
        self._octets += sum(map(len, payloads))
        return Burst(packets=tuple(packets), keyframe=keyframe)

    def report(self, wall_s: float) -> bytes:
        """A sender report, which says that the last burst belongs to ``wall_s``, with a CNAME."""
        ntp = int((wall_s + _NTP_EPOCH_S) * 2**32) & 0xFFFF_FFFF_FFFF_FFFF
        counts = (self._packets & 0xFFFFFFFF, self._octets & 0xFFFFFFFF)
        sender = struct.pack(">BBHIQIII", 0x80, 200, 6, self.ssrc, ntp, self._timestamp, *counts)
        name = b"\x01\x05stage\x00"  # an item (CNAME, its length, its text) and the list's end: 8 bytes
        return sender + struct.pack(">BBHI", 0x81, 202, 1 + len(name) // 4, self.ssrc) + name
