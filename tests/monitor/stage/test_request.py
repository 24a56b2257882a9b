"""Requests out of bytes: however they are cut, whatever they are."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.stage.request import BadRequest, Gate, Inbox, Interleaved, Request, Route, path_of, route_of

SETUP = (
    b"SETUP rtsp://h:1/gate%201/trackID=0?x=y RTSP/1.0\r\nCSeq: 3\r\n"
    + b"transport:  RTP/AVP;unicast;client_port=4-5\r\n\r\n"
)
STREAM = (
    SETUP
    + b"$\x01\x00\x03abc\r\n"
    + b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 4\r\nContent-Length: 4\r\n\r\nbody"
    + b"$\x00\x00\x00"
)
PARTS = [
    Request(
        method="SETUP",
        url="rtsp://h:1/gate%201/trackID=0?x=y",
        path="/gate 1/trackID=0",
        cseq=3,
        headers={"cseq": "3", "transport": "RTP/AVP;unicast;client_port=4-5"},
    ),
    Interleaved(channel=1, payload=b"abc"),
    Request(
        method="SET_PARAMETER", url="*", path="/*", cseq=4, headers={"cseq": "4", "content-length": "4"}, body=b"body"
    ),
    Interleaved(channel=0, payload=b""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_requests_and_packets_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    inbox, found = Inbox(), []
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in itertools.pairwise(edges):
        found += list(inbox.feed(STREAM[begin:end]))
    assert found == PARTS


line = st.one_of(
    st.sampled_from(b"SETUP| |*|rtsp://[|rtsp://h/a| RTSP/1.0\r\n|CSeq: 1\r\n|\r\n|\r\n\r\n|$|:|\x00".split(b"|")),
    st.sampled_from([b"Content-Length: 99999999\r\n", b"Content-Length: 2\r\n", b"CSeq: \xc2\xb2\r\n"]),
    st.binary(max_size=40),
)


@given(st.lists(line, max_size=30), st.integers(1, 50))
def test_any_bytes_are_requests_or_packets_or_a_bad_request(parts: list[bytes], step: int) -> None:
    data, inbox = b"".join(parts), Inbox()
    try:
        for begin in range(0, len(data), step):
            for found in inbox.feed(data[begin : begin + step]):
                assert isinstance(found, Request | Interleaved)
    except BadRequest as refused:
        assert str(refused)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "the first line is no RTSP/1.0 request"),
        (b"PLAY * RTSP/1.0\r\n\r\n", "cseq must be a number up to 4294967296"),
        (b"PLAY * RTSP/1.0\r\nCSeq: 1\r\nnonsense\r\n\r\n", "a header has no colon"),
        (b"PLAY rtsp://[/ RTSP/1.0\r\nCSeq: 1\r\n\r\n", "the URL cannot be read"),
        (b"PLAY \xff RTSP/1.0\r\nCSeq: 1\r\n\r\n", "the request is not text"),
        (b"PLAY * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 65537\r\n\r\n", "content-length must be a number up to 65536"),
        (b"x" * 16385, "no request within 16384 bytes"),
    ],
)
def test_a_bad_request_says_what_is_wrong(data: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        list(Inbox().feed(data))


@pytest.mark.parametrize(
    ("header", "route"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=2-3", Route(tcp=True, rtp=2, rtcp=3)),
        ("RTP/AVP/TCP", Route(tcp=True, rtp=0, rtcp=1)),
        ("RTP/AVP;unicast;client_port=5000-5001", Route(tcp=False, rtp=5000, rtcp=5001)),
        ("RTP/AVP/UDP; unicast; client_port=5000", Route(tcp=False, rtp=5000, rtcp=5001)),
        ("RTP/AVP;multicast, RTP/SAVP;unicast;client_port=1-2, RTP/AVP/TCP;unicast", Route(tcp=True, rtp=0, rtcp=1)),
        ("RTP/AVP;multicast", None),
        ("RTP/AVP;unicast", None),
        ("RTP/AVP;unicast;client_port=65535", None),
        ("RTP/AVP/TCP;interleaved=255-256", None),
        ("", None),
    ],
)
def test_the_first_transport_that_can_be_served_is_chosen(header: str, route: Route | None) -> None:
    assert route_of(header) == route


@given(st.text(max_size=60))
def test_any_text_is_a_path_or_a_bad_request_and_a_route_or_none(text: str) -> None:
    route_of(text)
    with contextlib.suppress(BadRequest):
        assert path_of(text).startswith("/")


def request(authorization: str) -> Request:
    return Request(method="PLAY", url="rtsp://h/a", path="/a", cseq=1, headers={"authorization": authorization})


def digest(gate: Gate, user: str, password: str, method: str = "PLAY") -> str:
    nonce = gate.challenges()[0].split('nonce="')[1].split('"')[0]
    md5 = [hashlib.md5(text.encode()).hexdigest() for text in (f"{user}:stage:{password}", f"{method}:rtsp://h/a")]
    response = hashlib.md5(f"{md5[0]}:{nonce}:{md5[1]}".encode()).hexdigest()
    return f'Digest username="{user}", realm="stage", nonce="{nonce}", uri="rtsp://h/a", response="{response}"'


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_the_gate_admits_who_knows_the_password_and_nobody_else() -> None:
    gate = Gate({"ann": "p:ä%"}, ("digest", "basic"))
    verdicts = {
        "digest": gate.admits(request(digest(gate, "ann", "p:ä%"))),
        "digest, wrong password": gate.admits(request(digest(gate, "ann", "p"))),
        "digest, unknown user": gate.admits(request(digest(gate, "bob", "p:ä%"))),
        "digest of another method": gate.admits(request(digest(gate, "ann", "p:ä%", "SETUP"))),
        "digest for another connection": gate.admits(request(digest(Gate({}, ("digest",)), "ann", "p:ä%"))),
        "basic": gate.admits(request(basic("ann:p:ä%"))),
        "basic, wrong password": gate.admits(request(basic("ann:"))),
        "basic, no base64": gate.admits(request("Basic äöü")),
        "nothing": gate.admits(request("")),
    }
    assert [name for name, admitted in verdicts.items() if admitted] == ["digest", "basic"]
    assert Gate({}, ("digest",)).admits(request(""))
    assert not Gate({"ann": "p"}, ("digest",)).admits(request(basic("ann:p")))


@given(st.text(max_size=80), st.sampled_from(["Basic ", "Digest ", "digest username=ann,nonce=", ""]))
def test_no_authorization_text_breaks_the_gate(text: str, scheme: str) -> None:
    assert Gate({"ann": "secret"}, ("digest", "basic")).admits(request(scheme + text)) is False
