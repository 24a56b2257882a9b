"""Which artefact ``auto`` is, and what is said of it."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import pytest

from monitor.config import Scoring
from monitor.detectors.artefact import read_card
from monitor.features import weights
from monitor.scoring.choice import BEST_FIRST, artefact_of
from monitor.scoring.rings import open_rings

MOVINET = "movinet_a0_stream"


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without any weights."""
    monkeypatch.setenv("VAD_MONITOR_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("empty")
def test_what_is_named_is_taken_as_it_is() -> None:
    assert artefact_of("default", "cpu") == ("default", "")
    assert artefact_of("/plants/steel/artefact", "cuda:0") == ("/plants/steel/artefact", "")


@pytest.mark.usefixtures("empty")
def test_on_a_gpu_auto_is_the_default_artefact() -> None:
    name, why = artefact_of("auto", "cuda:0")
    assert name == "default"
    assert "on effnet_lite0" in why
    assert "not 'motion' (clip AUC" in why
    assert why.endswith(f"for {MOVINET} runs on the cpu only")


@pytest.mark.usefixtures("empty")
def test_without_movinet_auto_is_the_default_artefact_and_says_what_is_missing() -> None:
    name, why = artefact_of("auto", "cpu")
    assert name == "default"
    there = importlib.util.find_spec("ai_edge_litert") is not None
    assert (f"vad-monitor weights fetch {MOVINET}" if there else "pip install 'vad-monitor[movinet]'") in why


@pytest.mark.usefixtures("empty")
def test_a_litert_that_cannot_be_loaded_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "site" / "ai_edge_litert"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "interpreter.py").write_text("raise ImportError('GLIBC_2.99 not found')\n")
    for name in [name for name in sys.modules if name.split(".")[0] == "ai_edge_litert"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(broken.parent))
    name, why = artefact_of("auto", "cpu")
    sys.modules.pop("ai_edge_litert")
    assert name == "default"
    assert "pip install 'vad-monitor[movinet]' (GLIBC_2.99 not found)" in why


@pytest.mark.usefixtures("empty")
def test_with_movinet_auto_is_its_artefact(movinet_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights.take_in(MOVINET, movinet_file)
    with caplog.at_level(logging.INFO):
        rings = open_rings(Scoring(artefact="auto", device="cpu"), files=False)
    assert rings.artefact.card.name == "motion"
    assert rings.backbone.name == MOVINET
    assert "scoring.artefact: auto is 'motion' on movinet_a0_stream, clip AUC" in caplog.text


def test_the_order_is_that_of_the_cards() -> None:
    def mean(name: str) -> float:
        found = read_card(name).metrics["clip_auc"].values()
        return sum(rows["ensemble"]["mean"] for rows in found) / len(found)

    assert sorted(BEST_FIRST, key=mean, reverse=True) == list(BEST_FIRST)
