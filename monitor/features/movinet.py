"""MoViNet-A0-Stream, an optional backbone: Google's small video network, learnt from Kinetics-600, int8, by LiteRT.

The network (Kondratyuk et al., arXiv 2103.11511) reads one frame after the other and remembers through its state:
causal convolutions and running means. Its weights are one file of LiteRT's, given by its path or taken in by
`vad-monitor weights import`; LiteRT comes with the extra ``movinet`` (pip install 'vad-monitor[movinet]').

Feature, 480-D: the mean over a segment's 16 frames of the last convolution (480 channels, ReLU6) averaged over the
picture. The state starts at zero with every segment, so that a feature depends on its own segment alone.

Preprocessing: x / 255, as the network was trained; the whole picture stretched to 172 × 172, where the network was
trained on the centre of a picture scaled on its short side: what matters to a surveillance camera may happen in a
corner.

LiteRT's fast kernels round some int8 sums otherwise than its reference ones: on a clip of a fight the features of the
two differ by up to 0.04 where the largest is 1.2. On one machine the same pictures always give the same feature.

Shape suffixes: B segments, K = 16 frames, H = W = 172, 3 colours, D = 480.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from monitor.features.backbone import Backbone, BackboneError, EngineName, Recipe
from monitor.features.engine import Encoder, resolve_device
from monitor.flow import Preprocessing

if TYPE_CHECKING:
    from monitor.features.backbone import Batch

NAME = "movinet_a0_stream"
CHANNELS = 480
CLASSES = 600

_LAST_CONVOLUTION = "movinet_classifier/movinet/head/project/conv2d/activation_31/Relu6"
"""How the name of the tensor begins that is a frame's feature before it is averaged over the picture (number 435)."""

_RECIPE = Recipe(
    name=NAME,
    architecture="movinet-a0-stream int8; x/255; mean over 16 frames and place of the last convolution, state reset; 1",
    preprocessing=Preprocessing(height_px=172, width_px=172, fit="stretch"),
    dimensions=CHANNELS,
)


def recipe(name: str = NAME) -> Recipe:
    return _RECIPE


def build(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The segment network of a LiteRT file's bytes (``tensors.read``); RuntimeError where it is another network."""
    return SegmentNet(state)


def start(
    recipe: Recipe,
    fingerprint: str,
    module: nn.Module,
    *,
    device: str = "cpu",
    engine: EngineName = "auto",
    threads: int | None = None,
    cache: Path | None = None,
) -> Backbone:
    """``engine.start`` for a network that only LiteRT runs: on the CPU; ``threads`` and ``cache`` change nothing."""
    if resolve_device(device).type != "cpu":
        raise BackboneError(f"backbone '{recipe.name}' runs on the cpu only, not on {device}")
    if engine != "auto":
        raise BackboneError(f"backbone '{recipe.name}' is run by LiteRT, not by engine {engine}; use auto")
    return LiteRt(recipe, fingerprint, module)


class LiteRt(Encoder):
    """MoViNet in LiteRT on the CPU. On a core of an AMD EPYC, others busy: 3 to 5 ms a frame, 65 ms a segment."""

    engine = "litert"

    def __init__(self, recipe: Recipe, fingerprint: str, module: nn.Module) -> None:
        super().__init__(recipe, fingerprint, torch.device("cpu"))
        self._module = module

    def encode(self, batch: Batch) -> Tensor:
        self.check(batch)
        features_BD: Tensor = self._module(batch.cpu() if isinstance(batch, Tensor) else batch)
        return features_BD


class SegmentNet(nn.Module):
    """(B, 16, 172, 172, 3) uint8 → (B, 480) float32 on the CPU. Not for torch.jit: the network is not torch's."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        content = state["litert"].numpy().tobytes()
        try:
            self._interpreter = _interpreter(content)
            self._run = self._interpreter.get_signature_runner("serving_default")
        except BackboneError:
            raise
        except ValueError as fault:
            raise RuntimeError(f"LiteRT cannot read it ({_first_line(fault)})") from fault
        inputs: Mapping[str, Any] = self._run.get_input_details()
        self._states = {name: (about["shape"], about["dtype"]) for name, about in inputs.items() if name != "image"}
        logits = self._run.get_output_details().get("logits", {}).get("shape")
        found = [
            about for about in self._interpreter.get_tensor_details() if about["name"].startswith(_LAST_CONVOLUTION)
        ]
        if len(found) != 1 or found[0]["shape"][-1] != CHANNELS or logits is None or logits[-1] != CLASSES:
            raise RuntimeError("it is a LiteRT file of another network than MoViNet-A0-Stream of Kinetics-600, int8")
        self._index = found[0]["index"]
        self._scale, self._zero = found[0]["quantization"]

    def forward(self, batch: Batch) -> Tensor:
        features = [self.frames(np.asarray(pictures_KHWC))[0].mean(0) for pictures_KHWC in batch]
        return torch.from_numpy(np.array(features, dtype=np.float32).reshape(-1, CHANNELS))

    def frames(self, pictures_KHWC: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(K, 480) features of successive frames from a state of zero on, and the (600,) logits after the last."""
        state = {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._states.items()}
        features = np.empty((len(pictures_KHWC), CHANNELS), np.float32)
        logits = np.zeros(CLASSES, np.float32)
        for number, picture_HWC in enumerate(pictures_KHWC):
            done = self._run(image=picture_HWC[None, None].astype(np.float32) / 255, **state)
            state = {name: done[name] for name in state}
            logits = done["logits"][0]
            place_HWD = self._interpreter.get_tensor(self._index)[0]
            features[number] = (place_HWD.mean((0, 1), dtype=np.float64) - self._zero) * self._scale
        return features, logits


def litert() -> Any:
    """LiteRT's interpreter class; BackboneError where the package is missing or cannot be loaded (built for another
    Python or glibc)."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as fault:
        raise BackboneError(
            f"backbone '{NAME}' needs LiteRT, which is not installed: pip install 'vad-monitor[movinet]' ({fault})"
        ) from fault
    return Interpreter


def _interpreter(content: bytes) -> Any:
    interpreter = litert()
    with warnings.catch_warnings():
        # Every inner tensor is kept, for one is the feature; LiteRT warns of the memory, which is 30 MB here.
        warnings.simplefilter("ignore")
        # One thread: a frame is 3 ms of work, and was 4 ms with two beside other work.
        made = interpreter(model_content=content, num_threads=1, experimental_preserve_all_tensors=True)
        made.allocate_tensors()
    return made


def _first_line(fault: Exception) -> str:
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0]
