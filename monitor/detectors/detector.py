"""What a detector is, which ones there are, and how one is made by name.

A detector scores a bag: ``(B, T, D)`` features → a score of each of the T segments. A new one is a file with
a subclass of ``Detector`` and a line in the table below.

Shape suffixes: B bags, T segments of a bag, D dimensions of a feature.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

Horizon = Literal["long_term", "short_term"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BagOutput:
    """What a detector says of B bags of T segments; one score a bag is repeated T times."""

    logits_BT: Tensor
    """Before the sigmoid, float32: ranks stay apart where probabilities saturate."""
    scores_BT: Tensor
    """float32 in [0, 1]."""
    attention_BT: Tensor | None = None
    """Where it looked; sums to 1 over T. None where the detector has no attention."""


class Detector(nn.Module, ABC):
    """A network that scores bags of any length T ≥ 1, unpadded; every bag by itself."""

    kind: ClassVar[str]
    """Its name in the table below and in cards."""
    horizon: ClassVar[Horizon]
    """Which part of a score it counts to."""

    arguments: dict[str, Any]
    """What its constructor was called with, as JSON takes it: the artefact's card keeps it."""

    @abstractmethod
    def forward(self, features_BTD: Tensor) -> BagOutput: ...

    def __call__(self, features_BTD: Tensor) -> BagOutput:
        output: BagOutput = super().__call__(features_BTD)
        return output


def scored(logits_BT: Tensor, attention_BT: Tensor | None = None) -> BagOutput:
    """Logits → what a detector hands out, in float32 also under autocast."""
    logits_BT = logits_BT.float()
    return BagOutput(logits_BT=logits_BT, scores_BT=torch.sigmoid(logits_BT), attention_BT=attention_BT)


_DETECTORS = {
    "video_classifier": "monitor.detectors.video_classifier:VideoClassifier",
    "bilstm_mil": "monitor.detectors.bilstm_mil:BiLstmMil",
    "bilstm_classifier": "monitor.detectors.bilstm_classifier:BiLstmClassifier",
    "sultani": "monitor.detectors.sultani:Sultani",
    "rtfm": "monitor.detectors.rtfm:Rtfm",
    "ur_dmu": "monitor.detectors.ur_dmu:UrDmu",
}


def kinds() -> tuple[str, ...]:
    """Every detector that ``make`` knows."""
    return tuple(_DETECTORS)


def make(kind: str, arguments: dict[str, Any]) -> Detector:
    """A fresh detector; ValueError, a sentence, for an unknown kind or arguments that it does not take."""
    if kind not in _DETECTORS:
        raise ValueError(f"there is no detector '{kind}'; known are {', '.join(kinds())}")
    module, _, name = _DETECTORS[kind].partition(":")
    chosen: type[Detector] = getattr(importlib.import_module(module), name)
    try:
        return chosen(**arguments)
    except TypeError as fault:
        raise ValueError(f"detector '{kind}' does not take these arguments: {fault}") from fault
