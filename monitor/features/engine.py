"""Engines: what runs a backbone's module. torch itself here, OpenVINO in its own file.

Every engine gives the same features but for rounding, so a fingerprint does not name the engine.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monitor.features.backbone import Backbone, BackboneError, EngineName, Recipe
from monitor.flow import Pictures, Preprocessing

if TYPE_CHECKING:
    from monitor.features.backbone import Batch
    from monitor.features.planes import Moves

log = logging.getLogger(__name__)

UINT8 = ("uint8", "torch.uint8")
CUDA_ENGINES = ("eager_fp16", "graphs", "planes_fp16")
TRUSTED_ERROR = 5e-3
"""How far float16 may put a feature off float32; i3d_r50 is off by 3e-4 to 6e-4. An overflow is off by everything."""


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
    """The module on its device, in the engine asked for; BackboneError where that cannot be.

    ``threads``: of OpenVINO, None for what the machine allows. ``cache``: a folder for converted graphs.
    """
    place = resolve_device(device)
    if place.type == "cuda":
        if engine == "openvino":
            raise BackboneError(f"engine openvino runs on the cpu, not on {place}; use engine eager")
        return _start_cuda(recipe, fingerprint, module, place, engine)
    if engine in CUDA_ENGINES:
        raise BackboneError(f"engine {engine} is for CUDA: on a cpu it would be many times slower; use auto")
    if engine == "eager":
        return Eager(recipe, fingerprint, module, place)
    from monitor.features.openvino_engine import OpenVino

    try:
        return OpenVino(recipe, fingerprint, module, threads=threads or cpu_threads(), folder=cache)
    except (BackboneError, RuntimeError) as fault:
        if engine == "openvino":
            raise BackboneError(f"OpenVINO cannot run backbone '{recipe.name}': {fault}") from fault
        log.warning("backbone '%s' runs in torch, which is slower: %s", recipe.name, fault)
        return Eager(recipe, fingerprint, module, place)


def _start_cuda(
    recipe: Recipe, fingerprint: str, module: nn.Module, device: torch.device, engine: EngineName
) -> Backbone:
    """``auto``: residual networks in float16 as convolutions of planes, all others in float32; both as CUDA graphs."""
    from monitor.features import planes
    from monitor.features.graphs import Graphs

    if engine in ("eager", "eager_fp16"):
        return Eager(recipe, fingerprint, module, device, half=engine == "eager_fp16")
    network = fold(module).to(device).requires_grad_(False)
    tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
    if engine == "planes_fp16" or (engine == "auto" and tensor_cores and planes.fits(network)):
        try:
            faster = planes.PlaneNet(network, torch.float16, _moves(device)).to(device)  # type: ignore[arg-type]
        except ValueError as fault:
            raise BackboneError(f"engine planes_fp16 cannot run backbone '{recipe.name}': {fault}") from fault
        off = _off(faster, network, recipe, device)
        if off < TRUSTED_ERROR:
            return Graphs(recipe, fingerprint, faster, device, engine="planes_fp16")
        said = f"float16 puts the feature of backbone '{recipe.name}' off by {off:.1g} with these weights"
        if engine == "planes_fp16":
            raise BackboneError(f"{said}; use auto")
        log.warning("%s: it runs in float32, which is slower", said)
    return Graphs(recipe, fingerprint, network, device, engine="graphs")


def _off(
    network: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor], recipe: Recipe, device: torch.device
) -> float:
    """‖feature - reference‖ / ‖reference‖ on noise; infinite where a number is none."""
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (2, *recipe.preprocessing.shape), dtype=torch.uint8, generator=random).to(device)
    with torch.inference_mode(), torch.cuda.device(device), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        wanted_BD = reference(pictures)
        off = float((network(pictures) - wanted_BD).norm() / wanted_BD.norm())
    return off if math.isfinite(off) else math.inf


def _moves(device: torch.device) -> Moves:
    """Triton's kernels where they can be built (that takes a C compiler), else torch's."""
    from monitor.features.planes import Moves

    try:
        from monitor.features.kernels import MOVES

        with torch.cuda.device(device):
            MOVES.unfold(torch.zeros(1, 1, 4, 4, 3, dtype=torch.uint8, device=device), 5, 64, torch.float16)
    except Exception as fault:  # whatever a compiler's absence looks like
        log.warning("Triton builds no kernels here, torch's own are slower (is there a C compiler?): %s", fault)
        return Moves()
    return MOVES


def resolve_device(device: str) -> torch.device:
    """``cpu``, ``cuda`` or ``cuda:N`` → a device that is there; BackboneError where it is not."""
    try:
        place = torch.device(device)
    except RuntimeError as fault:
        raise BackboneError(f"'{device}' is no device; expected cpu, cuda or cuda:N") from fault
    if place.type == "cpu":
        return torch.device("cpu")
    if place.type != "cuda":
        raise BackboneError(f"'{device}' is no device this runs on; expected cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise BackboneError(f"device '{device}' was asked for, but torch finds no CUDA device here; use cpu")
    number = place.index or 0
    if number >= torch.cuda.device_count():
        raise BackboneError(f"there is no device '{device}': torch finds {torch.cuda.device_count()}")
    return torch.device("cuda", number)


def cpu_threads(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many threads may truly run at once: CPU affinity and the cgroup's quota (v2 or v1), at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota_us, period_us = _cgroup_quota(cgroup)
    if quota_us is not None and quota_us > 0 and period_us > 0:
        allowed = min(allowed, max(1, round(quota_us / period_us)))
    return allowed


def _cgroup_quota(cgroup: Path) -> tuple[int | None, int]:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return (None if quota == "max" else int(quota)), int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
        return int(quota), int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None, 0


class Encoder:
    """What all engines share: who they are, and what they accept."""

    engine = ""

    def __init__(self, recipe: Recipe, fingerprint: str, device: torch.device) -> None:
        self.recipe = recipe
        self.fingerprint = fingerprint
        self.device = device

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def preprocessing(self) -> Preprocessing:
        return self.recipe.preprocessing

    @property
    def dimensions(self) -> int:
        return self.recipe.dimensions

    def check(self, batch: Batch) -> None:
        """ValueError where the pictures are not such as the backbone wants."""
        sizes = ", ".join(str(size) for size in self.preprocessing.shape)
        if isinstance(batch, np.ndarray | Tensor):
            self._check_one(batch, batch.shape[1:], f"(B, {sizes})")
        else:
            for pictures_KHWC in batch:
                self._check_one(pictures_KHWC, pictures_KHWC.shape, f"({sizes})")

    def _check_one(self, pictures: Pictures | Tensor, shape: Sequence[int], wanted: str) -> None:
        if tuple(shape) != self.preprocessing.shape or str(pictures.dtype) not in UINT8:
            raise ValueError(
                f"backbone '{self.name}' takes uint8 pictures of shape {wanted}, "
                f"got {pictures.dtype} {tuple(pictures.shape)}"
            )


class Eager(Encoder):
    """torch, one call a batch; convolutions and batch norms folded.

    In float32, on CUDA without TF32. ``half`` (engine ``eager_fp16``, never chosen by itself): CUDA in float16
    autocast. Measured on one H100 (torch 2.11), segments/s from host memory at batch 32 and the largest error
    against the CPU, of the largest feature: effnet_lite0 float32 1,821 and 2e-7, float16 3,540 and 3e-3 to
    2e-2 (the latter on noise over a gradient); i3d_r50 (random weights) 160 and 2e-7, 532 and 6e-4; x3d_m
    122 and 6e-7, 233 and 6e-4.
    """

    def __init__(
        self,
        recipe: Recipe,
        fingerprint: str,
        module: nn.Module,
        device: torch.device,
        *,
        half: bool = False,
    ) -> None:
        super().__init__(recipe, fingerprint, device)
        self.half = half
        self.engine = "eager_fp16" if half else "eager"
        self.module = fold(module).to(device).requires_grad_(False)

    def encode(self, batch: Batch) -> Tensor:
        self.check(batch)
        if len(batch) == 0:
            return torch.zeros(0, self.dimensions, device=self.device)
        pictures_BKHWC = torch.as_tensor(batch if isinstance(batch, np.ndarray | Tensor) else np.stack(batch))
        with torch.inference_mode(), self._precision():
            features_BD: Tensor = self.module(pictures_BKHWC.to(self.device))
        return features_BD.float()

    def _precision(self) -> AbstractContextManager[object]:
        if self.device.type != "cuda":
            return nullcontext()
        if self.half:
            return torch.autocast("cuda", torch.float16)
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


_PAIRS = (
    ("conv", "bn"),
    ("conv", "norm"),
    ("conv_a", "norm_a"),
    ("conv_b", "norm_b"),
    ("conv_c", "norm_c"),
    ("branch1_conv", "branch1_norm"),
    ("pre_conv", "pre_norm"),
)
"""How our networks and pytorchvideo's call a convolution and the batch norm right after it."""


def fold(module: nn.Module) -> nn.Module:
    """Batch norms folded, in place, into the convolutions that they follow."""
    for child in list(module.modules()):
        for conv_name, norm_name in _PAIRS:
            convolution, norm = getattr(child, conv_name, None), getattr(child, norm_name, None)
            if isinstance(convolution, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(child, conv_name, fuse_conv_bn_eval(convolution, norm))
                setattr(child, norm_name, nn.Identity())
    return module
