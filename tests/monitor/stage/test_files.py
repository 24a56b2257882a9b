"""Files as cameras, as libav sees them."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from pathlib import Path

import pytest

from monitor.stage.files import UnplayableFile, play_file
from monitor.stage.rtsp import RtspServer
from tests.monitor.stage.raw import look, run_program, write_file


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"bf": "0"}), ("a.mkv", {"bf": "2", "b_strategy": "0"})])
def test_a_file_is_played_over_and_over_with_time_stamps_that_go_on(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    file = write_file(tmp_path / name, 13, **options)

    async def story() -> list[tuple[float | None, int]]:
        async with RtspServer() as server:
            task = asyncio.create_task(play_file(server.mount("/gate"), file))
            seen = await asyncio.to_thread(look, server.url("/gate"), 30)
            task.cancel()
            return seen

    seen = asyncio.run(story())
    times = [at for at, _ in seen if at is not None]
    assert {round(after - before, 3) for before, after in itertools.pairwise(times)} == {0.04}
    assert len(times) >= 29
    assert max(abs(grey - (50 + n % 13)) for n, (_, grey) in enumerate(seen)) <= 3


def test_a_file_is_played_once_in_real_time(tmp_path: Path) -> None:
    file = write_file(tmp_path / "a.mp4", 13)

    async def story() -> float:
        async with RtspServer() as server:
            began_s = time.monotonic()
            await play_file(server.mount("/gate"), file, loop=False)
            return time.monotonic() - began_s

    assert 0.47 < asyncio.run(story()) < 1.0


def test_a_file_that_cannot_be_played_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    other = write_file(tmp_path / "other.mp4", 3, codec="mpeg4")

    async def story(file: Path) -> str:
        async with RtspServer() as server:
            with pytest.raises(UnplayableFile) as refused:
                await play_file(server.mount("/gate"), file)
            return str(refused.value).replace(str(tmp_path), "")

    assert [asyncio.run(story(file)) for file in (tmp_path / "none.mp4", tmp_path / "text.mp4", other)] == [
        "/none.mp4 cannot be played: No such file or directory",
        "/text.mp4 cannot be played: Invalid data found when processing input",
        "/other.mp4 holds no H.264 video; convert it: ffmpeg -i IN -c:v libx264 OUT.mp4",
    ]


def test_the_front_serves_each_file_until_it_is_told_to_end(tmp_path: Path) -> None:
    files = [str(write_file(tmp_path / f"{name}.mp4", 10)) for name in ("gate", "yard")]
    front = (sys.executable, "-m", "monitor.stage.rtsp")

    async def story() -> tuple[list[int], int]:
        process = await asyncio.create_subprocess_exec(*front, *files, "--port", "0", stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        urls = [(await process.stdout.readline()).decode().strip() for _ in files]
        assert [url.rpartition("/")[2] for url in urls] == ["gate", "yard"]
        seen = [len(await asyncio.to_thread(look, url, 2)) for url in urls]
        process.send_signal(signal.SIGTERM)
        return seen, await process.wait()

    assert asyncio.run(story()) == ([2, 2], 0)
    assert asyncio.run(run_program(*front, files[0], "--port", "0", "--seconds", "0.2"))[0] == 0
    code, out = asyncio.run(run_program(*front, str(tmp_path / "none.mp4"), "--port", "0"))
    assert (code, out.splitlines()[-1]) == (1, f"{tmp_path}/none.mp4 cannot be played: No such file or directory")


def test_the_front_says_so_if_its_port_is_taken(tmp_path: Path) -> None:
    async def story() -> tuple[int, str]:
        async with RtspServer() as server:
            front = (sys.executable, "-m", "monitor.stage.rtsp", str(tmp_path / "a.mp4"), "--port", str(server.port))
            code, out = await run_program(*front)
            return code, out.replace(str(server.port), "PORT")

    code, out = asyncio.run(story())
    assert code == 1
    assert out.startswith("cannot listen on 127.0.0.1:PORT: ")
