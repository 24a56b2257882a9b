"""The slots of one reader process: one anonymous memory file, seen by the process and by the monitor.

It has no name, so nothing leaks when a process is killed, and needs no ``/dev/shm`` (64 MB in containers).
The first page holds a mark for each reader: what it is doing, and since when; the monitor reads it even after
the process died. Pages that were never written cost nothing, so there may be many more slots than are used at
a time.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import time

import numpy as np
import numpy.typing as npt

from monitor.flow import Pictures, Preprocessing

PAGE = 4096
MARKS = PAGE // 16


class Doing(enum.IntEnum):
    """What a reader's thread is doing; anything but WAITING is inside libav."""

    WAITING = 0
    OPENING = 1
    READING = 2
    DECODING = 3


class SlotMemory:
    """``fd``: the memory file. Slots are (K, H, W, 3) uint8 views; a view keeps the memory alive."""

    def __init__(self, fd: int, preprocessing: Preprocessing, slots: int) -> None:
        self.fd = fd
        self.slots = slots
        self._shape = preprocessing.shape
        self._stride = -(-int(np.prod(self._shape)) // PAGE) * PAGE
        self._map = mmap.mmap(fd, PAGE + slots * self._stride)
        self._marks: npt.NDArray[np.float64] = np.frombuffer(self._map, np.float64, MARKS * 2).reshape(MARKS, 2)

    @classmethod
    def create(cls, preprocessing: Preprocessing, slots: int) -> SlotMemory:
        fd = os.memfd_create("vad-monitor slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            stride = -(-int(np.prod(preprocessing.shape)) // PAGE) * PAGE
            os.ftruncate(fd, PAGE + slots * stride)
            # Sealed, a faulty process cannot shrink it under the monitor's feet (that would be a SIGBUS here).
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(fd, preprocessing, slots)
        except OSError:
            os.close(fd)
            raise

    def pictures(self, slot: int) -> Pictures:
        count = int(np.prod(self._shape))
        flat = np.frombuffer(self._map, np.uint8, count, PAGE + slot * self._stride)
        return flat.reshape(self._shape)

    def mark(self, index: int, doing: Doing) -> None:
        row = self._marks[index]
        row[1] = time.monotonic()
        row[0] = doing

    def doing(self, index: int) -> tuple[Doing, float]:
        """What reader ``index`` is doing, and since when (time.monotonic())."""
        return Doing(int(self._marks[index, 0])), float(self._marks[index, 1])

    def discard(self) -> None:
        """Everything at once: of a process that did not start, so that nobody has a view of it."""
        del self._marks
        self._map.close()  # it has a descriptor of its own
        self.close_fd()

    def close_fd(self) -> None:
        """The mapping stays as long as a view of it lives; the descriptor is not needed for that."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
