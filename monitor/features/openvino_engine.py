"""OpenVINO on the CPU, in float32: the torch module converted once, its graph kept in the cache.

Measured on two cores of an AMD EPYC (AVX2) with effnet_lite0, milliseconds a segment at batch 1 / 4 / 8, the cores
nearly idle: eager torch (folded) 100 / 109 / 164 with one thread and 51 / 61 / 85 with two, this 58 / 59 / 62 and
39 / 40 / 27. With the cores overcommitted by other work (load 5), medians at batch 1 / 4: eager 1,100 to 1,600 /
500 to 650, this 130 to 150 / 120. Largest error 2e-6 of the largest feature. One graph of dynamic batch is as fast
as one compiled for each size. Converting takes 3 s (i3d_r50: 5 s), reading the kept graph and compiling it 0.2 s.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from monitor.features.backbone import BackboneError, Recipe
from monitor.features.engine import Encoder

if TYPE_CHECKING:
    from monitor.features.backbone import Batch

log = logging.getLogger(__name__)


AT_ONCE = 4
"""Segments an inference. The engine keeps the activations of its largest batch for ever: 300 MB more after one large
batch that a stall had let grow."""


class OpenVino(Encoder):
    """A backbone in OpenVINO. ``folder``: where the converted graph is kept; None: nowhere."""

    engine = "openvino"

    def __init__(
        self, recipe: Recipe, fingerprint: str, module: nn.Module, *, threads: int, folder: Path | None
    ) -> None:
        super().__init__(recipe, fingerprint, torch.device("cpu"))
        openvino = import_silently()
        core = openvino.Core()
        # A graph mapped from its file would change under a running monitor when somebody damages the file.
        core.set_property({"ENABLE_MMAP": False})
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            # On a CPU that has bfloat16 the plugin would use it, and features would depend on the machine.
            "INFERENCE_PRECISION_HINT": "f32",
            # The cores are shared with the readers' decoders; threads tied to one wait for it.
            "ENABLE_CPU_PINNING": False,
        }
        release = openvino.__version__.split("-")[0]
        kept = None if folder is None else folder / f"{recipe.name}-{fingerprint[:16]}-{release}.xml"
        graph = _read(core, kept)
        if graph is None:
            graph = _convert(openvino, module, recipe)
            _keep(openvino, graph, kept)
        self._compiled = core.compile_model(graph, "CPU", settings)

    def encode(self, batch: Batch) -> Tensor:
        self.check(batch)
        if len(batch) == 0:
            return torch.zeros(0, self.dimensions)
        if isinstance(batch, Tensor):
            batch = batch.cpu().numpy()
        features = [
            np.array(self._compiled(np.stack(list(batch[first : first + AT_ONCE])))[0], dtype=np.float32)
            for first in range(0, len(batch), AT_ONCE)
        ]
        return torch.from_numpy(np.concatenate(features))


def import_silently() -> Any:
    """OpenVINO without its telemetry, which would send an event to an analytics service; it has a stub of its
    own for where that package is missing. BackboneError where OpenVINO cannot be imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    try:
        import openvino
    except ImportError as fault:
        raise BackboneError(f"OpenVINO cannot be used here ({fault}); install openvino or use eager") from fault
    return openvino


def _convert(openvino: Any, module: nn.Module, recipe: Recipe) -> Any:
    example = torch.zeros(1, *recipe.preprocessing.shape, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        # torch.jit.trace is deprecated by torch 2.9 and later, and is what the converter takes. Its own check
        # would run the network twice more.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        graph = openvino.convert_model(traced, example_input=example)
    graph.reshape([-1, *recipe.preprocessing.shape])
    return graph


def _read(core: Any, kept: Path | None) -> Any:
    """The kept graph, or None where there is none or it is not what was written."""
    if kept is None:
        return None
    try:
        recorded = json.loads(kept.with_suffix(".json").read_text())
        if recorded == _sums(kept):
            return core.read_model(kept)
    except (OSError, ValueError, RuntimeError):
        pass
    return None


def _keep(openvino: Any, graph: Any, kept: Path | None) -> None:
    if kept is None:
        return
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            part = Path(folder) / kept.name
            openvino.save_model(graph, part, compress_to_fp16=False)
            part.with_suffix(".json").write_text(json.dumps(_sums(part)))
            # The record goes last: without it, or with another one's, the graph is simply converted again.
            for suffix in (".bin", ".xml", ".json"):
                part.with_suffix(suffix).replace(kept.with_suffix(suffix))
    except (OSError, RuntimeError) as fault:
        log.info("the converted backbone is not kept (%s): the next start takes seconds longer", fault)


def _sums(graph: Path) -> dict[str, str]:
    """sha256 of the graph's two files."""
    return {suffix: hashlib.sha256(graph.with_suffix(suffix).read_bytes()).hexdigest() for suffix in (".xml", ".bin")}
