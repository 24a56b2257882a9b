"""Artefacts that somebody made to do harm, or that a disk made so: loaded, or refused in a sentence; nothing runs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitor.config import load as load_plant
from monitor.detectors import artefact, outline
from monitor.detectors.artefact import ArtefactError
from tests.conftest import ROOT
from tests.monitor.detectors.test_artefact import a_card, some_parts

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
"""Of each test; more in a run by hand."""
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
MOST_BYTES = 400_000_000
"""What loading the test's artefact, of 50 kB, may ask for at most."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    artefact.save(folder, a_card(), *some_parts(), half=False)
    return folder


@pytest.fixture
def bad(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "bad")
    return tmp_path / "bad"


def write(folder: Path, weights: bytes, agrees: bool = True, **changes: Any) -> None:
    (folder / "weights.safetensors").write_bytes(weights)
    card = json.loads((folder / "card.json").read_text())
    agreed = {"weights_sha256": hashlib.sha256(weights).hexdigest()} if agrees else {}
    (folder / "card.json").write_text(json.dumps(card | agreed | changes))


def check(folder: Path) -> bool:
    """Whether it was loaded. Another error than a sentence fails; so do scores that are no numbers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
    try:
        loaded = artefact.load(folder)
        bags_BTD = loaded.standardise(torch.zeros(2 * 16, loaded.card.backbone_dimensions)).reshape(2, 16, -1)
        assert bool(torch.isfinite(loaded.ensemble(bags_BTD).scores_BT).all())
    except ArtefactError as error:
        assert str(error)
        assert "\n\n" not in str(error)
        assert not foreseen(folder), "what loading refuses was called whole"
        return False
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return True


def foreseen(folder: Path) -> bool:
    """What `vad-monitor check` thinks of it without torch."""
    try:
        return outline.is_whole(folder, artefact.read_card(folder))
    except ArtefactError:
        return False


def test_what_is_whole_is_known_to_be_without_torch(good: Path) -> None:
    assert check(good)
    assert foreseen(good)
    assert all(foreseen(card.parent) for card in artefact.SHIPPED.glob("*/card.json"))


# -- code in it ------------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def pickled(mark: Path, folder: Path) -> dict[str, bytes]:
    """A real pickle, a real file of torch.save, and a zip like it, that would make ``mark`` when they are read."""
    torch.save({"weight": torch.zeros(3), "evil": Evil(mark)}, folder / "evil.pt")
    torch.save({"evil": Evil(mark)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(mark)))
    named = {name: (folder / name).read_bytes() for name in ("evil.pt", "old.pt", "evil.zip")}
    return named | {"evil.pkl": pickle.dumps(Evil(mark))}


def test_the_bait_would_really_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickle.loads(pickled(mark, tmp_path)["evil.pkl"])
    assert mark.exists()


@pytest.mark.parametrize("name", ["evil.pt", "old.pt", "evil.zip", "evil.pkl"])
@pytest.mark.parametrize("agrees", [True, False], ids=["the card agrees", "it does not"])
def test_code_in_a_weights_file_is_refused_and_never_run(bad: Path, tmp_path: Path, name: str, agrees: bool) -> None:
    mark = tmp_path / "mark"
    write(bad, pickled(mark, tmp_path)[name], agrees)
    assert not check(bad)
    for other in ("weights.pt", "weights.pth", "weights.pkl", "model.pt", "__init__.py", "conftest.py"):
        (bad / other).write_bytes(pickled(mark, tmp_path)[name])
    assert not check(bad)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["evil.pt", "old.pt", "evil.zip", "evil.pkl"])
def test_the_command_that_takes_foreign_weights_runs_nothing_either(tmp_path: Path, name: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / "weights.pyth"
    file.write_bytes(pickled(mark, tmp_path)[name])
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "weights", "import", "i3d_r50", str(file)],
        cwd=ROOT,
        env=os.environ | {"VAD_MONITOR_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not mark.exists()


def test_the_monitor_does_not_start_with_it(bad: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    write(bad, pickled(mark, tmp_path)["evil.pt"])
    plant = tmp_path / "plant.yaml"
    plant.write_text(f"site: a\nmqtt: off\nscoring: {{artefact: {bad}}}\ncameras: [{{name: a, url: 0}}]\n")
    load_plant(plant)
    for arguments in (["check", str(plant)], ["run", "--cameras", str(plant)]):
        command = [sys.executable, "-m", "monitor", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 78
        assert "is not a whole safetensors file" in done.stderr
        assert "Traceback" not in done.stderr
    assert not mark.exists()


# -- headers and sizes that lie --------------------------------------------------------------------------------------


def safetensors_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors_of(b"{}", length=2**63),
        safetensors_of(b"{}", length=2**64 - 1),
        safetensors_of(b"{}", length=99_999_999),
        safetensors_of(b"{" + b" " * 200_000 + b"}"),
        safetensors_of(b"[" * 100_000),
        safetensors_of(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
        safetensors_of({"a": ONE | {"shape": [2**40, 2**40]}}, bytes(8)),
        safetensors_of({"a": ONE | {"shape": [-1]}}, bytes(8)),
        safetensors_of({"a": ONE | {"data_offsets": [0, 2**60]}}, bytes(8)),
        safetensors_of({"a": ONE | {"data_offsets": [8, 0]}}, bytes(8)),
        safetensors_of({"a": ONE, "b": ONE}, bytes(8)),
        safetensors_of({"a": ONE | {"dtype": "F8_E8M0"}}, bytes(8)),
        safetensors_of({"a": ONE | {"dtype": "I64", "shape": [1]}}, bytes(8)),
        safetensors_of({"standardise.mean": ONE, "standardise.sd": ONE | {"data_offsets": [8, 16]}}, b"\xff" * 16),
        safetensors_of({"a/../../b": ONE, "\0": ONE}, bytes(8)),
        safetensors_of({}),
        b"",
        bytes(7),
    ],
)
def test_a_header_that_lies_is_refused_without_asking_for_memory(bad: Path, content: bytes) -> None:
    write(bad, content)
    assert not check(bad)


@pytest.mark.parametrize(
    "arguments",
    [
        {"dimensions": 24, "hidden": 10**8},
        {"dimensions": 10**9, "hidden": 10**9},
        {"dimensions": 24, "hidden": 10**30},
        {"dimensions": 24, "hidden": -1},
        {"dimensions": 24, "hidden": 0},
        {"dimensions": 24, "hidden": 1.5},
        {"dimensions": 24, "hidden": "16"},
        {"dimensions": 24, "hidden": [16]},
        {"dimensions": 24, "hidden": None},
        {"dimensions": True, "hidden": 16},
        {"self": 1},
        {"__class__": 1},
        {},
    ],
    ids=str,
)
def test_a_card_that_asks_for_another_detector_gets_none(bad: Path, arguments: dict[str, Any]) -> None:
    detectors = json.loads((bad / "card.json").read_text())["detectors"]
    detectors[0]["arguments"] = arguments
    write(bad, (bad / "weights.safetensors").read_bytes(), detectors=detectors)
    assert not check(bad)


def test_a_detector_larger_than_the_file_is_refused_before_it_is_made(bad: Path) -> None:
    detectors = json.loads((bad / "card.json").read_text())["detectors"]
    detectors[0]["arguments"] = {"dimensions": 24, "hidden": 10**8}
    write(bad, (bad / "weights.safetensors").read_bytes(), detectors=detectors)
    with pytest.raises(ArtefactError, match=r"size mismatch for .* of detector 'video_classifier': .*100000000"):
        artefact.load(bad)
    assert not foreseen(bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["standardise.mean", "detectors.bilstm_mil."])
def test_weights_that_are_no_numbers_are_refused(bad: Path, key: str, value: float) -> None:
    tensors = safetensors.torch.load_file(bad / "weights.safetensors")
    tensors[next(name for name in tensors if name.startswith(key))].view(-1)[0] = value
    write(bad, safetensors.torch.save(tensors))
    with pytest.raises(ArtefactError, match="has values that are no finite numbers"):
        artefact.load(bad)
    assert not foreseen(bad)


@pytest.mark.parametrize(
    "kind", ["os:system", "../evil", "__main__", "video_classifier:VideoClassifier", "", "builtins"]
)
def test_a_card_names_no_code(bad: Path, kind: str) -> None:
    detectors = json.loads((bad / "card.json").read_text())["detectors"]
    detectors[0]["kind"] = kind
    write(bad, (bad / "weights.safetensors").read_bytes(), detectors=detectors)
    with pytest.raises(ArtefactError, match=f"there is no detector '{kind}'"):
        artefact.load(bad)
    assert not foreseen(bad)


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_what_is_no_file_is_not_waited_for(bad: Path, name: str) -> None:
    (bad / name).unlink()
    (bad / name).mkdir()
    assert not check(bad)
    (bad / name).rmdir()
    os.mkfifo(bad / name)
    assert not check(bad)
    (bad / name).unlink()
    (bad / name).symlink_to("/dev/zero")
    assert not check(bad)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-8])
def test_a_standardisation_that_divides_by_zero_is_not_called_whole(bad: Path, value: float) -> None:
    tensors = safetensors.torch.load_file(bad / "weights.safetensors")
    tensors["standardise.sd"][3] = value
    write(bad, safetensors.torch.save({key: tensor.half() for key, tensor in tensors.items()}))
    assert not check(bad)


# -- made up by the thousand -----------------------------------------------------------------------------------------


@fuzz
@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 7)), min_size=1, max_size=8), st.booleans())
@example([(7, 7)], True)
@example([(20, 3)], True)
def test_flipped_bits_are_noticed_or_harmless(good: Path, bad: Path, bits: list[tuple[int, int]], agrees: bool) -> None:
    content = bytearray((good / "weights.safetensors").read_bytes())
    for place, bit in bits:
        content[place % len(content)] ^= 1 << bit
    write(bad, bytes(content), agrees)
    loaded = check(bad)
    assert agrees or not loaded or bytes(content) == (good / "weights.safetensors").read_bytes()


@fuzz
@given(st.integers(0, 400), st.binary(max_size=40), st.integers(0, 60))
def test_any_bytes_in_the_header_are_refused_or_harmless(
    good: Path, bad: Path, at: int, more: bytes, dropped: int
) -> None:
    content = (good / "weights.safetensors").read_bytes()
    write(bad, content[:at] + more + content[at + dropped :])
    check(bad)


@fuzz
@given(st.data())
def test_any_shapes_are_loaded_or_refused_and_foreseen_no_better(good: Path, bad: Path, data: st.DataObject) -> None:
    """The card agrees with the file; tensors are dropped, added, named or shaped otherwise, arguments are others."""
    tensors = safetensors.torch.load_file(good / "weights.safetensors")
    detectors = json.loads((bad / "card.json").read_text())["detectors"]
    for _ in range(data.draw(st.integers(0, 2))):
        key = data.draw(st.sampled_from(sorted(tensors)))
        tensor = tensors.pop(key)
        match data.draw(st.sampled_from(["drop", "rename", "more", "flat", "copy", "double"])):
            case "rename":
                tensors[key + data.draw(st.sampled_from(["_", ".weight", ".x"]))] = tensor
            case "more":
                tensors[key] = torch.cat([tensor, tensor])
            case "flat":
                tensors[key] = tensor.reshape(-1, 1)
            case "copy":
                tensors |= {key: tensor, f"detectors.{data.draw(st.text(max_size=3))}.x": tensor.clone()}
            case "double":
                tensors[key] = tensor.double()
    for part in detectors:
        if data.draw(st.booleans()):
            wanted = data.draw(st.sampled_from(["dimensions", "hidden", "heads", "fc", "fc1", "dropout", "pool", "no"]))
            part["arguments"][wanted] = data.draw(st.sampled_from([0, 1, 3, 8, 16, 24, 40, 0.3, 1.5, True, "states"]))
        if data.draw(st.integers(0, 4)) == 0:
            part["name"] = data.draw(st.sampled_from(["keys", "pop", "forward", "video_classifier", "one"]))
    write(bad, safetensors.torch.save(tensors), detectors=detectors)
    check(bad)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
    | st.sampled_from(["video_classifier", "bilstm_mil", "rtfm", "../x", "a" * 64, 16, 24, 40, 0.5, 10**9]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, item in inner for path in paths(item, (*here, key)))]


@fuzz
@given(st.data())
def test_any_card_is_used_or_refused(good: Path, bad: Path, data: st.DataObject) -> None:
    card = json.loads((good / "card.json").read_text())
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from([one for one in paths(card) if one]))
        target = card
        for key in path[:-1]:
            target = target[key]
        match data.draw(st.sampled_from(["set", "set", "drop", "add"])):
            case "drop":
                del target[path[-1]]
            case "add" if isinstance(target, dict):
                target[data.draw(st.text(max_size=8))] = data.draw(VALUES)
            case _:
                target[path[-1]] = data.draw(VALUES)
    (bad / "card.json").write_text(json.dumps(card))
    check(bad)


@fuzz
@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b'{"metrics":' * 10_000)
@example(b'{"a": 1' + b"0" * 5_000 + b"}")
@example(b"\xff\xfe{")
def test_any_bytes_are_a_card_or_refused(bad: Path, content: bytes) -> None:
    (bad / "card.json").write_bytes(content)
    assert not check(bad)
