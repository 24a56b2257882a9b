"""The loop: it learns, repeats itself bit for bit, and goes on where it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from monitor.detectors.detector import Detector, make
from training import fit, resident
from training.fit import Fitted, Look, Schedule
from training.objectives import OBJECTIVES

D = 12
SCHEDULE = Schedule(steps=24, segments=4, evaluate_every=6, half_batch=4, learning_rate=3e-3)


def material() -> resident.Resident:
    random = np.random.default_rng(0)
    labels = np.arange(20) % 2
    videos = []
    for label in labels:
        values = random.normal(size=(6, 2, D)).astype(np.float32)
        values[int(random.integers(6)), :, :3] += 5.0 * label
        videos.append(values)
    return resident.place(videos, labels, SCHEDULE.segments, "cpu")


class KilledError(Exception):
    pass


def run(
    kind: str, *, seed: int = 3, saved: Path | None = None, killed_at: int | None = None, steps: int = 24
) -> Fitted:
    def told(look: Look) -> None:
        if look.step == killed_at:
            raise KilledError

    def measures(network: Detector) -> dict[str, float]:
        # Some number of the weights that goes up and down.
        return {"some": float(sum(tensor.double().sum() for tensor in network.state_dict().values()).sin())}

    torch.manual_seed(seed)
    network = make(kind, {"dimensions": D})
    schedule = replace(SCHEDULE, steps=steps)
    return fit.fit(network, material(), OBJECTIVES[kind], schedule, seed, evaluate=measures, saved=saved, told=told)


def weights(fitted: Fitted, measure: str | None = None) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in fitted.select(measure).state_dict().values()])


@pytest.mark.parametrize("kind", ["video_classifier", "bilstm_mil"])
def test_two_runs_with_a_seed_are_equal_bit_for_bit_and_another_seed_differs(kind: str) -> None:
    first, again, other = run(kind), run(kind), run(kind, seed=4)
    assert torch.equal(weights(first), weights(again))
    assert first.looks == again.looks
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("kind", ["video_classifier", "bilstm_mil"])
@pytest.mark.parametrize("killed_at", [12, 18])
def test_a_killed_run_goes_on_to_the_same_numbers(kind: str, killed_at: int, tmp_path: Path) -> None:
    saved = tmp_path / "state.pt"
    with pytest.raises(KilledError):
        run(kind, saved=saved, killed_at=killed_at)
    torch.rand(17)  # whatever else drew numbers in between
    resumed, whole = run(kind, saved=saved), run(kind)
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(weights(resumed, "some"), weights(whole, "some"))
    assert resumed.looks == whole.looks


def test_the_best_look_is_the_highest_and_the_earliest_of_equals() -> None:
    fitted = run("video_classifier")
    values = [look.measures["some"] for look in fitted.looks]
    assert [look.step for look in fitted.looks] == [6, 12, 18, 24]
    assert fitted.best["some"][0] == fitted.looks[values.index(max(values))].step
    assert torch.equal(weights(fitted), torch.cat([t.flatten() for t in fitted.network.state_dict().values()]))


def test_the_loss_falls() -> None:
    looks = run("video_classifier", steps=90).looks
    assert looks[-1].loss < 0.7 * looks[0].loss


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
def test_a_recorded_step_trains_as_the_plain_step_does(kind: str) -> None:
    """Dropout draws other numbers on a GPU; without it, a graph and plain steps give the same weights."""
    found = []
    for capturable in (True, False):
        torch.manual_seed(0)
        network = make(kind, {"dimensions": D, "dropout": 0.0} if kind != "ur_dmu" else {"dimensions": D}).cuda()
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        objective = OBJECTIVES[kind]
        placed = material()
        on_gpu = resident.Resident(
            abnormal_VCTP=placed.abnormal_VCTP.cuda(), normal_VCTP=placed.normal_VCTP.cuda(), chances=placed.chances
        )
        fitted = fit.fit(
            network, on_gpu, replace(objective, capturable=objective.capturable and capturable), SCHEDULE, 0
        )
        found.append(weights(fitted))
    assert not found[0].isnan().any()
    if kind != "ur_dmu":  # its normal memory is reparameterised by drawn numbers
        torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=2e-3)
