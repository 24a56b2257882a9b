"""Real reader processes: shared memory, drops, deaths, files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.config import Ingest
from monitor.flow import Segment
from monitor.ingest.file import segments_of_file
from monitor.ingest.memory import Doing
from monitor.ingest.wire import CameraHealth
from tests.conftest import ROOT
from tests.monitor.ingest.conftest import SMALL, camera, write_clip


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def names_in(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def wait_gone(pids: list[int], timeout_s: float = 5.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < end_s, "a reader process outlived its monitor"
        time.sleep(0.05)


def test_files_are_read_whole_and_each_is_closed_by_a_mark(watch: Callable[..., Any], tmp_path: Path) -> None:
    cameras = [camera(str(n), str(write_clip(tmp_path / f"{n}.mp4", frames=16 * n))) for n in (1, 2, 3, 4)]
    with watch(cameras, live=False) as w:
        w.until(lambda: sum(s.last for s in w.segments) == 4)
        assert {n: [s.number for s in w.of(n)] for n in "1234"} == {
            "1": [0, 1],
            "2": [0, 1, 2],
            "3": [0, 1, 2, 3],
            "4": [0, 1, 2, 3, 4],
        }
        assert [s.last for s in w.of("2")] == [False, False, True]
        assert {h.link for h in w.pool.health().values()} == {"ended"}


def test_many_files_are_read_by_few_processes(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", frames=20)
    cameras = [camera(f"file-{number}", str(clip)) for number in range(8)]
    most = len(os.sched_getaffinity(0))
    with watch(cameras, live=False) as w:
        used: set[int] = set()

        def all_are_read() -> bool:
            used.update(w.pool.pids)
            return sum(segment.last for segment in w.segments) == len(cameras)

        w.until(all_are_read, 30)
        assert all(len(w.valid(one.name)) == 1 for one in cameras)
    assert len(used) <= min(most, len(cameras))


def test_two_readings_of_a_file_are_identical_and_equal_to_segments_of_file(
    watch: Callable[..., Any], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=100, fps=25)

    def pictures() -> list[tuple[int, float, bytes]]:
        seen: list[tuple[int, float, bytes]] = []
        with watch([camera("a", str(clip))], live=False) as w:
            while not any(s.last for s in w.segments):
                taken = w.pool.take(1, 0.0, 5.0)
                seen += [(s.number, s.start_s, s.pictures.tobytes()) for s in taken if s.pictures is not None]
                w.segments += taken
                w.pool.release(taken)
        return seen

    first = pictures()
    assert first == pictures()
    alone = segments_of_file(clip, SMALL, 15.0)
    assert first == [(s.number, s.start_s, s.pictures.tobytes()) for s in alone if s.pictures is not None]
    assert len(first) == 4


def test_a_file_waits_for_its_slots_and_loses_nothing(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=16 * 12)
    with watch([camera("a", str(clip))], live=False, ingest=Ingest(slots_per_camera=2)) as w:
        time.sleep(1.5)  # nobody takes anything meanwhile
        w.until(lambda: any(s.last for s in w.segments))
        assert [s.number for s in w.valid("a")] == list(range(12))
        assert w.pool.health()["a"].dropped == {}


def test_a_full_pool_drops_its_oldest_segment_and_counts_it(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=400, fps=15)
    quick = camera("a", f"file://{clip}", fps=60.0)  # a segment every 0.27 s
    with watch([quick], ingest=Ingest(slots_per_camera=3)) as w:
        end_s = time.monotonic() + 10
        while w.pool.health()["a"].segments < 9 and time.monotonic() < end_s:
            time.sleep(0.05)
        waiting = w.pool.take(16, 0.0, 0.0)
        health = w.pool.health()["a"]
        numbers = [s.number for s in waiting]
        assert len(numbers) == 2, "one of three slots is always free to draw in"
        assert numbers[1] == numbers[0] + 1
        assert numbers[0] == health.dropped["queue_full"], "the oldest went first"
        w.pool.release(waiting)


def test_a_scorer_that_keeps_every_slot_costs_segments_and_their_numbers_jump(
    watch: Callable[..., Any], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=400, fps=15)
    with watch([camera("a", f"file://{clip}", fps=60.0)], ingest=Ingest(slots_per_camera=2)) as w:
        w.until(lambda: len(w.segments) == 2, keep=True)
        held = list(w.segments)
        before = [s.pictures.copy() for s in held if s.pictures is not None]
        w.until(lambda: w.pool.health()["a"].dropped.get("no_slot", 0) >= 3, keep=True)
        assert all(np.array_equal(a, s.pictures) for a, s in zip(before, held, strict=True))
        w.pool.release(held)
        w.until(lambda: len(w.segments) >= 3)
        assert w.segments[2].number >= 5


def test_a_killed_reader_process_is_replaced_and_nothing_counts_backward(
    watch: Callable[..., Any], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
    cameras = [camera(name, f"file://{clip}") for name in ("a", "b", "c")]
    with watch(cameras, ingest=Ingest(cameras_per_process=2)) as w:
        w.until(lambda: all(len(w.valid(name)) >= 2 for name in "abc"))
        before: dict[str, CameraHealth] = w.pool.health()
        (pid,) = [pid for pid, names in w.pool.pids.items() if "a" in names]
        others = {pid: names for pid, names in w.pool.pids.items() if "a" not in names}
        kept = w.pool.take(1, 0.0, 5.0)
        os.kill(pid, signal.SIGKILL)
        w.until(lambda: w.pool.health()["a"].restarts == 1)
        assert w.link("c") == "up"
        mark = {name: len(w.valid(name)) for name in "abc"}
        w.until(lambda: all(len(w.valid(name)) >= mark[name] + 2 for name in "abc"))
        w.pool.release(kept)  # a slot of the dead process
        after = w.pool.health()
        assert {name: h.restarts for name, h in after.items()} == {"a": 1, "b": 1, "c": 0}
        assert {h.suspected for h in after.values()} == {0}
        assert w.pool.restarts == 1
        for name in "abc":
            assert after[name].frames_decoded >= before[name].frames_decoded
            assert after[name].segments >= before[name].segments
            numbers = [s.number for s in w.of(name)]
            assert numbers == sorted(set(numbers))
        assert others.items() <= w.pool.pids.items()


def test_processes_that_die_at_every_start_are_a_crash_loop_until_one_lives(
    watch: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cause = tmp_path / "cause"
    cause.touch()
    dies = (
        f"import os, sys\nif 'monitor.ingest.worker' in sys.orig_argv and os.path.exists({str(cause)!r}): os._exit(3)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(dies)
    monkeypatch.syspath_prepend(str(tmp_path))
    with watch([camera("a", f"file://{write_clip(tmp_path / 'a.mp4', frames=600, fps=30)}")]) as w:
        w.until(lambda: w.pool.crash_loop is not None)
        assert "3 in a row, the last with exit status 3" in w.pool.crash_loop
        assert w.link("a") != "up"
        w.until(lambda: w.pool.restarts >= 4)
        assert len([one for one in caplog.records if "soon after each start" in one.message]) == 1, "a change, not each"
        cause.unlink()
        w.until(lambda: w.link("a") == "up")
        w.until(lambda: w.pool.crash_loop is None, 30.0)
        os.kill(next(iter(w.pool.pids)), signal.SIGKILL)
        w.until(lambda: w.link("a") != "up")
        assert w.pool.crash_loop is None, "one that ends after it lived is no loop"


def test_a_camera_whose_process_ended_says_why_until_it_is_back(watch: Callable[..., Any], tmp_path: Path) -> None:
    with watch([camera("a", f"file://{write_clip(tmp_path / 'a.mp4', frames=600, fps=30)}")]) as w:
        w.until(lambda: w.link("a") == "up")
        os.kill(next(iter(w.pool.pids)), signal.SIGKILL)
        seen: list[tuple[str, str | None]] = []

        def back() -> bool:
            health: CameraHealth = w.pool.health()["a"]
            seen.append((health.link, health.fault))
            return health.restarts == 1 and health.link == "up"

        w.until(back)
        while seen and seen[0] == ("up", None):
            seen.pop(0)
        why = "its reader process ended (signal 9)"
        assert ("connecting", why) in seen
        assert set(seen) <= {("lost", why), ("connecting", why), ("up", None)}


def test_a_camera_whose_process_crashes_twice_gets_one_of_its_own(watch: Callable[..., Any], tmp_path: Path) -> None:
    # Nobody answers at this address within the time-out, so that "hung" is always being opened.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
        cameras = [camera("good", f"file://{clip}"), camera("hung", url, connect_timeout_s=30.0)]
        with watch(cameras) as w:
            for crashes in (1, 2):
                w.until(lambda: w.link("good") == "up")
                (pid,) = [pid for pid, names in w.pool.pids.items() if "hung" in names]
                os.kill(pid, signal.SIGSEGV)
                w.until(lambda crashes=crashes: w.pool.health()["hung"].suspected == crashes)
            w.until(lambda: len(w.pool.pids) == 2 and w.link("good") == "up")
            assert sorted(w.pool.pids.values()) == [("good",), ("hung",)]


def test_a_thread_that_hangs_in_libav_costs_its_process_and_is_blamed(
    watch: Callable[..., Any], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        with watch([camera("good", f"file://{clip}"), camera("hung", url, connect_timeout_s=30.0)]) as w:
            w.until(lambda: w.link("good") == "up")
            (process,) = w.pool._processes.values()
            (placed,) = [placed for placed in process.lives.values() if placed.settings.name == "hung"]
            assert process.memory.doing(placed.mark)[0] is Doing.OPENING
            # As if it had begun 93 s ago: three time-outs and the grace are over.
            process.memory._marks[placed.mark, 1] -= 93.0
            w.until(lambda: w.pool.health()["hung"].suspected == 1)
            w.until(lambda: w.link("good") == "up")
            health = w.pool.health()
            assert (health["good"].restarts, health["good"].suspected) == (1, 0)
            assert gone(process.pid)


@pytest.mark.slow
def test_a_stopped_process_is_noticed_and_replaced(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
    with watch([camera("a", f"file://{clip}")]) as w:
        w.until(lambda: w.link("a") == "up")
        (pid,) = w.pool.pids
        os.kill(pid, signal.SIGSTOP)
        w.until(lambda: w.pool.health()["a"].restarts == 1 and w.link("a") == "up", 25.0)
        assert gone(pid)
        assert w.pool.health()["a"].suspected == 0, "nobody's stream is to blame"


def test_readers_ignore_the_signals_that_are_meant_for_the_monitor(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
    with watch([camera("a", f"file://{clip}")]) as w:
        w.until(lambda: w.link("a") == "up")
        (pid,) = w.pool.pids
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
        seen = len(w.segments)
        w.until(lambda: len(w.segments) >= seen + 2)
        assert list(w.pool.pids) == [pid]
    wait_gone([pid], 0.5)


def test_readers_end_with_a_monitor_that_was_killed(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
    program = f"""
        import time
        from pathlib import Path
        from tests.monitor.ingest.conftest import SMALL, camera
        from monitor.config import EvidenceSettings, Ingest
        from monitor.ingest.pool import ReaderPool
        cameras = [camera(n, "file://{clip}") for n in "abc"]
        ingest = Ingest(cameras_per_process=2)
        with ReaderPool(cameras, SMALL, ingest=ingest, evidence=EvidenceSettings(folder=Path("{tmp_path}"))) as pool:
            pool.release(pool.take(1, 0, 20))
            print(*pool.pids, flush=True)
            time.sleep(60)
    """
    monitor = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with monitor:
        assert monitor.stdout is not None
        pids = [int(pid) for pid in monitor.stdout.readline().split()]
        assert len(pids) == 2
        monitor.kill()
    wait_gone(pids)


def test_readers_give_way_as_they_are_told(watch: Callable[..., Any], tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    clip = str(write_clip(tmp_path / "a.mp4", frames=160))
    with watch([camera("a", clip)], niceness=3) as w:
        w.until(lambda: w.of("a"))
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in w.pool.pids] == [min(own + 3, 19)]


def test_nothing_is_left_when_the_pool_ends(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
    shared, files = names_in("/dev/shm"), names_in("/proc/self/fd")
    with watch([camera(n, f"file://{clip}") for n in "abcd"], ingest=Ingest(cameras_per_process=2)) as w:
        w.until(lambda: len(w.segments) >= 4)
        pids = list(w.pool.pids)
        w.segments.clear()  # a segment that is kept keeps its memory
        started_s = time.monotonic()
    assert time.monotonic() - started_s < 1.5
    wait_gone(pids, 0.5)
    assert names_in("/dev/shm") == shared
    assert len(names_in("/proc/self/fd")) <= len(files)


def test_update_touches_only_what_changed(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=900, fps=30)
    a, b, c, d = (camera(n, f"file://{clip}") for n in "abcd")
    with watch([a, b, c]) as w:
        w.until(lambda: all(len(w.valid(n)) >= 1 for n in "abc"))
        changed = camera("b", f"file://{clip}", fps=10.0)
        w.pool.update([a, changed, d])
        w.until(lambda: len(w.valid("d")) >= 1 and w.link("b") == "up" and len(w.valid("b")) >= 3)
        assert set(w.pool.health()) == {"a", "b", "d"}
        numbers = [s.number for s in w.of("a")]
        assert numbers == list(range(len(numbers))), "camera a went on without a hole"
        assert [s.number for s in w.of("b")] == sorted({s.number for s in w.of("b")})
        assert sum(len(names) for names in w.pool.pids.values()) == 3


def test_another_way_to_decode_opens_that_camera_anew_and_no_other(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=900, fps=30, b_frames=1)
    a, b = (camera(n, f"file://{clip}") for n in "ab")
    with watch([a, b]) as w:
        w.until(lambda: all(len(w.valid(n)) >= 1 for n in "ab"))
        w.pool.update([a, camera("b", f"file://{clip}", skip_frame="nonref")])
        w.until(lambda: w.pool.health()["b"].source_fps == pytest.approx(15.0, rel=0.05))
        seen = len(w.valid("b"))
        w.until(lambda: len(w.valid("b")) >= seen + 2)
        assert w.pool.health()["a"].source_fps == pytest.approx(30.0, rel=0.05)
        numbers = [s.number for s in w.of("a")]
        assert numbers == list(range(len(numbers))), "camera a went on without a hole"


def test_one_dead_camera_does_not_delay_the_others(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=600, fps=30)
    dead = [camera(f"dead{n}", "rtsp://127.0.0.1:1/x") for n in range(3)]
    with watch([*dead, camera("a", f"file://{clip}")]) as w:
        w.until(lambda: len(w.valid("a")) >= 1, 5.0)
        assert w.link("dead0") == "lost"


def test_take_waits_for_a_batch_but_not_longer_than_its_deadline(watch: Callable[..., Any], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=400, fps=15)
    with watch([camera("a", f"file://{clip}", fps=60.0)]) as w:
        assert w.pool.take(4, 0.0, 0.0) == []
        one = w.pool.take(4, 0.01, 10.0)
        assert len(one) == 1
        w.pool.release(one)
        several: list[Segment] = w.pool.take(2, 5.0, 10.0)
        assert len(several) == 2
        w.pool.release(several)


def test_a_frozen_picture_is_invalid_until_it_moves_again(watch: Callable[..., Any], tmp_path: Path) -> None:
    # MJPEG: every picture is a key frame, and equal input is equal output.
    import av

    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=15)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        for index in range(110):
            moving = index < 20 or index >= 70
            picture = np.full((64, 64, 3), (index * 3 if moving else 99) % 256, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    with watch([camera("a", f"file://{path}", frozen_after_s=1.5)]) as w:
        w.until(lambda: w.pool.health()["a"].picture_faults == ("frozen",))
        w.until(lambda: w.pool.health()["a"].picture_faults == () and len(w.of("a")) >= 6)
        assert [s.invalid for s in w.of("a")][:6] == [None, None, "frozen", "frozen", "frozen", None]
        assert w.of("a")[3].pictures is None


def test_still_noise_free_pictures_between_key_frames_are_not_frozen() -> None:
    from monitor.ingest.freeze import Freeze

    freeze, picture = Freeze(10.0), np.zeros((4, 8, 8, 3), np.uint8)[0]
    assert [freeze.see(picture, float(second)) for second in (0, 5, 10, 60)] == [False] * 4
    freeze.key()
    assert freeze.see(picture, 61.0)
    assert not freeze.see(picture + 1, 62.0)
