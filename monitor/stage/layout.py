"""Which rooms and camera poses a seed stands for; training, demo, canary and tests never share one.

A seed belongs to one split by its range. The split owns its own families of rooms and its own cells of
camera poses, so that a detector trained on staged scenes meets the demo's rooms and views for the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["training", "demo", "canary", "tests"]

SEEDS: dict[Split, range] = {
    "training": range(1_000_000),
    "demo": range(1_000_000, 2_000_000),
    "canary": range(2_000_000, 3_000_000),
    "tests": range(3_000_000, 4_000_000),
}


def split_of(seed: int) -> Split:
    """The split whose range holds the seed. Raises ValueError for a seed outside all ranges."""
    for split, seeds in SEEDS.items():
        if seed in seeds:
            return split
    raise ValueError(f"seed {seed} belongs to no split: it must be from 0 to {SEEDS['tests'].stop - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of room. Sizes are (least, most) metres; ``left`` and ``right`` name what stands along the walls."""

    split: Split
    width_m: tuple[float, float]
    depth_m: tuple[float, float]
    height_m: float
    wall: Literal["panel", "brick", "painted", "corrugated"]
    floor: Literal["concrete", "tiles", "lanes", "plates"]
    wall_rgb: tuple[int, int, int]
    floor_rgb: tuple[int, int, int]
    left: tuple[str, ...]
    right: tuple[str, ...]
    pipes: int
    windows: bool


FAMILIES: dict[str, Family] = {
    "press hall": Family(
        split="training", width_m=(9, 11), depth_m=(11, 14), height_m=5.0, wall="corrugated", floor="lanes",
        wall_rgb=(150, 160, 165), floor_rgb=(120, 120, 118), left=("press", "press"), right=("cabinet", "crates"),
        pipes=2, windows=True,
    ),
    "packing": Family(
        split="training", width_m=(8, 10), depth_m=(10, 13), height_m=4.0, wall="painted", floor="tiles",
        wall_rgb=(188, 186, 172), floor_rgb=(140, 132, 120), left=("conveyor",), right=("crates", "cabinet"),
        pipes=1, windows=True,
    ),
    "workshop": Family(
        split="training", width_m=(8, 9.5), depth_m=(9, 12), height_m=3.6, wall="brick", floor="concrete",
        wall_rgb=(150, 112, 92), floor_rgb=(112, 108, 100), left=("lathe", "cabinet"), right=("lathe",),
        pipes=2, windows=False,
    ),
    "passage": Family(
        split="training", width_m=(5, 6.5), depth_m=(12, 15), height_m=3.2, wall="painted", floor="plates",
        wall_rgb=(164, 176, 160), floor_rgb=(104, 110, 112), left=("cabinet",), right=("tank",),
        pipes=4, windows=False,
    ),
    "store": Family(
        split="training", width_m=(8, 10), depth_m=(11, 14), height_m=4.4, wall="panel", floor="concrete",
        wall_rgb=(172, 168, 160), floor_rgb=(132, 128, 122), left=("rack", "rack"), right=("rack", "crates"),
        pipes=0, windows=True,
    ),
    "filling line": Family(
        split="training", width_m=(9, 11), depth_m=(10, 13), height_m=4.2, wall="panel", floor="tiles",
        wall_rgb=(196, 200, 204), floor_rgb=(150, 144, 132), left=("tank", "tank"), right=("conveyor",),
        pipes=3, windows=False,
    ),
    "boiler house": Family(
        split="demo", width_m=(8, 10), depth_m=(10, 13), height_m=4.6, wall="brick", floor="plates",
        wall_rgb=(138, 122, 112), floor_rgb=(110, 108, 108), left=("tank", "press"), right=("tank", "cabinet"),
        pipes=4, windows=False,
    ),
    "assembly": Family(
        split="demo", width_m=(9, 11), depth_m=(10, 13), height_m=4.2, wall="panel", floor="lanes",
        wall_rgb=(180, 186, 190), floor_rgb=(126, 130, 126), left=("conveyor", "cabinet"), right=("lathe", "crates"),
        pipes=1, windows=True,
    ),
    "dispatch": Family(
        split="demo", width_m=(8, 10), depth_m=(11, 14), height_m=4.8, wall="corrugated", floor="lanes",
        wall_rgb=(168, 160, 148), floor_rgb=(118, 116, 112), left=("rack", "crates"), right=("conveyor",),
        pipes=1, windows=True,
    ),
    "turbine floor": Family(
        split="demo", width_m=(9, 11), depth_m=(11, 13), height_m=5.0, wall="painted", floor="tiles",
        wall_rgb=(170, 178, 166), floor_rgb=(136, 130, 118), left=("press", "tank"), right=("lathe", "press"),
        pipes=3, windows=True,
    ),
    "pump room": Family(
        split="canary", width_m=(7, 9), depth_m=(9, 12), height_m=3.8, wall="painted", floor="plates",
        wall_rgb=(156, 170, 180), floor_rgb=(112, 116, 118), left=("tank", "lathe"), right=("press",),
        pipes=4, windows=False,
    ),
    "rolling mill": Family(
        split="tests", width_m=(9, 11), depth_m=(11, 13), height_m=5.0, wall="corrugated", floor="concrete",
        wall_rgb=(140, 142, 150), floor_rgb=(116, 112, 108), left=("conveyor",), right=("press", "press"),
        pipes=2, windows=False,
    ),
    "tool crib": Family(
        split="tests", width_m=(7.5, 9), depth_m=(9, 12), height_m=3.6, wall="panel", floor="tiles",
        wall_rgb=(186, 178, 164), floor_rgb=(128, 124, 122), left=("rack",), right=("lathe", "cabinet"),
        pipes=1, windows=True,
    ),
}  # fmt: skip

POSE_CELLS: dict[Split, tuple[tuple[int, int], ...]] = {
    # (column across the front wall 0-5, band of heights 0-2): a cell belongs to one split only.
    "training": ((0, 0), (1, 1), (2, 2), (3, 0), (4, 1), (5, 2), (0, 2), (3, 2)),
    "demo": ((1, 0), (2, 1), (4, 0), (5, 1), (1, 2)),
    "canary": ((0, 1), (4, 2)),
    "tests": ((2, 0), (3, 1), (5, 0)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A thing that stands in the room: kind, footprint and height in metres (x right, y up, z into the room)."""

    kind: str
    x_m: tuple[float, float]
    z_m: tuple[float, float]
    height_m: float
    rgb: tuple[int, int, int]
    round: bool = False
    """A standing cylinder (a tank) in the same footprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A room as a seed made it. x from -width/2 to width/2, z from 0 (the camera's wall) to depth, y up."""

    family: str
    width_m: float
    depth_m: float
    height_m: float
    boxes: tuple[Box, ...]
    free_x_m: tuple[float, float]
    free_z_m: tuple[float, float]
    """Where people may walk."""
    door_x_m: float
    """Centre of the door in the far wall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where the camera hangs and how it looks: metres and radians, focal length in picture widths."""

    cell: tuple[int, int]
    x_m: float
    y_m: float
    z_m: float
    yaw: float
    pitch: float
    focal: float


_SIZES = {  # metres along the wall, from the wall into the room, up
    "press": (2.4, 1.5, 2.6), "cabinet": (1.2, 0.6, 2.0), "crates": (1.8, 1.2, 1.3), "conveyor": (6.0, 1.0, 0.85),
    "lathe": (2.2, 1.0, 1.2), "rack": (3.2, 1.0, 2.8), "tank": (1.8, 1.8, 2.9),
}  # fmt: skip
_COLOURS = {
    "press": ((70, 105, 92), (62, 86, 120), (120, 96, 60)), "cabinet": ((140, 144, 146), (96, 112, 122)),
    "crates": ((150, 118, 78), (128, 104, 74)), "conveyor": ((96, 98, 100), (70, 84, 104)),
    "lathe": ((88, 108, 100), (112, 116, 112)), "rack": ((58, 76, 118), (134, 84, 52)),
    "tank": ((158, 160, 162), (120, 132, 136)),
}  # fmt: skip


def families(split: Split) -> tuple[str, ...]:
    """The names of the families that belong to a split."""
    return tuple(name for name, family in FAMILIES.items() if family.split == split)


def layout_of(seed: int, family: str | None = None) -> Layout:
    """The room of a seed, of the given family or of one the seed picks among its split's.

    Raises ValueError where the family is unknown or belongs to another split.
    """
    split = split_of(seed)
    random = np.random.default_rng((seed, 1))
    name = family or str(random.choice(families(split)))
    if name not in families(split):
        raise ValueError(f"layout {name!r} does not belong to split {split!r}: it has {', '.join(families(split))}")
    kind = FAMILIES[name]
    width, depth = float(random.uniform(*kind.width_m)), float(random.uniform(*kind.depth_m))
    boxes = (*_along(kind.left, -1, width, depth, random), *_along(kind.right, 1, width, depth, random))
    left = max([b.x_m[1] for b in boxes if b.x_m[0] < 0], default=-width / 2)
    right = min([b.x_m[0] for b in boxes if b.x_m[1] > 0], default=width / 2)
    door = float(np.clip(random.uniform(-1, 1) * width * 0.25, left + 0.8, right - 0.8))
    return Layout(
        family=name, width_m=width, depth_m=depth, height_m=kind.height_m, boxes=boxes,
        free_x_m=(left + 0.5, right - 0.5), free_z_m=(3.4, depth - 1.0), door_x_m=door,
    )  # fmt: skip


def pose_of(seed: int, layout: Layout) -> Pose:
    """How the camera of a seed looks at its room: from high on the near wall to the middle of the floor."""
    random = np.random.default_rng((seed, 2))
    cells = POSE_CELLS[split_of(seed)]
    column, band = cells[int(random.integers(len(cells)))]
    # Cells are apart by a tenth of themselves, so that two splits' poses never touch.
    across = (column + float(random.uniform(0.05, 0.95))) / 6 - 0.5
    x = across * layout.width_m * 0.8
    ceiling = min(layout.height_m - 0.2, 4.0)
    y = 2.5 + (ceiling - 2.5) * (band + float(random.uniform(0.05, 0.95))) / 3
    target_x = (layout.free_x_m[0] + layout.free_x_m[1]) / 2 * 0.7 - x * 0.15
    target_z = layout.depth_m * float(random.uniform(0.50, 0.58))
    yaw = float(np.arctan2(target_x - x, target_z - 0.3))
    pitch = float(np.arctan2(y - 0.95, np.hypot(target_x - x, target_z)))
    return Pose(
        cell=(column, band), x_m=x, y_m=y, z_m=0.3, yaw=yaw, pitch=pitch, focal=float(random.uniform(0.78, 0.92))
    )


def _along(kinds: tuple[str, ...], side: int, width: float, depth: float, random: np.random.Generator) -> list[Box]:
    """Boxes in a row along the left (-1) or right (1) wall, from far to near."""
    boxes: list[Box] = []
    z = depth - float(random.uniform(0.5, 1.4))
    for kind in kinds:
        along, across, up = (size * float(random.uniform(0.9, 1.1)) for size in _SIZES[kind])
        wall = side * (width / 2 - float(random.uniform(0.05, 0.3)))
        rgb = _COLOURS[kind][int(random.integers(len(_COLOURS[kind])))]
        x = (wall, wall + across) if side < 0 else (wall - across, wall)
        if kind == "tank":
            along = across
        boxes.append(Box(kind=kind, x_m=x, z_m=(z - along, z), height_m=up, rgb=rgb, round=kind == "tank"))
        z -= along + float(random.uniform(0.5, 1.2))
    return boxes
