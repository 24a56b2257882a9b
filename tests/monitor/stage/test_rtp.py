"""H.264 access units become RTP packets that a receiver can put together again."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from monitor.stage.client import LARGEST_BACKLOG, Client
from monitor.stage.rtp import Burst, Packetiser, ParameterSets, fragments, interleaved, nal_units

SPS, PPS = bytes.fromhex("6742c01ed9"), bytes.fromhex("68ce3880")

# NAL units: a header byte that is no fragment's, and a body that holds no start code and does not end in zero.
units = st.builds(
    lambda kind, body: bytes([0x60 | kind]) + body.replace(b"\x00", b"\x01"),
    st.integers(1, 23),
    st.binary(min_size=1, max_size=5000),
)


def joined(packets: list[bytes]) -> list[bytes]:
    """A receiver of RFC 6184: the NAL units in the packets."""
    found: list[bytes] = []
    for packet in packets:
        payload = packet[12:]
        if payload[0] & 0x1F != 28:
            found.append(payload)
        elif payload[1] & 0x80:
            found.append(bytes([payload[0] & 0xE0 | payload[1] & 0x1F]) + payload[2:])
        else:
            found[-1] += payload[2:]
    return found


def test_an_access_unit_is_split_at_its_start_codes_of_three_or_four_bytes() -> None:
    assert nal_units(b"\x00\x00\x00\x01" + SPS + b"\x00\x00\x01" + PPS + b"\x00\x00\x00\x01\x65abc") == [
        SPS,
        PPS,
        b"\x65abc",
    ]
    assert nal_units(b"no start code") == []
    assert nal_units(b"") == []


def test_a_small_nal_unit_travels_as_it_is_and_a_large_one_in_marked_fragments() -> None:
    assert list(fragments(b"\x65abcd", 5)) == [b"\x65abcd"]
    assert list(fragments(b"\x65abcdefg", 5)) == [b"\x7c\x85abc", b"\x7c\x05def", b"\x7c\x45g"]


@given(st.lists(units, min_size=1, max_size=4), st.integers(0, 2**40))
def test_any_access_unit_arrives_whole_in_packets_of_at_most_1400_bytes(sent: list[bytes], pts: int) -> None:
    packetiser = Packetiser()
    first, second = (packetiser.burst(sent, stamp, True).packets for stamp in (pts, pts + 3600))
    assert joined(list(first)) == sent
    headers = [struct.unpack(">BBHII", packet[:12]) for packet in first + second]
    assert max(map(len, first)) <= 1400
    assert [header[1] for header in headers[: len(first)]] == [96] * (len(first) - 1) + [0x80 | 96]
    assert [(header[2] - headers[0][2]) % 65536 for header in headers] == list(range(len(headers)))
    assert (headers[-1][3] - headers[0][3]) % 2**32 == 3600


def test_parameter_sets_are_found_and_described_for_an_sdp() -> None:
    found = ParameterSets.among([SPS, PPS, b"\x65abc"])
    assert found == ParameterSets(sps=SPS, pps=PPS)
    assert found.fmtp == "packetization-mode=1;profile-level-id=42c01e;sprop-parameter-sets=Z0LAHtk=,aM44gA=="
    assert ParameterSets.among([SPS, b"\x65abc"]) is None


def test_a_sender_report_ties_the_last_time_stamp_to_the_wall_clock() -> None:
    packetiser = Packetiser()
    packet = packetiser.burst([b"\x65abc"], 90_000, True).packets[0]
    report = packetiser.report(1_700_000_000.5)
    kind, length, ssrc, seconds, fraction, stamp, packets, octets = struct.unpack(">xBHIIIIII", report[:28])
    assert (kind, length, ssrc) == (200, 6, packetiser.ssrc)
    assert (seconds, fraction) == (1_700_000_000 + 2_208_988_800, 2**31)
    assert stamp == struct.unpack(">I", packet[4:8])[0]
    assert (packets, octets) == (1, 4)
    assert struct.unpack(">BBH", report[28:32]) == (0x81, 202, 3)
    assert len(report) == 28 + 16


def test_packets_are_interleaved_with_their_channel_and_length() -> None:
    assert interleaved(3, [b"ab", b"c"]) == b"$\x03\x00\x02ab$\x03\x00\x01c"


class Bench:
    """A road whose backlog the test sets."""

    transport_header = ""

    def __init__(self) -> None:
        self.waiting = 0
        self.sent: list[Burst] = []
        self.reports = 0

    def backlog(self) -> int:
        return self.waiting

    def send(self, burst: Burst) -> None:
        self.sent.append(burst)

    def send_report(self, report: bytes) -> None:
        self.reports += 1

    def close(self) -> None: ...


KEY, DELTA = Burst(packets=(b"k",), keyframe=True), Burst(packets=(b"d",), keyframe=False)


def test_a_client_starts_at_a_key_frame() -> None:
    road = Bench()
    client = Client(road, Packetiser(), 10.0, lambda: None)
    assert [client.offer(burst, 0.0) for burst in (DELTA, DELTA, KEY, DELTA)] == [False, False, True, True]
    assert road.sent == [KEY, DELTA]


def test_a_slow_client_loses_all_access_units_up_to_the_next_key_frame() -> None:
    road = Bench()
    client = Client(road, Packetiser(), 10.0, lambda: None)
    taken = []
    for waiting, burst in ((0, KEY), (LARGEST_BACKLOG, DELTA), (LARGEST_BACKLOG + 1, DELTA), (0, DELTA), (0, KEY)):
        road.waiting = waiting
        taken.append(client.offer(burst, 0.0))
    assert taken == [True, True, False, False, True]


def test_a_client_that_takes_nothing_for_its_time_is_cut_and_a_slow_one_is_not() -> None:
    road, cuts = Bench(), []
    client = Client(road, Packetiser(), 10.0, lambda: cuts.append("cut"))
    for now_s, waiting in ((0.0, 2**21), (9.0, 2**21), (9.5, 0), (9.6, 2**21), (19.5, 2**21)):
        road.waiting = waiting
        client.offer(KEY, now_s)
    assert cuts == []
    client.offer(KEY, 19.7)
    assert cuts == ["cut"]


def test_a_sender_report_follows_the_first_access_unit_and_then_one_each_five_seconds() -> None:
    road = Bench()
    client = Client(road, Packetiser(), 10.0, lambda: None)
    counts = []
    for now_s in (100.0, 104.9, 105.0, 109.0, 110.5):
        client.offer(KEY, now_s)
        counts.append(road.reports)
    assert counts == [1, 1, 2, 2, 3]
