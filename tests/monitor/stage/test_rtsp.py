"""The RTSP server as its clients see it: libav, ffprobe, GStreamer, and a client that misbehaves.

Above 300 lines because the stories of one protocol belong together.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import av
import av.error
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.stage import clock
from monitor.stage.rtp import ParameterSets, nal_units
from monitor.stage.rtsp import Mount, RtspServer
from tests.conftest import needs_program
from tests.monitor.stage.raw import QUICK, RawClient, access_units, encode, encoder, look, play, run_program

UNITS = access_units(10)
TCP = "RTP/AVP/TCP;unicast;interleaved=0-1"


@contextlib.asynccontextmanager
async def playing(server: RtspServer, path: str = "/gate") -> AsyncIterator[Mount]:
    """A mount with a live camera on it."""
    mount = server.mount(path)
    task = asyncio.create_task(play(mount, UNITS))
    try:
        yield mount
    finally:
        task.cancel()


async def until(what: Any) -> None:
    """Waits until ``what()`` holds, 5 s at most."""
    async with asyncio.timeout(5.0):
        while not what():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_libav_sees_whole_frames_from_a_key_frame_on_and_their_time_never_jumps(transport: str) -> None:
    async def story() -> list[tuple[float | None, int]]:
        async with RtspServer() as server, playing(server):
            await asyncio.sleep(0.3)  # join in the middle of a group of pictures
            seen = await asyncio.to_thread(look, server.url("/gate"), 25, transport)
            await until(lambda: not server.connections)
            return seen

    seen = asyncio.run(story())
    # libav leaves the first picture of any RTSP stream without a time (GStreamer's server gives the same).
    assert [round(at, 3) for at, _ in seen[1:] if at is not None] == [round(n * 0.04, 3) for n in range(1, 25)]
    assert max(abs(grey - (50 + n % 10)) for n, (_, grey) in enumerate(seen)) <= 2


def test_ffprobe_reads_codec_size_and_rate() -> None:
    ffprobe = needs_program("ffprobe", "ffmpeg")

    async def story() -> tuple[int, str]:
        async with RtspServer() as server, playing(server):
            show = "stream=codec_name,width,height,r_frame_rate"
            return await run_program(ffprobe, "-v", "error", "-show_entries", show, "-of", "json", server.url("/gate"))

    code, out = asyncio.run(story())
    assert code == 0, out
    assert json.loads(out)["streams"] == [
        {"codec_name": "h264", "width": 320, "height": 180, "r_frame_rate": "25/1"},
    ]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_gstreamer_decodes_with_a_digest_password(transport: str) -> None:
    launch = needs_program("gst-launch-1.0", "gstreamer1.0-tools")

    async def story() -> tuple[int, str]:
        async with RtspServer(users={"ann": "p:%/ä"}) as server, playing(server):
            source = ("rtspsrc", f"location={server.url('/gate')}", f"protocols={transport}", "latency=0")
            login = ("user-id=ann", "user-pw=p:%/ä")
            rest = ("!", "rtph264depay", "!", "h264parse", "!", "fakesink", "num-buffers=12")
            return await run_program(launch, "-q", *source, *login, *rest)

    code, out = asyncio.run(story())
    assert code == 0, out


@pytest.mark.parametrize("schemes", [("digest", "basic"), ("digest",), ("basic",)])
def test_libav_logs_in_by_digest_and_by_basic(schemes: Any) -> None:
    async def story() -> None:
        async with RtspServer(users={"ann": "p:%/ä"}, schemes=schemes) as server, playing(server):
            url = server.url("/gate")
            known = url.replace("//", "//ann:p%3A%25%2F%C3%A4@")
            assert len(await asyncio.to_thread(look, known, 2)) == 2
            for wrong in (url, url.replace("//", "//ann:other@"), url.replace("//", "//bob:p@")):
                with pytest.raises(av.error.HTTPUnauthorizedError):
                    await asyncio.to_thread(look, wrong, 2)

    asyncio.run(story())


def test_each_wrong_request_has_its_status_and_the_connection_lives_on() -> None:
    async def story() -> list[int]:
        async with RtspServer() as server:
            server.mount("/gate").send(*UNITS[0])
            async with await RawClient.to(server.url("/gate")) as client:
                asked = [
                    await client.ask("OPTIONS", "*"),
                    await client.ask("DESCRIBE", client.base + "x"),
                    await client.ask("RECORD"),
                    await client.ask("PLAY"),
                    await client.ask("SETUP", client.base + "/trackID=0", Transport="RTP/AVP;multicast"),
                    await client.ask("SETUP", client.base + "/trackID=7", Transport=TCP),
                    await client.ask("SETUP", client.base + "/trackID=0", Transport=TCP),
                    await client.ask("PLAY", Session="other"),
                    await client.ask("GET_PARAMETER"),
                    await client.ask("TEARDOWN"),
                ]
                assert await client.reader.read() == b""
                return [status for status, _, _ in asked]

    assert asyncio.run(story()) == [200, 404, 405, 455, 461, 404, 200, 454, 200, 200]


def test_a_description_offers_the_parameter_sets_of_the_stream() -> None:
    async def story() -> tuple[dict[str, str], str]:
        async with RtspServer() as server:
            server.mount("/gate 1").send(*UNITS[0])
            async with await RawClient.to(server.url("/gate 1")) as client:
                _, headers, body = await client.ask("DESCRIBE", client.base + "?profile=1")
                return headers, body.decode().replace(str(server.port), "PORT")

    headers, sdp = asyncio.run(story())
    found = ParameterSets.among(nal_units(UNITS[0][0]))
    assert found is not None
    assert re.fullmatch(r"rtsp://127\.0\.0\.1:\d+/gate%201/", headers["Content-Base"])
    assert headers["Content-Type"] == "application/sdp"
    assert re.sub(r"o=- \d+", "o=- ID", sdp).splitlines() == [
        "v=0",
        "o=- ID 1 IN IP4 127.0.0.1",
        "s=stage",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "a=control:*",
        "a=range:npt=now-",
        "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        f"a=fmtp:96 {found.fmtp}",
        "a=control:trackID=0",
    ]


def test_a_description_waits_for_the_first_key_frame_but_not_for_ever() -> None:
    async def story() -> list[int]:
        async with RtspServer(describe_wait_s=0.3) as server:
            mount = server.mount("/gate")
            async with await RawClient.to(server.url("/gate")) as client:
                first = await client.ask("DESCRIBE")
                waiting = asyncio.create_task(client.ask("DESCRIBE"))
                await asyncio.sleep(0.1)
                mount.send(*UNITS[0])
                return [first[0], (await waiting)[0]]

    assert asyncio.run(story()) == [503, 200]


def test_a_key_frame_without_parameter_sets_gets_those_that_were_given() -> None:
    found = ParameterSets.among(nal_units(UNITS[0][0]))
    assert found is not None
    bare = b"".join(b"\x00\x00\x01" + unit for unit in nal_units(UNITS[0][0]) if unit[0] & 0x1F == 5)

    async def story() -> list[int]:
        async with RtspServer() as server:
            mount = server.mount("/gate", found)
            async with await RawClient.to(server.url("/gate")) as client:
                assert (await client.ask("DESCRIBE"))[0] == 200
                await client.start()
                mount.send(bare, 0, True)
                return [(await client.packet())[1][12] & 0x1F for _ in range(3)]

    assert asyncio.run(story()) == [7, 8, 5]


def test_pause_holds_the_stream_and_play_goes_on_at_a_key_frame_with_a_sender_report_before_long() -> None:
    async def story() -> tuple[set[int], int]:
        async with RtspServer() as server, playing(server) as mount:
            async with await RawClient.to(server.url("/gate")) as client:
                await client.start()
                channels = {(await client.packet())[0] for _ in range(8)}
                assert (await client.ask("PAUSE"))[0] == 200
                assert not mount.clients
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.packet(), 0.2)
                assert (await client.ask("PLAY"))[0] == 200
                return channels, (await client.packet())[1][12] & 0x1F

    channels, first_kind = asyncio.run(story())
    assert channels == {0, 1}
    assert first_kind == 7  # a sequence parameter set: what a key frame begins with


def test_a_client_that_reads_nothing_is_cut_off_and_another_misses_nothing() -> None:
    noise = np.random.default_rng(1).integers(1, 256, 400_000, np.uint8).tobytes()
    big = b"\x00\x00\x01\x65" + noise

    async def story() -> tuple[int, int, set[int]]:
        async with RtspServer(stuck_s=0.5) as server:
            mount = server.mount("/gate", ParameterSets(sps=b"\x67abc", pps=b"\x68a"))
            async with (
                await RawClient.to(server.url("/gate")) as slow,
                await RawClient.to(server.url("/gate")) as quick,
            ):
                await slow.start()
                await quick.start()
                sequence: set[int] = set()

                async def read() -> None:
                    while True:
                        channel, packet = await quick.packet()
                        if channel == 0:
                            sequence.add(int.from_bytes(packet[2:4], "big"))

                reading = asyncio.create_task(read())
                for number in range(60):
                    mount.send(big, number * 3600, True)
                    await asyncio.sleep(0.02)
                await until(lambda: len(mount.clients) == 1)
                await until(lambda: len(sequence) == 60 * (2 + 289))
                reading.cancel()
                return mount.sent, mount.withheld, sequence

    sent, withheld, sequence = asyncio.run(story())
    assert len(sequence) == 60 * 291
    assert withheld > 10
    assert 60 < sent < 120 - withheld + 1


def test_a_silent_udp_session_ends_and_one_that_reports_lives() -> None:
    async def story() -> tuple[int, bool]:
        async with RtspServer(timeout_s=0.6) as server, playing(server) as mount:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
                ours.bind(("127.0.0.1", 0))
                port = ours.getsockname()[1]
                async with await RawClient.to(server.url("/gate")) as client:
                    udp = f"RTP/AVP;unicast;client_port={port}-{port}"
                    _, headers, _ = await client.ask("SETUP", client.base + "/trackID=0", Transport=udp)
                    await client.ask("PLAY")
                    first, second = map(int, headers["Transport"].split("server_port=")[1].split(";")[0].split("-"))
                    assert (first % 2, second) == (0, first + 1)
                    for _ in range(4):
                        await asyncio.sleep(0.2)
                        ours.sendto(b"\x80\xc9\x00\x01abcd", ("127.0.0.1", second))
                    lived = len(mount.clients)
                    began_s = time.monotonic()
                    await client.reader.read()
                    await until(lambda: not server.connections)
                    return lived, 0.4 < time.monotonic() - began_s < 2.0

    assert asyncio.run(story()) == (1, True)


def test_a_connection_that_asks_for_nothing_ends_and_a_silent_tcp_client_that_plays_does_not() -> None:
    async def story() -> tuple[bytes, int]:
        async with RtspServer(timeout_s=0.3) as server, playing(server) as mount:
            async with (
                await RawClient.to(server.url("/gate")) as idle,
                await RawClient.to(server.url("/gate")) as player,
            ):
                await player.start()
                end = await asyncio.wait_for(idle.reader.read(), 5)
                await asyncio.sleep(0.6)
                return end, len(mount.clients)

    assert asyncio.run(story()) == (b"", 1)


def test_a_client_that_asks_without_end_and_never_reads_is_cut_off() -> None:
    async def story() -> None:
        async with RtspServer(stuck_s=0.1) as server, asyncio.timeout(10):
            async with await RawClient.to(server.url("/gate")) as client:
                with contextlib.suppress(ConnectionError):
                    while True:
                        client.writer.write(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n" * 1000)
                        await client.writer.drain()
                await until(lambda: not server.connections)

    asyncio.run(story())


def test_an_unmounted_camera_cuts_its_clients_and_is_not_found_again() -> None:
    async def story() -> int:
        async with RtspServer() as server, playing(server):
            async with await RawClient.to(server.url("/gate")) as client:
                await client.start()
                server.unmount("/gate")
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    while True:
                        await client.packet()
            async with await RawClient.to(server.url("/gate")) as again:
                return (await again.ask("DESCRIBE"))[0]

    assert asyncio.run(story()) == 404


def test_twenty_cameras_serve_three_clients_each() -> None:
    async def story() -> list[int]:
        async with RtspServer() as server, contextlib.AsyncExitStack() as stack:
            mounts = [await stack.enter_async_context(playing(server, f"/{n}")) for n in range(20)]
            clients = [
                await stack.enter_async_context(await RawClient.to(server.url(m.path))) for m in mounts for _ in "abc"
            ]
            for client in clients:
                await client.start()
            for client in clients:
                for _ in range(20):
                    await client.packet()
            return sorted({len(mount.clients) for mount in mounts})

    assert asyncio.run(story()) == [3]


def test_a_path_is_mounted_once() -> None:
    async def story() -> None:
        async with RtspServer() as server:
            server.mount("/gate")
            with pytest.raises(ValueError, match="/gate is mounted already"):
                server.mount("gate/")

    asyncio.run(story())


def test_access_units_may_come_from_another_thread() -> None:
    async def story() -> int:
        async with RtspServer() as server:
            mount = server.mount("/gate")
            async with await RawClient.to(server.url("/gate")) as client:
                await client.start()
                await asyncio.to_thread(mount.send_threadsafe, *UNITS[0])
                return (await client.packet())[1][12] & 0x1F

    assert asyncio.run(story()) == 7


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.sampled_from([b"$\x00\xff\xff", b"\r\n\r\n", b"PLAY * RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"x" * 20_000]),
            st.binary(max_size=60).map(lambda junk: b"SETUP /gate/trackID=0 RTSP/1.0\r\nCSeq: 1\r\n" + junk),
        ),
        min_size=20,
        max_size=40,
    )
)
def test_whatever_bytes_arrive_the_server_goes_on(chunks: list[bytes]) -> None:
    async def story() -> int:
        async with RtspServer() as server:
            mount = server.mount("/gate")
            async with await RawClient.to(server.url("/gate")) as player:
                await player.start()
                for chunk in chunks:
                    async with await RawClient.to(server.url("/gate")) as client:
                        client.writer.write(chunk)
                        client.writer.write_eof()
                        with contextlib.suppress(ConnectionError):  # closed before it had read everything
                            await client.reader.read()
                mount.send(*UNITS[0])
                return (await player.packet())[1][12] & 0x1F

    assert asyncio.run(story()) == 7


def delays_ms(count: int, **more: str) -> list[int]:
    """From painting a picture to having it decoded from the stream, by TCP, as libav is used by default."""
    delays: list[int] = []

    def watch(url: str) -> None:
        with av.open(url, options={"rtsp_transport": "tcp"} | QUICK | more, timeout=5.0) as container:
            container.streams.video[0].thread_count = 1
            for number, frame in enumerate(container.decode(video=0)):
                painted_ms = clock.read(frame.to_ndarray(format="rgb24"))
                assert painted_ms is not None
                if number >= 15:  # what was held while libav looked at the stream has been worked off
                    delays.append(round(time.time() * 1000) - painted_ms)
                if len(delays) == count:
                    return

    async def film(mount: Mount) -> None:
        made, number = encoder(640, 360, key_every=10), 0
        began_s = time.monotonic()
        while True:
            picture = np.full((360, 640, 3), 90, np.uint8)
            clock.paint(picture, round(time.time() * 1000))
            for unit in encode(made, picture, number * 3600):
                mount.send(*unit)
            number += 1
            await asyncio.sleep(max(0.0, began_s + number / 25 - time.monotonic()))

    async def story() -> None:
        async with RtspServer() as server:
            task = asyncio.create_task(film(server.mount("/gate")))
            await asyncio.to_thread(watch, server.url("/gate"))
            task.cancel()

    asyncio.run(story())
    return sorted(delays)


def test_a_picture_is_decoded_on_loopback_soon_after_it_was_painted() -> None:
    # Measured on two busy cores: median 46 ms, of which 40 are libav's: it ends a picture when the next one arrives.
    assert delays_ms(15)[7] < 200
