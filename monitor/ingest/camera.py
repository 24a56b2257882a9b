"""Opens one stream and yields its packets and frames (PyAV). Every fault becomes a sentence without
credentials."""

from __future__ import annotations

import errno
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from monitor.ingest.picture import Polygons

if TYPE_CHECKING:
    from monitor.config import Camera

DISTRUST_FRAMES = 600
"""After a decode error frames are distrusted until the next key frame, but no longer than this: a stream of
gradual refreshes has no key frames, and heals all the same."""

NEARLY = 0.9
"""What lasted so much of a time-out was ended by it, whatever the error says."""


class StreamFault(Exception):  # noqa: N818 - a fault of the stream, named by the house's word for it
    """An expected fault of a stream. ``reason`` is a word for counting, ``sentence`` says what is wrong and
    what to do."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """What a reader must know of a camera. ``url`` may hold credentials: it goes to libav only and is in no
    repr."""

    name: str
    url: str = field(repr=False)
    transport: str = "tcp"
    fps: float
    """Analysed frames per second."""
    ignore: Polygons = ()
    private: Polygons = ()
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 10.0
    frozen_after_s: float | None = 10.0
    backoff_min_s: float = 1.0
    backoff_max_s: float = 60.0
    audio: bool = False
    """Whether evidence keeps the sound: only then is it asked for."""

    @classmethod
    def of(cls, camera: Camera, fps: float, *, audio: bool = False) -> ReaderSettings:
        """Of a configured camera; ``fps`` is what the artefact wants where the camera says nothing."""
        return cls(
            name=camera.name,
            url=camera.url.path if camera.url.scheme == "file" else camera.url.secret,
            transport=camera.transport,
            fps=camera.fps or fps,
            ignore=camera.ignore,
            private=camera.private,
            connect_timeout_s=camera.connect_timeout_s,
            stall_timeout_s=camera.stall_timeout_s,
            frozen_after_s=camera.frozen_after_s,
            backoff_min_s=camera.backoff_min_s,
            backoff_max_s=camera.backoff_max_s,
            audio=audio,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stream's address, taken apart. ``scheme``: rtsp, rtsps, http, https, file or device."""

    scheme: str
    target: str = field(repr=False)
    """What libav opens."""
    host: str | None
    port: int | None
    shown: str
    """The address for people: without credentials, path or query of a network stream's secret parts."""

    @classmethod
    def of(cls, url: str) -> Source:
        if url.isdigit() or url.startswith("/dev/video"):
            target = f"/dev/video{url}" if url.isdigit() else url
            return cls(scheme="device", target=target, host=None, port=None, shown=target)
        if "://" not in url:
            return cls(scheme="file", target=url, host=None, port=None, shown=url)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise StreamFault("bad_url", "the url cannot be read: it needs the form rtsp://host:port/path") from None
        if parts.scheme == "file":
            target = unquote(parts.path)
            return cls(scheme="file", target=target, host=None, port=None, shown=target)
        if parts.scheme not in SCHEMES:
            raise StreamFault(
                "bad_url", f"streams of the kind {parts.scheme}:// cannot be read; use rtsp, http or file"
            )
        port = port or {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}[parts.scheme]
        host = parts.hostname or ""
        return cls(scheme=parts.scheme, target=url, host=host, port=port, shown=f"{parts.scheme}://{host}:{port}")


SCHEMES = {
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtp,srtp,udp,tcp,tls,crypto",
    "http": "http,httpproxy,tcp",
    "https": "https,http,httpproxy,tls,tcp,crypto",
    "file": "file",
    "device": "file",
}
"""Which protocols libav may use for a scheme: a hostile playlist must not make it read files or other hosts'
services."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """One decoded frame: ``stamp_s`` by its container (None: none), ``fault`` why it is not to be trusted."""

    frame: VideoFrame
    stamp_s: float | None
    fault: str | None


class Stream:
    """An open stream: its packets in order of arrival, and the frames in them. A context manager."""

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream,
        settings: ReaderSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._container = container
        self.video = video
        self._settings = settings
        self._clock = clock
        self._distrusted = 0
        self._healing: set[int | None] = set()
        self.decode_errors = 0
        video.codec_context.thread_count = 1
        if self.codec == "mjpeg":
            # Else broken JPEGs are shown, grey from the break on, and not flagged.
            video.codec_context.options = {"err_detect": "explode"}

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def codec(self) -> str:
        return str(self.video.codec_context.name)

    @property
    def width_px(self) -> int:
        return int(self.video.codec_context.width)

    @property
    def height_px(self) -> int:
        return int(self.video.codec_context.height)

    @property
    def nominal_s(self) -> float | None:
        """The interval between frames that the container claims, where it is believable."""
        rate = self.claimed_fps
        return 1 / rate if rate and 1 <= rate <= 120 else None

    @property
    def claimed_fps(self) -> float | None:
        """The frame rate that the container claims; many claim nonsense."""
        rate = self.video.average_rate
        return float(rate) if rate else None

    @property
    def audio(self) -> av.AudioStream | None:
        return next(iter(self._container.streams.audio), None) if self._settings.audio else None

    def packets(self) -> Iterator[Packet[Any]]:
        """Packets of all asked streams; the last ones, of size 0, make the decoder give what it still holds.

        Raises StreamFault where the stream breaks. The end of a stream is no exception: the iterator ends.
        """
        asked_s = self._clock()
        with av.logging.Capture() as logs:
            try:
                for packet in self._container.demux():
                    if not packet.size:
                        self._check_waited(asked_s)
                    self._look_for_loss(logs)
                    yield packet
                    asked_s = self._clock()
            except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
                self._check_waited(asked_s)
                raise fault_of(error, self._settings, opening=False) from None

    def _check_waited(self, asked_s: float) -> None:
        """A time-out comes as many errors, and as the end of the stream too: it is told by its duration."""
        limit_s = self._settings.stall_timeout_s
        if self._clock() - asked_s >= NEARLY * limit_s:
            raise stalled(self._settings)

    def _look_for_loss(self, logs: list[tuple[int, str, str]]) -> None:
        """Where a whole frame was lost on the way (UDP), decoders go on with the wrong reference and flag
        nothing; only libav's log tells (worker.py switches it on)."""
        if logs:
            if any("missed" in message and name == "rtsp" for _, name, message in logs):
                self._lose_trust()
            logs.clear()

    def decode(self, packet: Packet[Any]) -> list[Decoded]:
        """The frames that this packet of the video stream brings to light; corrupt ones are marked, never
        raised."""
        if packet.is_keyframe and self._distrusted:
            self._healing.add(packet.pts)
        if packet.size and (packet.is_corrupt or packet.is_discard):
            self._lose_trust()
        try:
            frames = self.video.codec_context.decode(packet if packet.size else None)
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, OSError, RuntimeError, ValueError):
            # Broken bytes. The decoder goes on with the next packet, on references that may be wrong.
            self._lose_trust()
            return []
        return [self._judge(frame, packet) for frame in frames]

    def _lose_trust(self) -> None:
        """Only a key frame that is sent after this heals: decoders give frames late, one sent before may
        still come."""
        self._count_error()
        self._healing.clear()

    def _count_error(self) -> None:
        self.decode_errors += 1
        self._distrusted = DISTRUST_FRAMES

    def _judge(self, frame: VideoFrame, packet: Packet[Any]) -> Decoded:
        if frame.is_corrupt:
            self._count_error()
        elif frame.key_frame and (frame.pts in self._healing or frame.pts is None):
            self._distrusted = 0
            self._healing.clear()
        stamp = frame.pts if frame.pts is not None else frame.dts
        base = frame.time_base or packet.time_base
        stamp_s = None if stamp is None or not base else float(stamp * base)
        faulty = self._distrusted > 0
        self._distrusted = max(self._distrusted - 1, 0)
        return Decoded(frame=frame, stamp_s=stamp_s, fault="decode_error" if faulty else None)


def open_stream(settings: ReaderSettings) -> Stream:
    """Opens a camera's stream; raises StreamFault with a sentence that a person can act on.

    ``connect_timeout_s`` bounds connecting and, again, finding the streams; ``stall_timeout_s`` every wait
    for a packet.
    """
    source = Source.of(settings.url)
    if source.scheme == "file":
        _check_file(source)
    elif source.scheme == "device":
        _check_device(source)
    elif source.host is not None:
        resolve(source.host, source.port or 0, settings.connect_timeout_s)
    asked_s = time.monotonic()
    try:
        container = av.open(
            source.target,
            mode="r",
            format="video4linux2" if source.scheme == "device" else None,
            options=libav_options(source, settings),
            timeout=(settings.connect_timeout_s, settings.stall_timeout_s),
        )
    except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
        if time.monotonic() - asked_s >= NEARLY * settings.connect_timeout_s:
            raise unanswered(settings) from None
        raise fault_of(error, settings, opening=True) from None
    try:
        return Stream(container, _video_of(container, source), settings)
    except BaseException:
        container.close()
        raise


def libav_options(source: Source, settings: ReaderSettings) -> dict[str, str]:
    """Options of demuxer and protocol, by scheme; nothing of them comes from outside."""
    options = {"protocol_whitelist": SCHEMES[source.scheme]}
    if source.scheme in ("rtsp", "rtsps"):
        options["rtsp_transport"] = settings.transport
        options["timeout"] = str(int(settings.stall_timeout_s * 1e6))
        options["allowed_media_types"] = "video+audio" if settings.audio else "video"
    elif source.scheme in ("http", "https"):
        options["rw_timeout"] = str(int(settings.stall_timeout_s * 1e6))
    if source.scheme not in ("file", "device"):
        # Time stamps are measured, not believed: no need to watch the stream for seconds to guess its rate.
        options["fpsprobesize"] = "0"
        options["analyzeduration"] = "2000000"
    return options


def resolve(host: str, port: int, timeout_s: float) -> None:
    """Looks the host up in a thread of its own: libav's look-up cannot be interrupted, and would hang the
    reader."""
    answers: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    try:
        error = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise StreamFault("unknown_host", f"no name server answered for the host '{host}' in {timeout_s:g} s") from None
    if error is not None:
        raise StreamFault("unknown_host", f"the host '{host}' is unknown: check the name in the camera's url")


def _check_file(source: Source) -> None:
    path = Path(source.target)
    try:
        if path.is_dir():
            raise StreamFault("not_video", f"{path} is a folder, not a video file")
        if path.stat().st_size == 0:
            raise StreamFault("empty", f"the file {path} is empty (0 bytes)")
    except FileNotFoundError:
        raise StreamFault("missing_file", f"there is no file {path}") from None
    except PermissionError:
        raise StreamFault("permission", f"the file {path} may not be read by this user") from None


def _check_device(source: Source) -> None:
    if not Path(source.target).exists():
        raise StreamFault("missing_file", f"there is no camera device {source.target}: is it plugged in?")
    if "video4linux2" not in av.formats_available and "v4l2" not in av.formats_available:
        raise StreamFault(
            "unsupported",
            "this PyAV cannot read camera devices (its wheel has no video4linux); serve the device over RTSP instead",
        )


def _video_of(container: InputContainer, source: Source) -> VideoStream:
    video = next(iter(container.streams.video), None)
    if video is None:
        raise StreamFault("no_video", f"{source.shown} has no video stream")
    # PyAV knows a codec without a decoder by a stream without a context.
    if video.codec_context is None:
        raise StreamFault("unsupported_codec", f"{source.shown} sends a video codec that cannot be decoded here")
    return video


def unanswered(settings: ReaderSettings) -> StreamFault:
    shown = Source.of(settings.url).shown
    return StreamFault("timeout", f"{shown} did not answer within {settings.connect_timeout_s:g} s")


def stalled(settings: ReaderSettings) -> StreamFault:
    shown = Source.of(settings.url).shown
    return StreamFault("stall", f"no data from {shown} for {settings.stall_timeout_s:g} s")


def fault_of(error: BaseException, settings: ReaderSettings, *, opening: bool) -> StreamFault:
    """The sentence for an error of libav; its own text holds the address with the password, so none of it is
    used."""
    source = Source.of(settings.url)
    shown = source.shown
    if isinstance(error, av.error.ExitError | av.error.TimeoutError | TimeoutError):
        return unanswered(settings) if opening else stalled(settings)
    for kinds, reason, sentence in _SENTENCES:
        if isinstance(error, kinds):
            return StreamFault(reason, sentence.format(shown=shown))
    number = getattr(error, "errno", None)
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return StreamFault("unreachable", f"there is no route to {shown}")
    if number == errno.EIO and opening:
        return StreamFault("not_video", f"{shown} broke off before a video could be recognised")
    name = type(error).__name__
    doing = "could not be opened" if opening else "broke off"
    return StreamFault("network", f"{shown} {doing} ({name}{'' if number is None else f', error {number}'})")


_SENTENCES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (av.error.ConnectionRefusedError,),
        "refused",
        "{shown} refused the connection: is the camera on, is the port right?",
    ),
    (
        (av.error.HTTPUnauthorizedError,),
        "unauthorized",
        "{shown} refused the user name or password (401): check the camera's credentials",
    ),
    ((av.error.HTTPForbiddenError,), "forbidden", "{shown} forbids access to this stream (403)"),
    (
        (av.error.HTTPNotFoundError,),
        "not_found",
        "{shown} has no stream of that path (404): check the path in the url",
    ),
    ((av.error.HTTPTooManyRequestsError,), "busy", "{shown} has too many viewers or requests (429)"),
    (
        (av.error.HTTPClientError,),
        "rejected",
        "{shown} rejected the request (4xx): check path and transport of the camera",
    ),
    ((av.error.HTTPServerError,), "server", "{shown} reported an error of its own (5xx)"),
    ((av.error.InvalidDataError,), "not_video", "{shown} does not send a video that can be read"),
    ((av.error.EOFError,), "ended", "{shown} ended"),
    ((av.error.ProtocolNotFoundError,), "unsupported", "{shown} uses a protocol that is not allowed here"),
    (
        (av.error.DecoderNotFoundError, av.error.PatchWelcomeError),
        "unsupported_codec",
        "{shown} sends a video codec that cannot be decoded here",
    ),
    ((av.error.FileNotFoundError,), "missing_file", "{shown} does not exist"),
    ((av.error.PermissionError,), "permission", "{shown} may not be read by this user"),
    (
        (av.error.ConnectionResetError, av.error.BrokenPipeError, av.error.ConnectionAbortedError),
        "reset",
        "{shown} closed the connection",
    ),
)
