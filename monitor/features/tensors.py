"""Files of tensors by name: safetensors, and files of PyTorch or LiteRT, read without running anything in them."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from monitor.features.backbone import BackboneError

State = dict[str, Tensor]


class WeightsError(BackboneError):
    """Weights that are missing, damaged or not what they should be, in a sentence."""


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes in order of name: the same whatever file they came in."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as fault:
        raise WeightsError(f"there is no file {path}") from fault
    except IsADirectoryError as fault:
        raise WeightsError(f"{path} is a folder; name the weights file in it") from fault


def read(path: Path) -> State:
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file is the length of its JSON header, then '{'; a .part file has no telling suffix.
    if head[8:9] == b"{":
        return read_safetensors(path)
    return read_litert(path) if head[4:8] == b"TFL3" else read_foreign(path)


def read_litert(path: Path) -> State:
    """A LiteRT file (.tflite) as it is: one tensor ``litert`` of its bytes, for it cannot be had without its graph."""
    return {"litert": torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)}


def read_safetensors(path: Path) -> State:
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError as fault:
        raise WeightsError(f"there is no file {path}") from fault
    except (safetensors.SafetensorError, OSError) as fault:
        raise WeightsError(f"{path} is not a whole safetensors file ({fault})") from fault


def read_foreign(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            # torch warns of pickle protocols that it may not read; if it does not, it raises.
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise WeightsError(
            f"{path} holds more than tensors (or is no PyTorch file) and was not read: "
            "code from a weights file is never run"
        ) from fault
    except (RuntimeError, EOFError, ValueError, KeyError) as fault:
        first = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise WeightsError(f"{path} is not a whole PyTorch weights file ({first})") from fault
    for wrapper in ("model_state", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds no table of tensors by name")
    return {str(key): value.detach().clone().contiguous() for key, value in loaded.items()}
