"""What `vad-monitor check` need not open again, and what it must."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.config import Scoring
from monitor.detectors.artefact import SHIPPED
from monitor.scoring import proof
from tests.conftest import ROOT

CHECK = """
import sys, time
from monitor.cli import main
begin = time.process_time()
code = main(["check", sys.argv[1]])
print(code, "torch" in sys.modules, time.process_time() - begin)
"""


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A plant with an artefact of its own beside it, whose detectors foresight.py does not know."""
    shutil.copytree(SHIPPED / "default", tmp_path / "artefact")
    card = json.loads((tmp_path / "artefact" / "card.json").read_text())
    card["detectors"][0]["arguments"]["dropout"] = 0
    (tmp_path / "artefact" / "card.json").write_text(json.dumps(card))
    file = tmp_path / "plant.yaml"
    file.write_text(
        "site: test\nmqtt: {host: 127.0.0.1}\nscoring: {artefact: ./artefact, device: cpu}\n"
        f"state_folder: {tmp_path / 'state'}\nevidence: {{folder: {tmp_path / 'evidence'}}}\n"
        "cameras: [{name: gate, url: 'rtsp://127.0.0.1:9/gate'}]\n"
    )
    return file


def checked(plant: Path) -> tuple[int, bool, float, str]:
    """Exit code, whether torch was imported, CPU seconds, what was said."""
    environment = {**os.environ, "VAD_MONITOR_CACHE": str(plant.parent / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(plant)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *_, last = done.stdout.splitlines()
    code, torch, seconds = last.split()
    return int(code), torch == "True", float(seconds), done.stdout + done.stderr


def test_the_first_look_at_the_shipped_artefact_needs_no_torch(plant: Path) -> None:
    plant.write_text(plant.read_text().replace("artefact: ./artefact", "artefact: default"))
    looks = [checked(plant) for _ in range(3)]
    assert [look[:2] for look in looks] == [(0, False)] * 3
    assert min(look[2] for look in looks) < 1
    assert not (plant.parent / "cache").exists()


def test_a_second_look_at_the_same_artefact_needs_no_torch_and_any_change_does(plant: Path) -> None:
    assert checked(plant)[:2] == (0, True)  # takes the backbone's weights in: nothing to compare with before
    assert checked(plant)[:2] == (0, True)
    looks = [checked(plant) for _ in range(3)]
    assert [look[:2] for look in looks] == [(0, False)] * 3
    assert "1 cameras (1 enabled); artefact 'default' on effnet_lite0, l = 4, stride 1, delay 1" in looks[0][3]
    assert min(look[2] for look in looks) < 1

    weights = plant.parent / "artefact" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for _ in range(2):  # what failed is not remembered
        code, torch, _, said = checked(plant)
        assert (code, torch) == (78, True)
        assert "weights.safetensors is damaged or belongs to another card" in said
    content[-1] ^= 1
    weights.write_bytes(content)
    assert checked(plant)[:2] == (0, False)
    with plant.open("a") as file:
        file.write("canary: {every_s: null}\n")
    assert checked(plant)[:2] == (0, True)


@pytest.fixture
def scoring(plant: Path, monkeypatch: pytest.MonkeyPatch) -> Scoring:
    """With files in the cache that stand for the backbone's weights: their sum is taken, they are not read."""
    weights = plant.parent / "cache" / "weights"
    weights.mkdir(parents=True)
    (weights / "effnet_lite0.json").write_text(json.dumps({"kept": "kept.safetensors"}))
    (weights / "kept.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(weights.parent))
    return Scoring(artefact=str(plant.parent / "artefact"), device="cpu")


@pytest.mark.parametrize("file", ["cache/weights/kept.safetensors", "artefact/canary.mp4"])
def test_another_file_is_another_sum(scoring: Scoring, tmp_path: Path, file: str) -> None:
    before = proof.sum_of(scoring, canary=True)
    assert before is not None
    assert before == proof.sum_of(scoring, canary=True)
    (tmp_path / file).write_bytes(b"another")
    assert proof.sum_of(scoring, canary=True) not in (None, before)


def test_a_gpu_that_is_hidden_is_another_machine(scoring: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    before = proof.sum_of(scoring, canary=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert proof.sum_of(scoring, canary=True) not in (None, before)


def test_what_is_missing_or_no_file_is_left_to_opening(scoring: Scoring, tmp_path: Path) -> None:
    assert proof.sum_of(scoring.model_copy(update={"device": "cuda:0"}), canary=True) is None
    assert proof.sum_of(scoring.model_copy(update={"artefact": "nowhere"}), canary=True) is None
    kept = tmp_path / "cache" / "weights" / "kept.safetensors"
    kept.unlink()
    assert proof.sum_of(scoring, canary=True) is None
    os.mkfifo(kept)
    assert proof.sum_of(scoring, canary=True) is None


def test_the_last_sums_are_kept_and_a_cache_that_cannot_be_written_costs_nothing(scoring: Scoring) -> None:
    sums = [f"{number:064x}" for number in range(proof.KEPT + 1)]
    for each in sums:
        proof.keep(each)
    assert [proof.known(each) for each in sums] == [False, *[True] * proof.KEPT]
    shutil.rmtree(os.environ["VAD_MONITOR_CACHE"])
    Path(os.environ["VAD_MONITOR_CACHE"]).write_text("a file")
    proof.keep(sums[0])
    assert not proof.known(sums[0])
