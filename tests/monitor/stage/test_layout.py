"""Rooms, poses and their backdrops: by seed, and apart between the splits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from monitor.stage.backdrop import Lens, cloud, paint
from monitor.stage.layout import FAMILIES, POSE_CELLS, SEEDS, Split, families, layout_of, pose_of, split_of

SPLITS: tuple[Split, ...] = ("training", "demo", "canary", "tests")


@pytest.mark.parametrize(
    ("seed", "split"),
    [(0, "training"), (999_999, "training"), (1_000_000, "demo"), (2_000_000, "canary"), (3_999_999, "tests")],
)
def test_a_seed_belongs_to_the_split_of_its_range(seed: int, split: str) -> None:
    assert split_of(seed) == split


def test_a_seed_outside_all_ranges_is_refused() -> None:
    with pytest.raises(ValueError, match="seed 4000000 belongs to no split: it must be from 0 to 3999999"):
        split_of(4_000_000)


def test_no_two_splits_share_a_seed_a_family_or_a_cell_of_poses() -> None:
    assert set(SEEDS) == set(POSE_CELLS) == set(SPLITS) == {family.split for family in FAMILIES.values()}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not range(max(SEEDS[one].start, SEEDS[other].start), min(SEEDS[one].stop, SEEDS[other].stop))
        assert not set(families(one)) & set(families(other))
        assert not set(POSE_CELLS[one]) & set(POSE_CELLS[other])


@pytest.mark.parametrize("split", SPLITS)
def test_every_seed_of_a_split_gets_a_room_and_a_pose_of_that_split(split: Split) -> None:
    for seed in SEEDS[split][:40]:
        layout = layout_of(seed)
        assert layout.family in families(split)
        assert pose_of(seed, layout).cell in POSE_CELLS[split]


def test_a_family_of_another_split_is_refused() -> None:
    with pytest.raises(ValueError, match="layout 'press hall' does not belong to split 'demo'"):
        layout_of(1_000_000, "press hall")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_room_leaves_its_people_free_floor_that_the_camera_sees(name: str) -> None:
    for seed in SEEDS[FAMILIES[name].split][:10]:
        layout = layout_of(seed, name)
        (left, right), (near, far) = layout.free_x_m, layout.free_z_m
        assert right - left > 0.8
        assert far - near > 3
        middle, _ = Lens(pose_of(seed, layout), 640, 360).project(np.array([(left + right) / 2, 0.9, (near + far) / 2]))
        assert 0 < middle[0] < 640
        assert 0 < middle[1] < 360


def test_a_lens_projects_a_pixels_ray_back_to_the_pixel() -> None:
    lens = Lens(pose_of(3_000_000, layout_of(3_000_000)), 160, 90)
    pixels, depth = lens.project((lens.position + lens.rays(1)[30, 120] * 5.0)[None].astype(float))
    np.testing.assert_allclose(pixels, [[120.5, 30.5]], atol=1e-3)
    np.testing.assert_allclose(depth, [5.0], atol=1e-4)


@pytest.mark.parametrize("night", [False, True])
def test_a_backdrop_is_a_picture_with_depth_and_the_same_each_time(night: bool) -> None:
    layout = layout_of(3_000_001)
    lens = Lens(pose_of(3_000_001, layout), 160, 90)
    one, two = (paint(layout, lens, night=night, seed=3_000_001) for _ in range(2))
    assert one.picture.shape == (90, 160, 3)
    assert one.depth.shape == (90, 160)
    assert one.depth.max() < 40  # every ray meets the room
    np.testing.assert_array_equal(one.picture, two.picture)
    assert (np.ptp(one.picture.astype(int), axis=2).max() == 0) == night  # infrared has no colour
    assert one.picture.std() > (6 if night else 15)


def test_a_cloud_tiles() -> None:
    noise = cloud(np.random.default_rng(1), 64, octaves=3)
    assert (noise.min(), noise.max()) == (0.0, 1.0)
    assert np.abs(noise[0] - noise[-1]).mean() < 2 * np.abs(np.diff(noise, axis=0)).mean()
