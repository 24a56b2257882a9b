"""Seeds, rooms and poses: what one split has seen no other one sees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from monitor.stage.layout import FAMILIES, POSE_CELLS, SEEDS, families, layout_of, pose_of, split_of


def test_a_seed_belongs_to_one_split_by_its_range() -> None:
    assert [split_of(seed) for seed in (0, 999_999, 1_000_000, 2_000_000, 3_999_999)] == [
        "training", "training", "demo", "canary", "tests",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [-1, 4_000_000])
def test_a_seed_outside_all_ranges_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed {seed} belongs to no split: it must be from 0 to 3999999"):
        split_of(seed)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SEEDS, 2)))
def test_two_splits_share_no_seed_no_kind_of_room_and_no_pose(one: str, other: str) -> None:
    seen = {}
    for split in (one, other):
        seeds = SEEDS[split][:120]  # type: ignore[index]
        layouts = [layout_of(seed) for seed in seeds]
        poses = [pose_of(seed, layout) for seed, layout in zip(seeds, layouts, strict=True)]
        seen[split] = (set(seeds), {layout.family for layout in layouts}, {pose.cell for pose in poses})
    assert [len(a & b) for a, b in zip(seen[one], seen[other], strict=True)] == [0, 0, 0]


def test_every_family_and_every_pose_cell_is_used_by_its_split() -> None:
    for split, seeds in SEEDS.items():
        layouts = [layout_of(seed) for seed in seeds[:120]]
        poses = [pose_of(seed, layout) for seed, layout in zip(seeds, layouts, strict=False)]
        assert {layout.family for layout in layouts} == {n for n, family in FAMILIES.items() if family.split == split}
        assert {pose.cell for pose in poses} == set(POSE_CELLS[split])


def test_a_family_of_another_split_is_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(
        ValueError, match="layout 'press hall' does not belong to split 'tests': it has rolling mill, tool crib"
    ):
        layout_of(SEEDS["tests"].start, "press hall")
    assert families("canary") == ("pump room",)


def test_a_seed_makes_the_same_room_again_and_another_seed_another_one() -> None:
    seed = SEEDS["tests"].start
    assert layout_of(seed) == layout_of(seed)
    assert layout_of(seed) != layout_of(seed + 1)


def test_things_stand_inside_their_room_and_leave_people_a_way() -> None:
    for seed in itertools.chain.from_iterable(seeds[:60] for seeds in SEEDS.values()):
        layout = layout_of(seed)
        assert layout.free_x_m[1] - layout.free_x_m[0] > 0.8, (seed, layout)
        for box in layout.boxes:
            assert np.abs(box.x_m).max() <= layout.width_m / 2, (seed, box)
            assert box.z_m[1] <= layout.depth_m, (seed, box)
