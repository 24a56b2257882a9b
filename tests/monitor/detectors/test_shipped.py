"""What the artefacts in the package promise to whoever uses them."""

from __future__ import annotations

import pytest
from safetensors import safe_open

from monitor.detectors import artefact
from tests.conftest import ROOT

NAMES = sorted(card.parent.name for card in artefact.SHIPPED.glob("*/card.json"))
FLOORS = {"metadata", "motion energy", "logistic regression"}
DETECTORS = ({"video classifier", "video_classifier"}, {"bi-lstm+mil", "bilstm_mil"})
"""Rows of the two detectors; cards were written by two versions of the training."""


def test_the_demo_the_default_and_the_motion_artefact_are_shipped() -> None:
    assert NAMES == ["default", "motion", "staged"]


@pytest.mark.parametrize("name", NAMES)
def test_an_artefact_has_at_most_ten_megabytes_and_the_papers_two_detectors(name: str) -> None:
    folder = artefact.SHIPPED / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10_000_000
    card = artefact.read_card(name)
    assert {detector.name for detector in card.detectors} == {"video_classifier", "bilstm_mil"}
    with safe_open(folder / "weights.safetensors", "numpy") as weights:
        kinds = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 - it is no dict
    assert "F16" in kinds


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_it_learnt_from_under_which_terms_and_how_to_train_ones_own(name: str) -> None:
    card = artefact.read_card(name)
    assert card.terms_of_use.startswith("These weights were learnt from footage that is given for research only")
    assert all(data.licence and data.videos > 0 for data in card.data)
    assert any("for research purposes only" in data.licence for data in card.data)
    assert card.command.startswith("vad-train default ")
    assert len(card.commit) == 40


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", ["fights", "industrial"])
def test_a_card_has_every_fold_of_every_row_beside_its_floors(name: str, source: str) -> None:
    table = artefact.read_card(name).metrics["clip_auc"][source]
    assert set(table) >= FLOORS | {"ensemble"}
    assert all(names & set(table) for names in DETECTORS)
    for row in table.values():
        assert sorted(row["folds"]) == ["0", "1", "2", "3", "4"]
        assert row["mean"] == pytest.approx(sum(row["folds"].values()) / 5, abs=6e-5)
        assert row["pooled_interval"][0] < row["pooled"] < row["pooled_interval"][1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", ["fights", "industrial"])
def test_the_readme_says_of_the_ensemble_what_the_card_says(name: str, source: str) -> None:
    row = artefact.read_card(name).metrics["clip_auc"][source]["ensemble"]
    low, high = row["pooled_interval"]
    said = f"{row['mean']:.3f} ± {row['sd_folds']:.3f}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("**", "")
    assert f"{said}; pooled {row['pooled']:.3f} [{low:.2f}, {high:.2f}]" in readme
