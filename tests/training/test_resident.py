"""Batches: balanced, drawn by their chances, crops as samples of their own or together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training import bags, resident

LABELS = np.array([1, 0, 0, 1, 0])


def videos(crops: int = 3) -> list[torch.Tensor]:
    """Video k's crop c is full of 10 k + c."""
    return [
        torch.stack([torch.full((5 + k, 2), 10.0 * k + crop) for crop in range(crops)], dim=1)
        for k in range(len(LABELS))
    ]


def drawn(placed: resident.Resident, steps: int, half: int, **how: object) -> tuple[torch.Tensor, torch.Tensor]:
    rows = placed.draw(steps, half, np.random.default_rng(0), **how)  # type: ignore[arg-type]
    taken = [placed.take(torch.from_numpy(row), crops_together=bool(how["crops_together"])) for row in rows]
    return torch.cat([a for a, _ in taken]), torch.cat([n for _, n in taken])


def test_a_batch_has_as_many_abnormal_as_normal_videos_each_resampled_to_t() -> None:
    placed = resident.place(videos(), LABELS, 4, "cpu")
    abnormal, normal = drawn(placed, 10, 6, sampling="random", crops_together=False)
    assert abnormal.shape == normal.shape == (60, 4, 2)
    assert {int(value) // 10 for value in abnormal[:, 0, 0]} == {0, 3}
    assert {int(value) // 10 for value in normal[:, 0, 0]} == {1, 2, 4}
    assert {int(value) % 10 for value in normal[:, 0, 0]} == {0, 1, 2}


def test_resampled_videos_are_those_of_the_published_loop() -> None:
    ramp = torch.arange(14.0).reshape(7, 1, 2)
    placed = resident.place([ramp, ramp + 1], np.array([1, 0]), 3, "cpu")
    assert torch.equal(placed.abnormal_VCTP[0, 0], bags.resample(ramp[:, 0], 3))


def test_with_all_crops_a_video_comes_whole() -> None:
    placed = resident.place(videos(), LABELS, 4, "cpu")
    abnormal, _ = drawn(placed, 1, 2, sampling="random", crops_together=True)
    assert abnormal.shape == (6, 4, 2)
    assert [int(value) % 10 for value in abnormal[:, 0, 0]] == [0, 1, 2, 0, 1, 2]


def test_chances_say_how_often_a_video_is_drawn() -> None:
    placed = resident.place(videos(1), LABELS, 4, "cpu", chances=np.array([1.0, 3.0, 0.0, 0.0, 1.0]))
    abnormal, normal = drawn(placed, 100, 20, sampling="random", crops_together=False)
    assert {int(value) for value in abnormal[:, 0, 0]} == {0}
    assert (normal[:, 0, 0] == 10).float().mean() == pytest.approx(0.75, abs=0.03)
    assert not (normal[:, 0, 0] == 20).any()


def test_an_epoch_takes_every_sample_once_before_any_twice() -> None:
    placed = resident.place(videos(), LABELS, 4, "cpu")
    rows = placed.draw(6, 3, np.random.default_rng(0), sampling="epochs", crops_together=False)
    normal = rows[:, 1].ravel()
    assert sorted(normal[:9]) == list(range(9))
    assert sorted(normal[9:18]) == list(range(9))


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="normal and abnormal"):
        resident.place(videos(), np.ones(5, dtype=np.int64), 4, "cpu")
