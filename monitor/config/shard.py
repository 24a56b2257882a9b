"""Which of several monitors watches which camera, when they share one plant.yaml.

A rendez-vous hash (Thaler and Ravishankar 1998): a camera belongs to the shard whose hash with its name is highest. One
shard more takes about 1/n of the cameras of each other one, one less gives its cameras to the rest, and no other camera
moves. Nothing is remembered, and no shard asks another.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from monitor.config.plant import Plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of ``count`` monitors, counted from 0 as the pods of a StatefulSet are."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a shard is I/N with 0 <= I < N, like 0/3 (got {self.index}/{self.count})")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``0/3`` is the first of three. Raises ValueError."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"a shard is I/N with 0 <= I < N, like 0/3 (got {text!r})")
        return cls(index=int(index), count=int(count))

    def of(self, plant: Plant) -> Plant:
        """The plant with the cameras of this shard alone; there may be none."""
        mine = tuple(camera for camera in plant.cameras if owner(camera.name, self.count) == self.index)
        return plant.model_copy(update={"cameras": mine})


WHOLE = Shard(index=0, count=1)
"""One monitor watches all."""


def owner(camera: str, shards: int) -> int:
    """The shard that watches a camera."""
    return max(range(shards), key=lambda shard: blake2b(f"{shard}/{camera}".encode(), digest_size=8).digest())
