"""Small disks of our own that can be filled, frozen and made unwritable: an ext4 in a file, mounted by root.

Without the right to mount the tests that need one are skipped.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs_program

SIZE_MB = 24


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


class Disk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Nothing is left, to the last block."""
        filler = self.folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            filler.unlink(missing_ok=True)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Every write waits, as on a disk or network share that hangs."""
        _run("fsfreeze", "--freeze", str(self.folder))
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", str(self.folder))

    @contextlib.contextmanager
    def unwritable(self) -> Iterator[None]:
        """No file can be written, those that are open included (a remount would be refused while they are).

        A write to a mapped page of an immutable file is answered with SIGBUS: nothing here may be mapped.
        """
        files = [path for path in self.folder.rglob("*") if not path.is_symlink()]
        paths = [str(path) for path in (*files, self.folder)]
        _run("chattr", "+i", *paths)
        try:
            yield
        finally:
            _run("chattr", "-i", *paths)


@contextlib.contextmanager
def disk(folder: Path, file: Path) -> Iterator[Disk]:
    """A disk mounted at ``folder``, kept in ``file``."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk to fill needs root")
    needs_program("mkfs.ext4", "e2fsprogs")
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as image:
        image.truncate(SIZE_MB * 1_000_000)
    _run("mkfs.ext4", "-q", "-m", "0", str(file))
    try:
        _run("mount", "-o", "loop", str(file), str(folder))
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"this machine mounts no disk: {refused.stderr.decode().strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=False, capture_output=True)
        _run("umount", "--lazy", str(folder))
