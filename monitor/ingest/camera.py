"""Opens one stream and yields its packets and frames (PyAV). Every fault becomes a sentence without
credentials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import av
import av.error
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from monitor.ingest import nvdec
from monitor.ingest.fault import NOT_VIDEO, StreamFault, fault_of, stalled, unanswered
from monitor.ingest.picture import Polygons
from monitor.ingest.source import LISTS, SCHEMES, Source, check_device, check_file, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from monitor.config import Camera

DISTRUST_FRAMES = 600
"""After a decode error frames are distrusted until the next key frame, but no longer than this: a stream of
gradual refreshes has no key frames, and heals all the same."""

TEXT_ART = frozenset({"ansi", "bintext", "idf", "xbin"})
"""libav takes any text file for art of a terminal and makes pictures of it: a camera that looks well and sees
nothing."""

MOST_PIXELS = 8192 * 8192
"""Twice the largest cameras; a few bytes may claim a picture of gigabytes."""

DISCARD = {"none": "default", "nonref": "noref", "all": "all"}
"""What plant.yaml's words are called among libav's options."""

NO_TIMESTAMPS = 0x80
"""libav's flag of formats that have no time stamps (AVFMT_NOTIMESTAMPS): what it gives their packets is made up."""

NEARLY = 0.9
"""What lasted so much of a time-out was ended by it, whatever the error says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """What a reader must know of a camera. ``url`` may hold credentials: it goes to libav only and is in no
    repr."""

    name: str
    url: str = field(repr=False)
    transport: str = "tcp"
    fps: float
    """Analysed frames per second."""
    skip_loop_filter: str = "none"
    skip_frame: str = "none"
    """What the decoder leaves out; both are keys of DISCARD."""
    gpu: int | None = None
    """Which GPU decodes; None: the CPU."""
    ignore: Polygons = ()
    private: Polygons = ()
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 10.0
    frozen_after_s: float | None = 10.0
    picture_after_s: Mapping[str, float | None] = field(default_factory=dict)
    """By kind (sight.py); what is not there is not looked for."""
    lag_limit_s: float | None = None
    backoff_min_s: float = 1.0
    backoff_max_s: float = 60.0
    folders: tuple[str, ...] | None = None
    """Where the file of a ``file:`` address must lie, links followed; None: anywhere."""
    audio: bool = False
    """Whether evidence keeps the sound: only then is it asked for."""

    @classmethod
    def of(
        cls,
        camera: Camera,
        fps: float,
        *,
        folders: Iterable[Path] | None = None,
        audio: bool = False,
        scores_on: int | None = None,
    ) -> ReaderSettings:
        """Of a configured camera; ``fps`` is what the artefact wants where the camera says nothing, ``folders``
        the plant's ``ingest.file_folders``, ``scores_on`` the GPU that scores (None: the CPU does)."""
        decodes_on = {"cpu": None, "auto": scores_on, "nvdec": scores_on or 0}
        return cls(
            name=camera.name,
            url=camera.url.path if camera.url.scheme == "file" else camera.url.secret,
            transport=camera.transport,
            fps=camera.fps or fps,
            skip_loop_filter=camera.decode.skip_loop_filter,
            skip_frame=camera.decode.skip_frame,
            gpu=decodes_on[camera.decode.by],
            ignore=camera.ignore,
            private=camera.private,
            connect_timeout_s=camera.connect_timeout_s,
            stall_timeout_s=camera.stall_timeout_s,
            frozen_after_s=camera.frozen_after_s,
            picture_after_s={
                kind.removesuffix("_after_s"): after_s for kind, after_s in camera.picture.model_dump().items()
            },
            lag_limit_s=camera.lag_limit_s,
            backoff_min_s=camera.backoff_min_s,
            backoff_max_s=camera.backoff_max_s,
            folders=None if folders is None else tuple(map(str, folders)),
            audio=audio,
        )


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
        without_gpu: str | None = None,
    ) -> None:
        self._container = container
        self.video = video
        self._settings = settings
        source = Source.of(settings.url)
        self._shown = source.shown
        # Motion JPEG over HTTP: 25 a second are made up, whatever the camera sends. A file knows no better time.
        self._untimed = source.scheme in ("http", "https") and bool(container.format.flags & NO_TIMESTAMPS)
        self._clock = clock
        self._distrusted = 0
        self._healing: set[int | None] = set()
        self.decode_errors = 0
        self.without_gpu = without_gpu
        """Why the CPU decodes though the GPU was asked for; part of a sentence."""
        self._gpu_failures = 0
        self.awaits_gpu = video.codec_context.is_hwaccel
        """Until the first picture: then the decoder is there."""
        if settings.gpu is not None and without_gpu is None and not video.codec_context.is_hwaccel:
            self.without_gpu = f"NVDEC does not know {self.codec}"
        video.codec_context.thread_count = 1
        # Also for a stream that changes its size. Broken JPEGs would be shown else, grey from the break on, unflagged.
        checked = {"err_detect": "explode"} if self.codec == "mjpeg" else {}
        video.codec_context.options = {
            "max_pixels": str(MOST_PIXELS),
            "skip_loop_filter": DISCARD[settings.skip_loop_filter],
            "skip_frame": DISCARD[settings.skip_frame],
            **checked,
        }

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
        rate = None if self._untimed else self.video.average_rate
        return float(rate) if rate else None

    @property
    def audio(self) -> av.AudioStream | None:
        return next(iter(self._container.streams.audio), None) if self._settings.audio else None

    def packets(self) -> Iterator[Packet[Any]]:
        """Packets of all asked streams; the last ones, of size 0, make the decoder give what it still holds. Those of
        a live stream whose format has no time stamps have none.

        Raises StreamFault where the stream breaks. The end of a stream is no exception: the iterator ends.
        """
        asked_s = self._clock()
        with av.logging.Capture() as logs:
            try:
                for packet in self._container.demux():
                    # After a time-out libav first gives the packet that its parser still held, and only the next
                    # read, a whole time-out later, fails.
                    self._check_waited(asked_s, NEARLY if not packet.size else 1.0)
                    self._look_for_loss(logs)
                    if self._untimed:
                        packet.pts = packet.dts = None
                    yield packet
                    asked_s = self._clock()
            except IndexError:
                # At the end PyAV stumbles over streams that appeared after opening (MPEG-TS).
                return
            except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
                self._check_waited(asked_s, NEARLY)
                raise fault_of(error, self._shown, self._settings.stall_timeout_s, opening=False) from None

    def _check_waited(self, asked_s: float, share: float) -> None:
        """A time-out comes as many errors, and as the end of the stream too: it is told by its duration."""
        limit_s = self._settings.stall_timeout_s
        if self._clock() - asked_s >= share * limit_s:
            raise stalled(self._shown, limit_s)

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
        except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
            self._look_for_gpu(error)
            # Broken bytes. The decoder goes on with the next packet, on references that may be wrong.
            self._lose_trust()
            return []
        if frames and self.video.codec_context.is_hwaccel:
            self.awaits_gpu, self._gpu_failures = False, 0
            self.without_gpu = (
                None if nvdec.decoded(frames[-1]) else "the GPU has no room, or does not know this format"
            )
        return [self._judge(frame, packet) for frame in frames]

    @property
    def on_gpu(self) -> bool:
        return self.video.codec_context.is_hwaccel and not self.awaits_gpu and self.without_gpu is None

    def _look_for_gpu(self, error: BaseException) -> None:
        """A GPU that was lost gives errors for ever; broken bytes give one of libav's own."""
        if not self.video.codec_context.is_hwaccel or not isinstance(error, nvdec.FAILURES):
            return
        self._gpu_failures += 1
        if self._gpu_failures >= nvdec.PATIENCE:
            raise StreamFault("nvdec", "the GPU does not decode any more; the CPU goes on")

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
        check_file(source, settings.folders)
    elif source.scheme == "device":
        check_device(source)
    elif source.host is not None:
        resolve(source.host, source.port or 0, settings.connect_timeout_s)
    accelerator, without_gpu = None, None
    if settings.gpu is not None:
        try:
            accelerator = nvdec.offered(settings.gpu)
        except nvdec.NvdecError as error:
            without_gpu = str(error)
    asked_s = time.monotonic()
    try:
        container = av.open(
            source.target,
            mode="r",
            format="video4linux2" if source.scheme == "device" else None,
            options=libav_options(source, settings),
            timeout=(settings.connect_timeout_s, settings.stall_timeout_s),
            # A title in another encoding (cameras name their sessions so) is no reason to see nothing.
            metadata_errors="replace",
            hwaccel=accelerator,
        )
    except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
        if time.monotonic() - asked_s >= NEARLY * settings.connect_timeout_s:
            raise unanswered(source.shown, settings.connect_timeout_s) from None
        if accelerator is not None and isinstance(error, nvdec.FAILURES):
            raise StreamFault("nvdec", "the GPU's decoder could not be opened; the CPU goes on") from None
        raise fault_of(error, source.shown, settings.connect_timeout_s, opening=True) from None
    try:
        return Stream(container, _video_of(container, source), settings, without_gpu=without_gpu)
    except BaseException:
        container.close()
        raise


def libav_options(source: Source, settings: ReaderSettings) -> dict[str, str]:
    """Options of demuxer and protocol, by scheme; nothing of them comes from outside."""
    options = {"protocol_whitelist": SCHEMES[source.scheme]}
    if source.scheme in LISTS:
        options["format_whitelist"] = _formats_but(LISTS[source.scheme])
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


@cache
def _formats_but(refused: frozenset[str]) -> str:
    """Names of all of libav's formats, as it wants them."""
    return ",".join(sorted(av.formats_available - refused))


def _video_of(container: InputContainer, source: Source) -> VideoStream:
    video = next(iter(container.streams.video), None)
    if video is None:
        raise StreamFault("no_video", f"{source.shown} has no video stream")
    if video.codec_context is not None and video.codec_context.name in TEXT_ART:
        raise StreamFault("not_video", NOT_VIDEO.format(shown=source.shown))
    width, height = (video.codec_context.width, video.codec_context.height) if video.codec_context else (0, 0)
    if width * height > MOST_PIXELS:
        raise StreamFault(
            "too_large", f"{source.shown} sends pictures of {width}x{height}: more than can be watched here"
        )
    # PyAV knows a codec without a decoder by a stream without a context.
    if video.codec_context is None:
        raise StreamFault("unsupported_codec", f"{source.shown} sends a video codec that cannot be decoded here")
    return video
