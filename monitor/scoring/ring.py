"""Sliding bags of one camera: which features make a bag, and which scores are made public (pure).

A ring knows numbers, times and slots; the features themselves lie on the accelerator, in the slots that
the ring names. Its rules (l = length, s = stride, d = delay, all in segments):

1. Bags end at positions k with k - k0 >= l - 1 and (k - k0 - (l - 1)) % s == 0; k0 is where the ring began.
2. A bag that ends at k publishes every segment up to k - d that no earlier bag has published. So after the
   first bag these are k-d-s+1 … k-d, and each segment is published exactly once.
3. A missing segment is bridged by the feature before it, and never published. A bag bridges at most
   ``max_gap``; where it would need more, the ring begins anew.
4. A file's end closes the ring: the next bag is cut short by the end, unpadded, and everything left is
   published. N < l segments are one bag. A live camera has no short bag.

With s = l and d = 0 this is eq. 1 of the paper, short last bag included.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from monitor.flow import SegmentTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """A bag to be scored: ``slots`` in order of time, N of them; ``times`` None where a gap is bridged."""

    slots: tuple[int, ...]
    times: tuple[SegmentTimes | None, ...]
    published: tuple[int, ...]
    bridged: int
    last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one segment did: gather the bags ``before``, write its feature to ``slot``, gather ``bags``."""

    slot: int
    before: tuple[Bag, ...]
    """Bags that end in a bridged gap, or that closed a file's former life: without the new feature."""
    bags: tuple[Bag, ...]
    restarted: bool


class Ring:
    """The last ``length`` segments of one camera. ``file``: a restart closes the old life first."""

    def __init__(self, length: int, stride: int, delay: int, max_gap: int, *, file: bool = False) -> None:
        if not (length >= 1 and 1 <= stride <= length and 0 <= delay <= length - stride and 0 <= max_gap < length):
            raise ValueError(
                f"no such bags: l = {length}, stride = {stride}, delay = {delay}, max_gap = {max_gap}; "
                "needed are 1 <= stride <= l, 0 <= delay <= l - stride and 0 <= max_gap < l"
            )
        self.length, self.stride, self.delay, self.max_gap = length, stride, delay, max_gap
        self._file = file
        self._last: int | None = None
        self._window: deque[tuple[SegmentTimes | None, int]] = deque()
        self._begin(0)

    @property
    def filled(self) -> int:
        """How many of the l positions are there: less than l means learning."""
        return len(self._window)

    def push(self, times: SegmentTimes) -> Step:
        """Takes the next valid segment. A number that does not rise is a stream begun anew: the ring too."""
        number = times.number
        before: list[Bag] = []
        restarted = self._last is not None and not self._bridge(number - self._last - 1, before)
        if restarted and self._file:
            before += self._close(last=False)
        if restarted or self._last is None:
            self._begin(number)
        bags: list[Bag] = []
        self._append(times, None, bags)
        self._last = number
        return Step(slot=self._window[-1][1], before=tuple(before), bags=tuple(bags), restarted=restarted)

    def end(self) -> tuple[Bag, ...]:
        """Closes a file: the bags that publish what is left (none, if nothing is)."""
        bags = self._close(last=True)
        self._begin(0)
        self._last = None
        return bags

    def _begin(self, number: int) -> None:
        self._start = number
        self._next = number  # the position that the next append takes
        self._unpublished = number
        self._window.clear()

    def _bridge(self, missing: int, bags: list[Bag]) -> bool:
        """Bridges what lies between; False, with nothing changed, where the gap rule forbids it."""
        if not 0 <= missing <= self.max_gap:
            return False
        held = [times is None for times, _ in self._window] + [True] * missing + [False]
        for end in range(len(self._window) + 1, len(held) + 1):
            if sum(held[max(0, end - self.length) : end]) > self.max_gap:
                return False
        for _ in range(missing):
            self._append(None, self._window[-1][1], bags)
        return True

    def _append(self, times: SegmentTimes | None, slot: int | None, bags: list[Bag]) -> None:
        """Adds a position: a bridged one shares the slot before it, a real one (None) takes a free slot."""
        if len(self._window) == self.length:
            self._window.popleft()
        if slot is None:
            used = {held for _, held in self._window}
            slot = next(free for free in range(self.length) if free not in used)
        self._window.append((times, slot))
        position = self._next
        self._next += 1
        steps = position - self._start - (self.length - 1)
        if steps >= 0 and steps % self.stride == 0:
            bags.append(self._bag(len(self._window), position - self.delay, last=False))

    def _bag(self, size: int, publish_to: int, *, last: bool) -> Bag:
        """The newest ``size`` positions as a bag that publishes up to position ``publish_to``."""
        held = list(self._window)[-size:]
        first = self._next - size
        published = tuple(
            index
            for index, (times, _) in enumerate(held)
            if times is not None and self._unpublished <= first + index <= publish_to
        )
        self._unpublished = max(self._unpublished, publish_to + 1)
        return Bag(
            slots=tuple(slot for _, slot in held),
            times=tuple(times for times, _ in held),
            published=published,
            bridged=sum(times is None for times, _ in held),
            last=last,
        )

    def _close(self, *, last: bool) -> tuple[Bag, ...]:
        newest = self._next - 1
        if not self._window or self._unpublished > newest:
            return ()
        steps = newest - self._start - (self.length - 1)
        if steps < 0:
            size = len(self._window)  # N < l: one bag
        else:
            rest = steps % self.stride
            size = self.length if rest == 0 else self.length - self.stride + rest
        return (self._bag(size, newest, last=last),)
