"""Evidence: held packets → an MP4 without re-encoding, and one frame as a JPEG; private areas are painted
black."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from monitor.flow import Evidence, Pictures
from monitor.ingest.picture import Polygons, paint
from monitor.ingest.recorder import Held
from monitor.ingest.wire import EvidenceRequest

CLOCK = Fraction(1, 90_000)
LATE_S = 1.0
"""A clip that begins or ends by so much other than asked says so."""
LONGEST_STEP_S = 2.0
"""Two packets whose stamps lie further apart (or run back) are as far apart as their arrivals."""


def save(request: EvidenceRequest, packets: Sequence[Held], folder: Path, private: Polygons) -> Evidence:
    """Writes clip and snapshot; never raises for disk or stream: what is missing or shorter stands in
    ``note``."""
    if not packets:
        return Evidence(note="no evidence: the camera sent nothing in that time that could be kept")
    notes: list[str] = []
    packets = _joinable(packets, request, notes)
    clip = _attempt("clip", lambda: _write_clip(request, packets, private, notes), notes)
    snapshot = _attempt("snapshot", lambda: _write_snapshot(request, packets, private), notes)
    return Evidence(
        clip=_link(clip, folder),
        clip_sha256=_sha256(clip),
        snapshot=_link(snapshot, folder),
        snapshot_sha256=_sha256(snapshot),
        note="; ".join(notes) or None,
    )


def _attempt(what: str, write: Callable[[], Path], notes: list[str]) -> Path | None:
    try:
        return write()
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        notes.append(f"the {what} could not be written: {reason}")
        return None


def _joinable(packets: Sequence[Held], request: EvidenceRequest, notes: list[str]) -> list[Held]:
    """The packets that fit into one clip: those around the snapshot, if the stream changed in between."""
    wanted_s = request.snapshot_captured_s
    centre = min(packets, key=lambda held: abs(held.captured_s - wanted_s)).epoch
    kept = [held for held in packets if held.epoch.same_as(centre)]
    if len(kept) < len(packets):
        notes.append("the stream changed its size or codec: the clip shows only one side of that")
    late_s = kept[0].captured_s - request.from_captured_s
    early_s = request.to_captured_s - kept[-1].captured_s
    if late_s > LATE_S:
        notes.append(f"the clip begins {late_s:.1f} s later than asked: nothing earlier was held")
    if early_s > LATE_S:
        notes.append(f"the clip ends {early_s:.1f} s earlier than asked: nothing came after that")
    return kept


def timed(packets: Sequence[Held]) -> Iterator[tuple[Held, int, int]]:
    """(packet, pts, dts) in ``CLOCK``, from 0; dts strictly rise for each stream, whatever the camera's
    stamps do."""
    origin_s = packets[0].captured_s
    last: dict[int, tuple[float, float | None, float]] = {}
    for held in packets:
        stamp = held.dts if held.dts is not None else held.pts
        stamp_s = None if stamp is None else float(stamp * held.time_base)
        before = last.get(held.index)
        if before is None:
            now_s = held.captured_s - origin_s
        else:
            then_s, then_stamp_s, then_captured_s = before
            step_s = -1.0 if stamp_s is None or then_stamp_s is None else stamp_s - then_stamp_s
            if not 0 < step_s <= LONGEST_STEP_S:
                step_s = max(held.captured_s - then_captured_s, 0.001)
            now_s = then_s + step_s
        last[held.index] = (now_s, stamp_s, held.captured_s)
        late = 0.0 if held.pts is None or held.dts is None else float((held.pts - held.dts) * held.time_base)
        dts = round(now_s / CLOCK)
        yield held, dts + round((late if 0 <= late <= 1 else 0.0) / CLOCK), dts


def _write_clip(request: EvidenceRequest, packets: Sequence[Held], private: Polygons, notes: list[str]) -> Path:
    for path, form in ((request.clip_path, "mp4"), (request.clip_path.with_suffix(".mkv"), "matroska")):
        try:
            write_whole(path, lambda part, form=form: _mux(part, form, packets, private))  # type: ignore[misc]
        except _WrongContainerError:
            continue
        if form != "mp4":
            notes.append(f"the clip is a Matroska file: MP4 cannot hold {packets[0].epoch.codec}")
        return path
    raise ValueError("no container holds this codec")


class _WrongContainerError(Exception):
    """The container cannot hold the codec."""


def _mux(part: Path, form: str, packets: Sequence[Held], private: Polygons) -> None:
    options = {"movflags": "+faststart"} if form == "mp4" else {}
    with av.open(str(part), mode="w", format=form, options=options) as output:
        try:
            streams = _streams(output, packets, encode=bool(private))
        except ValueError:
            raise _WrongContainerError from None
        if private:
            _paint_video(output, streams, packets, private)
        for held, pts, dts in timed(packets):
            if held.is_video and private:
                continue
            output.mux(_packet(held, pts, dts, streams[held.index]))
        output.close()


def _streams(output: OutputContainer, packets: Sequence[Held], *, encode: bool) -> dict[int, Any]:
    epoch = packets[0].epoch
    streams: dict[int, Any] = {}
    for index, template in epoch.templates.items():
        if index == epoch.video_index and encode:
            name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            stream = output.add_stream(name, rate=30, time_base=CLOCK, pix_fmt="yuv420p")
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"preset": "ultrafast", "crf": "26"} if name == "libx264" else {}
        elif index == epoch.video_index or any(held.index == index for held in packets):
            stream = output.add_stream_from_template(template, opaque=True)
            stream.time_base = CLOCK
        else:
            continue
        streams[index] = stream
    return streams


def _packet(held: Held, pts: int, dts: int, stream: Any) -> Packet[Any]:
    packet = held.packet()
    packet.pts, packet.dts, packet.time_base = pts, dts, CLOCK
    packet.is_keyframe = held.key or not held.is_video
    packet.stream = stream
    return packet


def _paint_video(output: OutputContainer, streams: dict[int, Any], packets: Sequence[Held], private: Polygons) -> None:
    """Decodes the video, blackens what is private, and encodes it anew."""
    stream = streams[packets[0].epoch.video_index]
    last = -1
    for frame, _, at in _frames(packets):
        picture: Pictures = frame.to_ndarray(format="rgb24")  # type: ignore[assignment]
        paint(picture, private)
        painted = VideoFrame.from_ndarray(picture, format="rgb24")
        if last < 0:
            stream.width, stream.height = painted.width // 2 * 2, painted.height // 2 * 2
        last = max(at, last + 1)
        painted.pts, painted.time_base = last, CLOCK
        output.mux(stream.encode(painted.reformat(stream.width, stream.height, "yuv420p", threads=1)))
    if last >= 0:
        output.mux(stream.encode(None))


def _frames(packets: Sequence[Held]) -> Iterator[tuple[VideoFrame, float, int]]:
    """(frame, captured_s, pts in ``CLOCK``) of the video packets; broken ones are passed over."""
    epoch = packets[0].epoch
    decoder = av.CodecContext.create(epoch.codec, "r")
    decoder.extradata = epoch.extradata or None
    decoder.thread_count = 1
    captured_s, latest = packets[0].captured_s, 0
    for item in (*timed(packets), None):
        packet: Packet[Any] | None = None
        if item is not None:
            held, pts, dts = item
            if not held.is_video:
                continue
            packet = held.packet()
            packet.pts, packet.dts, packet.time_base = pts, dts, CLOCK
            captured_s, latest = held.captured_s, pts
        try:
            frames = decoder.decode(packet)  # type: ignore[attr-defined]
        except (av.error.FFmpegError, ValueError):
            continue
        for frame in frames:
            yield frame, captured_s, frame.pts if frame.pts is not None else latest


def _write_snapshot(request: EvidenceRequest, packets: Sequence[Held], private: Polygons) -> Path:
    # Only where evidence is written: OpenCV costs a reader process 25 MB and 0.1 s.
    import cv2

    chosen: VideoFrame | None = None
    for frame, captured_s, _ in _frames(_from_key_before(packets, request.snapshot_captured_s)):
        if chosen is not None and captured_s > request.snapshot_captured_s:
            break
        chosen = frame
    if chosen is None:
        raise ValueError("none of the packets could be decoded")
    picture: Pictures = chosen.to_ndarray(format="bgr24")  # type: ignore[assignment]
    paint(picture, private)
    written, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not written:
        raise ValueError("the picture could not be encoded")
    write_whole(request.snapshot_path, lambda part: part.write_bytes(data.tobytes()))
    return request.snapshot_path


def _from_key_before(packets: Sequence[Held], at_s: float) -> Sequence[Held]:
    keys = [index for index, held in enumerate(packets) if held.key and held.captured_s <= at_s]
    return packets[keys[-1] :] if keys else packets


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """To another name first: what has the right name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _link(path: Path | None, folder: Path) -> str | None:
    if path is None:
        return None
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _sha256(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
