"""One detector, trained: the loop. Draws are tables, a step is one graph on CUDA, a killed run goes on where it was.

Everything random comes from the seed: the batches from NumPy on the host, initial weights and dropout from torch. On a
CPU two runs with a seed are equal bit for bit, also when one of them was killed in between.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from monitor.detectors.detector import Detector
from training.objectives import Objective
from training.resident import Resident, Sampling

Precision = Literal["float32", "bfloat16"]
WARM_UP = 3
"""Steps before a CUDA graph is recorded, undone afterwards: libraries choose their kernels in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and on what; the published defaults of each detector are ``Schedule.of(objective)``."""

    steps: int
    segments: int
    """T, what a video is resampled to."""
    evaluate_every: int
    half_batch: int = 32
    """Videos of each label in a batch."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    sampling: Sampling = "random"

    @classmethod
    def of(cls, objective: Objective, **changes: Any) -> Self:
        return replace(
            cls(
                steps=objective.steps,
                segments=objective.segments,
                evaluate_every=objective.evaluate_every,
                half_batch=objective.half_batch,
                learning_rate=objective.learning_rate,
                weight_decay=objective.weight_decay,
            ),
            **changes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at one evaluation: the mean loss since the last one, and the measure of the weights."""

    step: int
    loss: float
    measures: dict[str, float]


@dataclass(slots=True, kw_only=True)
class Fitted:
    """A trained detector in eval mode (last step's weights) and, for each measure, the weights of its best look."""

    network: Detector
    looks: list[Look]
    best: dict[str, tuple[int, dict[str, Tensor]]]
    """Measure → (step, state); the earliest of equals."""

    def select(self, measure: str | None) -> Detector:
        """The network with the weights of the best look of a measure (a copy), or the last ones for None."""
        chosen = copy.deepcopy(self.network)
        if measure is not None:
            chosen.load_state_dict(self.best[measure][1])
        return chosen.eval()


def fit(
    network: Detector,
    resident: Resident,
    objective: Objective,
    schedule: Schedule,
    seed: int,
    *,
    evaluate: Callable[[Detector], dict[str, float]] = lambda network: {},
    saved: Path | None = None,
    precision: Precision = "float32",
    told: Callable[[Look], None] = lambda look: None,
) -> Fitted:
    """Trains ``network`` where it lies; ``evaluate`` measures it (in eval mode) every so many steps and at the end.

    ``saved``: a file for the run's state at each look; a run that finds one goes on from it. The caller seeds torch
    before it makes the network; ``seed`` is for the batches and for dropout.
    """
    run = _Run(network, resident, objective, schedule, seed, precision)
    if saved is not None and saved.is_file():
        run.restore(torch.load(saved, map_location="cpu", weights_only=True))
    while run.step < schedule.steps:
        until = min(run.step + schedule.evaluate_every, schedule.steps)
        run.advance(until)
        network.eval()
        with torch.inference_mode():
            measures = evaluate(network)
        network.train()
        look = Look(step=run.step, loss=run.mean_loss(), measures=measures)
        run.note(look)
        told(look)
        if saved is not None:
            _write(saved, run.state())
    network.eval()
    return Fitted(network=network, looks=run.looks, best=run.best)


class _Run:
    """The state of one run: network, optimiser, position, and what was seen."""

    def __init__(
        self,
        network: Detector,
        resident: Resident,
        objective: Objective,
        schedule: Schedule,
        seed: int,
        precision: Precision,
    ) -> None:
        self.network, self.step = network.train(), 0
        self.looks: list[Look] = []
        self.best: dict[str, tuple[int, dict[str, Tensor]]] = {}
        self._resident, self._objective, self._schedule, self._seed = resident, objective, schedule, seed
        self._precision = precision
        self._device = next(network.parameters()).device
        self._graphed = self._device.type == "cuda" and objective.capturable
        self._optimiser = objective.optimiser(
            network,
            learning_rate=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            capturable=self._graphed,
        )
        # All batches of the run, a function of the seed alone: nothing about them needs to be kept to go on.
        rows = resident.draw(
            schedule.steps,
            schedule.half_batch,
            np.random.default_rng(seed),
            sampling=schedule.sampling,
            crops_together=objective.crops_together,
        )
        self._table_S2H = torch.from_numpy(rows).to(self._device)
        self._at_1 = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._loss = torch.zeros((), device=self._device)
        self._seen = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        torch.manual_seed(seed)

    def advance(self, until: int) -> None:
        """Steps until so many are done."""
        if self._graphed and self._graph is None:
            self._record()
        self._at_1.fill_(self.step)
        for _ in range(until - self.step):
            if self._graph is not None:
                self._graph.replay()
            else:
                self._one()
        self._seen += until - self.step
        self.step = until

    def mean_loss(self) -> float:
        mean = float(self._loss) / max(1, self._seen)
        self._loss.zero_()
        self._seen = 0
        return mean

    def note(self, look: Look) -> None:
        self.looks.append(look)
        for measure, value in look.measures.items():
            if all(value > before.measures[measure] for before in self.looks[:-1]):
                state = {key: tensor.detach().cpu().clone() for key, tensor in self.network.state_dict().items()}
                self.best[measure] = (look.step, state)

    def state(self) -> dict[str, Any]:
        random: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self._device)
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "random": random,
            "looks": [(look.step, look.loss, look.measures) for look in self.looks],
            "best": {measure: list(best) for measure, best in self.best.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.looks = [Look(step=step, loss=loss, measures=measures) for step, loss, measures in state["looks"]]
        self.best = {measure: (step, weights) for measure, (step, weights) in state["best"].items()}
        torch.set_rng_state(state["random"]["cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self._device)

    def _one(self) -> None:
        halves_2H = self._table_S2H.index_select(0, self._at_1)[0]
        together = self._objective.crops_together
        abnormal_BTP, normal_BTP = self._resident.take(halves_2H, crops_together=together)
        with _autocast(self._device, self._precision):
            loss = self._objective.loss(
                self.network, abnormal_BTP.float(), normal_BTP.float(), self._resident.crops if together else 1
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._loss += loss.detach()
        self._at_1 += 1

    def _record(self) -> None:
        """One step as a CUDA graph; what the steps before the recording changed is put back."""
        held = copy.deepcopy(self.state())
        loss = self._loss.clone()
        self._at_1.zero_()
        fresh = not self._optimiser.state_dict()["state"]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._one()
        torch.cuda.current_stream().wait_stream(side)
        self._optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # the recording itself computes nothing
            self._one()
        # In place: the graph knows the memory of parameters, buffers and the optimiser's state.
        with torch.no_grad():
            for key, tensor in self.network.state_dict().items():
                tensor.copy_(held["network"][key])
            for index, parts in self._optimiser.state_dict()["state"].items():
                for name, value in parts.items():
                    if isinstance(value, Tensor):
                        value.zero_() if fresh else value.copy_(held["optimiser"]["state"][index][name])
        torch.set_rng_state(held["random"]["cpu"])
        torch.cuda.set_rng_state(held["random"]["cuda"], self._device)
        self._loss.copy_(loss)
        self._graph = graph


@contextmanager
def _autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        yield


def _write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(state, part)
    part.replace(path)
