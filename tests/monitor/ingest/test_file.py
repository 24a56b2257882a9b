"""Recordings as they come: their segments, their pictures, and what is odd about them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation

from monitor.flow import Preprocessing
from monitor.ingest.camera import open_stream
from monitor.ingest.fault import StreamFault
from monitor.ingest.file import segments_of_file
from tests.monitor.ingest.conftest import SMALL, camera, write_clip

STREAMS = [
    ("normal-072.mp4", 4, 4.0),
    ("normal-020.mkv", 5, 5.33),
    ("normal-103.mkv", 5, 5.33),
    ("violent-039.mkv", 5, 5.33),
    ("violent-043.mkv", 5, 5.27),
    ("normal-100.avi", 5, 5.0),
    ("violent-035.mp4", 5, 5.33),
    ("normal-071.mp4", 5, 5.33),
    ("vtest.mp4", 75, 79.47),
    ("one-by-one-person-detection.mp4", 131, 139.33),
    ("bottle-detection.mp4", 37, 39.47),
]
"""name, segments at 15 analysed frames a second, their end."""


@pytest.mark.parametrize(("name", "count", "end_s"), STREAMS)
def test_real_recordings_are_cut_by_their_time_stamps(shared_data: Path, name: str, count: int, end_s: float) -> None:
    segments = list(segments_of_file(shared_data / "streams" / name, SMALL, 15.0))
    assert [s.number for s in segments] == list(range(count))
    assert {s.invalid for s in segments} == {None}
    assert segments[-1].end_s == pytest.approx(end_s, abs=0.01)
    assert all(s.pictures is not None and s.pictures.shape == (4, 32, 32, 3) for s in segments)


def test_the_pictures_are_the_area_scaled_frames_at_the_grid_times(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=64, fps=30, size_px=(128, 96))
    wanted = Preprocessing(height_px=24, width_px=32, fit="stretch", frames=(0, 7, 15))
    (first, second) = segments_of_file(clip, wanted, 15.0)
    with av.open(str(clip)) as opened:
        frames = list(opened.decode(video=0))
    for segment, offset in ((first, 0), (second, 32)):
        assert segment.pictures is not None
        for row, position in enumerate((0, 7, 15)):
            expected = frames[offset + 2 * position].reformat(
                32, 24, "rgb24", interpolation=Interpolation.AREA, threads=1
            )
            assert np.array_equal(segment.pictures[row], expected.to_ndarray())


def test_crop_takes_the_centre_of_the_scaled_picture(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=16, size_px=(160, 80))
    wanted = Preprocessing(height_px=20, width_px=20, fit="crop", short_side_px=24, frames=(0,))
    (segment,) = segments_of_file(clip, wanted, 15.0)
    with av.open(str(clip)) as opened:
        frame = next(opened.decode(video=0))
    whole = frame.reformat(48, 24, "rgb24", interpolation=Interpolation.AREA, threads=1).to_ndarray()
    assert segment.pictures is not None
    assert np.array_equal(segment.pictures[0], whole[2:22, 14:34])


def test_ignored_areas_are_black_and_the_rest_is_untouched(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=16)
    corner = ((0.0, 0.0), (0.25, 0.0), (0.25, 0.5), (0.0, 0.5))
    (plain,) = segments_of_file(clip, SMALL, 15.0)
    (masked,) = segments_of_file(clip, SMALL, 15.0, ignore=(corner,))
    assert plain.pictures is not None
    assert masked.pictures is not None
    assert masked.pictures[:, :17, :9].max() == 0
    assert np.array_equal(masked.pictures[:, :, 9:], plain.pictures[:, :, 9:])
    assert np.array_equal(masked.pictures[:, 17:], plain.pictures[:, 17:])


def test_half_a_second_is_one_segment(tmp_path: Path) -> None:
    (segment,) = segments_of_file(write_clip(tmp_path / "a.mp4", frames=7), SMALL, 15.0)
    assert (segment.number, segment.start_s, round(segment.end_s, 4)) == (0, 0.0, 0.4667)
    assert segment.pictures is not None
    assert np.array_equal(segment.pictures[2], segment.pictures[3]), "its last frame is repeated"


def test_a_hole_in_the_stamps_is_an_invalid_segment_and_a_jump(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", frames=60, stamps=lambda i: i if i < 20 else i + 150)
    found = [(s.number, s.invalid) for s in segments_of_file(clip, SMALL, 15.0)]
    assert found == [(0, None), (1, "time_jump"), (11, None), (12, None), (13, None)]


def write_change(path: Path, second: str, size_px: tuple[int, int]) -> Path:
    """MPEG-TS whose picture changes size, or whose codec changes, after two seconds."""
    parts = [
        write_clip(path.with_name("one.ts"), frames=32, size_px=(64, 48)),
        write_clip(path.with_name("two.ts"), frames=32, size_px=size_px, codec=second),
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_a_change_of_size_in_mid_stream_is_survived(tmp_path: Path) -> None:
    clip = write_change(tmp_path / "a.ts", "libx264", (96, 80))
    segments = list(segments_of_file(clip, SMALL, 15.0))
    # The second begins with a packet that the transport stream marks corrupt, where the parts meet.
    assert [(s.number, s.invalid) for s in segments] == [(0, None), (1, "decode_error"), (3, None), (4, None)]
    assert all(s.pictures.shape == (4, 32, 32, 3) for s in segments if s.pictures is not None)


def test_a_change_of_codec_in_mid_stream_is_survived(tmp_path: Path) -> None:
    clip = write_change(tmp_path / "a.ts", "mpeg2video", (64, 48))
    segments = list(segments_of_file(clip, SMALL, 15.0))
    assert segments[0].invalid is None
    assert all(s.invalid is not None or s.pictures is not None for s in segments)


def test_a_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", frames=64, size_px=(320, 240))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    seen = []
    with contextlib.suppress(StreamFault):
        for segment in segments_of_file(clip, SMALL, 15.0):
            seen.append(segment.invalid)  # noqa: PERF401 - what came before the fault counts
    assert seen.count(None) >= 1


def test_a_title_in_another_encoding_is_no_reason_to_see_nothing(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "plain.mkv", frames=32)
    titled = tmp_path / "titled.mkv"
    with av.open(str(clip)) as source, av.open(str(titled), "w") as out:
        out.metadata["title"] = "Gate XXXXX"
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    assert titled.read_bytes().count(b"Gate XXXXX") == 1
    titled.write_bytes(titled.read_bytes().replace(b"Gate XXXXX", "Gate ÄÖÜäö".encode("latin-1")))
    assert [segment.invalid for segment in segments_of_file(titled, SMALL, 15.0)] == [None, None]


def test_broken_bytes_make_invalid_segments_and_the_rest_is_scored(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.ts", frames=96, gop=16, fps=16, size_px=(320, 240))
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    for index in range(middle, middle + 3000, 7):
        data[index] ^= 0x5A
    clip.write_bytes(bytes(data))
    with watch([camera("a", str(clip), fps=16.0)], live=False) as w:
        w.until(lambda: any(s.last for s in w.segments))
        found = [s.invalid for s in w.of("a") if not s.last]
        health = w.pool.health()["a"]
    assert found[0] is None
    assert found[-1] is None
    assert "decode_error" in found
    assert health.decode_errors >= 1
    assert health.invalid["decode_error"] == found.count("decode_error")


def test_ten_bits_and_odd_sizes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=15)
        stream.width, stream.height, stream.pix_fmt = 67, 45, "yuv444p10le"
        for index in range(16):
            frame = av.VideoFrame.from_ndarray(np.full((45, 67, 3), index * 9, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 15)
            output.mux(stream.encode(frame.reformat(format="yuv444p10le")))
        output.mux(stream.encode(None))
    (segment,) = segments_of_file(path, SMALL, 15.0)
    assert segment.pictures is not None
    assert [int(picture.mean()) for picture in segment.pictures] == pytest.approx([0, 45, 90, 135], abs=2)


def decoded(path: Path, **left_out: Any) -> tuple[list[tuple[float, float]], list[np.ndarray[Any, Any]]]:
    """Time stamp and mean brightness of each frame, and the frames."""
    with open_stream(camera("a", str(path), **left_out)) as stream:
        found = [one for packet in stream.packets() for one in stream.decode(packet)]
        assert all(one.fault is None for one in found)
        pictures = [one.frame.to_ndarray(format="gray") for one in found]
        return [(one.stamp_s or 0.0, float(p.mean())) for one, p in zip(found, pictures, strict=True)], pictures


def test_frames_that_no_other_refers_to_are_not_decoded_and_the_others_are_the_same(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=60, fps=25, b_frames=1)
    whole, _ = decoded(clip)
    fewer, _ = decoded(clip, skip_frame="nonref")
    assert len(whole) == 60
    assert len(fewer) <= 33
    assert set(fewer) < set(whole)


def test_without_frames_that_may_be_skipped_none_is(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=60, fps=25)
    assert decoded(clip, skip_frame="nonref")[0] == decoded(clip)[0]


def test_unsmoothed_frames_differ_and_are_as_many(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=60, fps=25, b_frames=1, gop=30)
    whole = decoded(clip)[1]
    some = decoded(clip, skip_loop_filter="nonref")[1]
    none = decoded(clip, skip_loop_filter="all")[1]
    assert len(whole) == len(some) == len(none) == 60
    differ = [sum(bool((a != b).any()) for a, b in zip(whole, other, strict=True)) for other in (some, none)]
    assert 0 < differ[0] <= 33, "those that nothing refers to"
    assert differ[1] > differ[0]


def test_a_codec_without_them_ignores_what_is_to_be_left_out(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", codec="mjpeg")
    assert decoded(clip, skip_loop_filter="all", skip_frame="nonref")[0] == decoded(clip)[0]


@pytest.mark.parametrize("left_out", [{"skip_frame": "nonref"}, {"skip_loop_filter": "all", "skip_frame": "nonref"}])
def test_every_segment_is_there_though_frames_are_skipped(
    watch: Callable[..., Any], tmp_path: Path, left_out: dict[str, str]
) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=160, fps=25, b_frames=1)
    with watch([camera("whole", str(clip)), camera("cheap", str(clip), **left_out)], live=False) as w:
        w.until(lambda: sum(s.last for s in w.segments) == 2)
        health = w.pool.health()
        assert health["cheap"].frames_decoded < 0.6 * health["whole"].frames_decoded
        assert health["cheap"].source_fps == pytest.approx(12.5)
        assert [(s.number, s.start_s) for s in w.valid("cheap")] == [(s.number, s.start_s) for s in w.valid("whole")]
        assert len(w.valid("cheap")) == 6
