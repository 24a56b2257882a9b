"""What a backbone is, which ones there are, and how one is made.

A backbone turns a segment into a feature: ``(B, K, H, W, 3)`` uint8 RGB pictures, scaled by the readers as
its ``preprocessing`` says, into ``(B, D)`` float32. Everything from the uint8 picture on (normalisation,
network, pooling) is one torch module, so that every engine computes the same thing.

Shape suffixes: B segments, K frames handed over of each, H height, W width, C = 3 colours, D dimensions.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from monitor.flow import Pictures, Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Batch: TypeAlias = Sequence[Pictures] | Pictures | Tensor
    """uint8 pictures of B segments: (K, H, W, 3) each, wherever they lie, or all of them as (B, K, H, W, 3)."""

EngineName = Literal["auto", "eager", "eager_fp16", "graphs", "planes_fp16", "openvino"]


class BackboneError(ValueError):
    """Something about a backbone that a person can mend, in a sentence."""


class Backbone(Protocol):
    """Segments → features. ``encode`` is called from one thread."""

    @property
    def name(self) -> str: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def dimensions(self) -> int:
        """D."""

    @property
    def fingerprint(self) -> str:
        """sha256 over architecture, feature recipe, preprocessing and weights; the same for every engine."""

    @property
    def engine(self) -> str:
        """What computes it: an ``EngineName`` but ``auto``, or ``litert``."""

    @property
    def device(self) -> torch.device:
        """Where the features lie."""

    def encode(self, batch: Batch) -> Tensor:
        """Pictures of B ≥ 0 segments → (B, D) float32 on ``device``; ValueError where they are of another shape. They
        may be overwritten once it has returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All there is to know of a backbone but its weights."""

    name: str
    architecture: str
    """Names the network, its normalisation and how its feature is made; changes when one of them does."""
    preprocessing: Preprocessing
    dimensions: int

    def fingerprint(self, weights_sha256: str) -> str:
        """sha256 in hex over the recipe and the weights (``weights.tensors_sha256``)."""
        said = {"recipe": asdict(self), "weights": weights_sha256}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class Family(Protocol):
    """What a file of backbones offers: a recipe, and a module with these weights inside."""

    def recipe(self, name: str) -> Recipe: ...

    def build(self, name: str, state: Mapping[str, Tensor]) -> nn.Module:
        """A module in eval mode, (B, K, H, W, 3) uint8 → (B, D) float32; uses every tensor of ``state``."""


_FAMILIES = {
    "effnet_lite0": "monitor.features.effnet_lite0",
    "i3d_r50": "monitor.features.kinetics",
    "slow_r50": "monitor.features.kinetics",
    "x3d_s": "monitor.features.kinetics",
    "x3d_m": "monitor.features.kinetics",
    "movinet_a0_stream": "monitor.features.movinet",
}
"""Name → module that offers it, imported only when it is wanted: pytorchvideo alone takes seconds."""


def names() -> tuple[str, ...]:
    """Every backbone that ``create`` knows."""
    return tuple(_FAMILIES)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where fetched and converted files are kept; not created here."""
    named = environment.get("VAD_MONITOR_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "vad-monitor"


def weights_folder() -> Path:
    return cache_folder() / "weights"


def family(name: str) -> Family:
    """The file that offers a backbone; BackboneError for an unknown name."""
    if name not in _FAMILIES:
        raise BackboneError(f"there is no backbone '{name}'; known are {', '.join(names())}")
    offered: Any = importlib.import_module(_FAMILIES[name])
    return offered  # type: ignore[no-any-return]  # a module satisfies a protocol of functions


def recipe(name: str) -> Recipe:
    """What is known of a backbone without its weights: its preprocessing, its D."""
    return family(name).recipe(name)


def create(
    name: str,
    device: str = "cpu",
    weights: Path | None = None,
    engine: EngineName = "auto",
    *,
    threads: int | None = None,
) -> Backbone:
    """A backbone ready to encode.

    ``device``: ``cpu``, ``cuda`` or ``cuda:N``. ``weights``: a .safetensors, .pth, .pyth or .tflite file, or None for
    what the cache (or, for ``effnet_lite0``, its package) has. ``engine``: ``auto`` is OpenVINO on a CPU that can run
    it, else torch in float32; on CUDA graphs, of residual networks in float16 (``engine._start_cuda``). ``threads``:
    OpenVINO's, None for what CPU affinity and cgroup allow.
    Raises BackboneError (or its WeightsError), a sentence.
    """
    from monitor.features import engine as engines
    from monitor.features import weights as store
    from monitor.features.tensors import tensors_sha256

    offered = family(name)
    known = offered.recipe(name)
    state = store.load(name, weights)
    try:
        module = offered.build(name, state)
    except (RuntimeError, KeyError) as fault:
        said = str(fault).strip().splitlines()
        where = weights if weights is not None else "the cached file"
        raise BackboneError(f"the weights in {where} do not fit backbone '{name}': {said[-1].strip()}") from fault
    # A family whose network is not torch's brings an engine of its own.
    start = getattr(offered, "start", engines.start)
    started: Backbone = start(
        known,
        known.fingerprint(tensors_sha256(state)),
        module,
        device=device,
        engine=engine,
        threads=threads,
        cache=cache_folder() / "openvino",
    )
    return started
