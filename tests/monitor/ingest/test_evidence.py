"""Evidence is decoded again here: what was written must be what was seen."""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from monitor.flow import Evidence
from monitor.ingest import clip as clips
from monitor.ingest.camera import open_stream
from monitor.ingest.recorder import Recorder
from monitor.ingest.wire import EvidenceRequest
from tests.monitor.ingest.conftest import LIVE, camera, write_clip


def record(path: Path, recorder: Recorder, **more: Any) -> None:
    """Plays a clip into a recorder, a packet's time stamp being its arrival."""
    with open_stream(camera("gate", str(path), **more)) as stream:
        recorder.opened(stream)
        for packet in stream.packets():
            if packet.size:
                if packet.stream_index == stream.video.index:
                    stream.decode(packet)
                stamp = packet.dts if packet.dts is not None else packet.pts
                recorder.add(packet, float((stamp or 0) * packet.time_base))


def request(folder: Path, from_s: float, to_s: float, snapshot_s: float) -> EvidenceRequest:
    return EvidenceRequest(
        token="t1",
        camera="gate",
        clip_path=folder / "2026" / "a.mp4",
        snapshot_path=folder / "2026" / "a.jpg",
        from_captured_s=from_s,
        to_captured_s=to_s,
        snapshot_captured_s=snapshot_s,
    )


def save(folder: Path, recorder: Recorder, wanted: EvidenceRequest, private: Any = ()) -> Evidence:
    packets = recorder.between(wanted.from_captured_s, wanted.to_captured_s)
    return clips.save(wanted, packets, folder, private)


def frames_of(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as opened:
        return [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]


def test_a_clip_begins_at_the_key_frame_before_and_shows_the_same_frames(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", frames=150, gop=15)
    recorder = Recorder(60.0, 10_000_000)
    record(source, recorder)
    evidence = save(tmp_path, recorder, request(tmp_path, 2.5, 6.0, 4.0))
    assert (evidence.clip, evidence.snapshot, evidence.note) == ("2026/a.mp4", "2026/a.jpg", None)
    written, original = frames_of(tmp_path / "2026/a.mp4"), frames_of(source)
    assert len(written) == 61  # from the key frame at 2.0 s to the frame at 6.0 s
    assert np.array_equal(written[0], original[30])
    assert np.array_equal(written[-1], original[90])
    for link, sha256 in ((evidence.clip, evidence.clip_sha256), (evidence.snapshot, evidence.snapshot_sha256)):
        assert link is not None
        assert hashlib.sha256((tmp_path / link).read_bytes()).hexdigest() == sha256
    picture = cv2.imread(str(tmp_path / "2026/a.jpg"))[:, :, ::-1]
    assert np.abs(picture.astype(int) - original[60]).mean() < 3.0
    assert sorted(path.name for path in (tmp_path / "2026").iterdir()) == ["a.jpg", "a.mp4"]


def test_private_areas_are_black_in_clip_and_snapshot(tmp_path: Path) -> None:
    recorder = Recorder(60.0, 10_000_000)
    record(write_clip(tmp_path / "a.mp4", frames=60, size_px=(64, 48)), recorder)
    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    evidence = save(tmp_path, recorder, request(tmp_path, 1.0, 3.0, 2.0), (left,))
    assert evidence.note is None
    for frame in frames_of(tmp_path / "2026/a.mp4"):
        assert frame[:, :28].max() < 24
        assert frame[:, 40:].max() > 40
    assert cv2.imread(str(tmp_path / "2026/a.jpg"))[:, :30].max() < 16


def test_what_mp4_cannot_hold_becomes_matroska_and_is_said(tmp_path: Path) -> None:
    recorder = Recorder(60.0, 10_000_000)
    record(write_clip(tmp_path / "a.webm", frames=45, codec="libvpx"), recorder)
    evidence = save(tmp_path, recorder, request(tmp_path, 0.0, 3.0, 1.0))
    assert (evidence.clip, evidence.note) == ("2026/a.mkv", "the clip is a Matroska file: MP4 cannot hold vp8")
    assert len(frames_of(tmp_path / "2026/a.mkv")) == 45


def test_a_jpeg_camera_gives_an_mp4(tmp_path: Path) -> None:
    recorder = Recorder(60.0, 10_000_000)
    record(write_clip(tmp_path / "a.avi", frames=45, codec="mjpeg"), recorder)
    assert save(tmp_path, recorder, request(tmp_path, 1.0, 2.0, 1.5)).note is None
    assert len(frames_of(tmp_path / "2026/a.mp4")) in (15, 16)


def test_stamps_that_jump_or_stand_still_make_a_clip_that_plays(tmp_path: Path) -> None:
    recorder = Recorder(60.0, 10_000_000)
    path = write_clip(tmp_path / "a.mkv", frames=60, stamps=lambda i: i if i < 30 else i + 90_000)
    with open_stream(camera("gate", str(path))) as stream:
        recorder.opened(stream)
        for index, packet in enumerate(packet for packet in stream.packets() if packet.size):
            stream.decode(packet)
            recorder.add(packet, index / 15)
    assert save(tmp_path, recorder, request(tmp_path, 0.0, 9.0, 3.0)).note is not None
    with av.open(str(tmp_path / "2026/a.mp4")) as opened:
        stamps = [frame.time for frame in opened.decode(video=0)]
    assert len(stamps) == 60
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == pytest.approx(59 / 15, abs=0.01)


def test_a_change_of_size_is_told_and_the_side_of_the_snapshot_is_kept(tmp_path: Path) -> None:
    recorder = Recorder(60.0, 10_000_000)
    record(write_clip(tmp_path / "a.mp4", frames=30), recorder)
    with open_stream(camera("gate", str(write_clip(tmp_path / "b.mp4", frames=30, size_px=(96, 64))))) as stream:
        recorder.opened(stream)
        for packet in stream.packets():
            if packet.size:
                stream.decode(packet)
                recorder.add(packet, 2.0 + float(packet.dts * packet.time_base))
    evidence = save(tmp_path, recorder, request(tmp_path, 0.0, 4.0, 3.0))
    assert evidence.note is not None
    assert "the stream changed its size or codec" in evidence.note
    assert frames_of(tmp_path / "2026/a.mp4")[0].shape == (64, 96, 3)


def test_a_change_of_size_within_a_connection_is_kept_apart_too(tmp_path: Path) -> None:
    one = write_clip(tmp_path / "1.ts", frames=30)
    two = write_clip(tmp_path / "2.ts", frames=60, size_px=(96, 80))
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    recorder = Recorder(60.0, 10_000_000)
    with open_stream(camera("gate", str(tmp_path / "a.ts"))) as stream:
        recorder.opened(stream)
        for index, packet in enumerate(packet for packet in stream.packets() if packet.size):
            stream.decode(packet)
            recorder.add(packet, index / 15)
    before = save(tmp_path, recorder, request(tmp_path, 0.0, 6.0, 1.0))
    assert before.note is not None
    assert "the stream changed its size or codec" in before.note
    assert {frame.shape for frame in frames_of(tmp_path / "2026/a.mp4")} == {(48, 64, 3)}
    save(tmp_path, recorder, request(tmp_path, 0.0, 6.0, 5.0))
    shapes = [frame.shape for frame in frames_of(tmp_path / "2026/a.mp4")]
    assert set(shapes) == {(80, 96, 3)}
    assert len(shapes) >= 44
    assert cv2.imread(str(tmp_path / "2026/a.jpg")).shape == (80, 96, 3)


def test_sound_is_kept_only_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        picture, sound = output.add_stream("libx264", rate=15), output.add_stream("aac", rate=8000)
        picture.width = picture.height = 64
        for index in range(45):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index, np.uint8), format="rgb24")
            output.mux(picture.encode(frame))
            tone = av.AudioFrame.from_ndarray(np.zeros((2, 533), np.float32), format="fltp", layout="stereo")
            tone.sample_rate = 8000
            output.mux(sound.encode(tone))
        output.mux(picture.encode(None))
        output.mux(sound.encode(None))
    for audio, kinds in ((False, ["video"]), (True, ["video", "audio"])):
        recorder = Recorder(60.0, 10_000_000)
        record(path, recorder, audio=audio)
        assert save(tmp_path, recorder, request(tmp_path, 0.0, 2.9, 1.0)).clip == "2026/a.mp4"
        with av.open(str(tmp_path / "2026/a.mp4")) as opened:
            assert [stream.type for stream in opened.streams] == kinds


def test_a_recorder_is_bounded_in_seconds_and_in_bytes_and_says_when_it_is_short(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=300, gop=15)
    roomy = Recorder(5.0, 10_000_000)
    record(path, roomy)
    tight = Recorder(5.0, sum(len(held.data) for held in roomy.between(0.0, 99.0)) // 2)
    record(path, tight)
    assert 5.0 <= roomy.held_s <= 6.1
    assert not roomy.short
    assert tight.held_s < 5.0
    assert tight.short
    evidence = save(tmp_path, tight, request(tmp_path, 14.0, 19.9, 18.0))
    assert evidence.note is not None
    assert evidence.note.endswith("later than asked: nothing earlier was held")


def test_a_disk_that_takes_no_more_is_a_note_and_leaves_nothing_behind(tmp_path: Path) -> None:
    recorder = Recorder(60.0, 10_000_000)
    record(write_clip(tmp_path / "a.mp4", frames=150, size_px=(320, 240)), recorder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        evidence = save(tmp_path, recorder, request(tmp_path, 0.0, 9.0, 3.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert evidence.clip is None
    assert evidence.clip_sha256 is None
    assert evidence.snapshot is None
    assert evidence.note is not None
    assert "the clip could not be written: File too large" in evidence.note
    assert list((tmp_path / "2026").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_note(tmp_path: Path) -> None:
    recorder = Recorder(60.0, 10_000_000)
    record(write_clip(tmp_path / "a.mp4"), recorder)
    (tmp_path / "2026").write_text("a file where a folder should be")
    evidence = save(tmp_path, recorder, request(tmp_path, 0.0, 3.0, 1.0))
    assert evidence.note is not None
    assert evidence.note.startswith("the clip could not be written: ")


def test_nothing_held_is_a_note(tmp_path: Path) -> None:
    evidence = save(tmp_path, Recorder(60.0, 1000), request(tmp_path, 0.0, 3.0, 1.0))
    assert evidence == Evidence(note="no evidence: the camera sent nothing in that time that could be kept")


def test_a_pool_saves_evidence_with_its_post_roll_while_reading_goes_on(
    watch: Callable[..., Any], rtsp_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = rtsp_server({"/gate": {"launch": LIVE}})
    folder = tmp_path / "evidence"
    with watch([camera("gate", server.url("/gate"))]) as w:
        w.until(lambda: len(w.valid("gate")) >= 4)
        now_s = time.monotonic()
        w.pool.save_evidence(request(folder, now_s - 2.0, now_s + 1.0, now_s - 1.0))
        w.until(lambda: len(w.results) == 1, 6.0)
        assert time.monotonic() - now_s >= 1.0
        (result,) = w.results
        assert (result.token, result.camera) == ("t1", "gate")
        assert result.evidence.note is None
        assert len(frames_of(folder / "2026/a.mp4")) in range(45, 62)
        numbers = [s.number for s in w.valid("gate")]
        assert numbers == list(range(len(numbers)))
        server.kill()
        w.until(lambda: w.link("gate") == "lost")
        w.pool.save_evidence(request(folder, now_s, now_s + 1.0, now_s))
        w.until(lambda: len(w.results) == 2, 6.0)
        assert w.results[1].evidence.clip == "2026/a.mp4"


def test_a_request_that_nobody_can_serve_is_answered(watch: Callable[..., Any], tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=300)
    with watch([camera("a", f"file://{path}")]) as w:
        w.until(lambda: w.link("a") == "up")
        w.pool.save_evidence(request(tmp_path, 0.0, 1.0, 1.0))
        assert w.results[0].evidence.note == "no evidence: the camera is not being read"
        now_s = time.monotonic()
        mine = request(tmp_path, now_s, now_s + 60.0, now_s)
        w.pool.save_evidence(
            EvidenceRequest(**{n: getattr(mine, n) for n in mine.__dataclass_fields__} | {"camera": "a"})
        )
        (pid,) = w.pool.pids
        time.sleep(0.3)
        os.kill(pid, 9)
        w.until(lambda: len(w.results) == 2)
        assert w.results[1].evidence.note == "no evidence: the reader process ended before it was written"


def test_a_codec_that_no_clip_can_hold_costs_the_evidence_not_the_reader(
    watch: Callable[..., Any], tmp_path: Path
) -> None:
    odd = tmp_path / "screen.flv"
    with av.open(str(odd), "w") as out:
        stream = out.add_stream("flashsv2", rate=15)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr24"
        for number in range(60):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 3 * number, np.uint8), "bgr24")))
        out.mux(stream.encode(None))
    with watch([camera("odd", odd.as_uri())]) as w:
        w.until(lambda: len(w.valid("odd")) >= 2, 20)
        assert w.pool.restarts == 0
        now_s = time.monotonic()
        w.pool.save_evidence(
            EvidenceRequest(
                token="t",
                camera="odd",
                clip_path=tmp_path / "evidence" / "a.mp4",
                snapshot_path=tmp_path / "evidence" / "a.jpg",
                from_captured_s=now_s - 1.0,
                to_captured_s=now_s,
                snapshot_captured_s=now_s - 0.5,
            )
        )
        w.until(lambda: w.results != [], 15)
        assert w.results[0].evidence.clip is None
        assert w.results[0].evidence.note is not None
