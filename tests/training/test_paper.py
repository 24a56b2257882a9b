"""Every table and figure of the paper, end to end, through the command line, on miniatures of the three data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training import miniature
from training import cli, experiment, paper, truth
from training.paper import Settings


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("ucf_crime", "shanghaitech", "xd_violence"):
        made = miniature.make(folder, name, dimensions=16, audio_dimensions=8)
        truth.run(name, made.lists, made.lists / "frame_truth.npz", whole=False)
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def reproduce(data: Path, results: Path, what: str, *more: str) -> int:
    place = ["--data", str(data), "--results", str(results), "--part", "--seeds", "1"]
    return cli.main(["reproduce", what, *place, "--trial", "2", *more])


ROWS = {
    "table1": [
        "UCF-Crime | Bi-LSTM alone | 81.72",
        "ShanghaiTech | Video Classifier | 95.40",
        "XD-Violence RGB+VGGish | Video Classifier† | 78.75",
    ],
    "table2": [
        "UCF-Crime | Ours (mean) | 84.72",
        "UCF-Crime | RTFM | 84.30",
        "UCF-Crime | UR-DMU | 86.97",
        "UCF-Crime | MIST (I3D) | 82.30 | | | |",
    ],
    "table3": ["ShanghaiTech | Ours (mean) | 96.28", "ShanghaiTech | Sultani | – "],
    "table4": ["XD-Violence RGB | Ours (mean) | 74.99", "XD-Violence RGB+VGGish | Ours† (mean) | 82.13"],
    "table5": ["UCF-Crime | RTFM + Video Classifier | 85.21", "ShanghaiTech | RTFM + Ours (halves) | 97.48"],
}


@pytest.mark.parametrize("what", sorted(ROWS))
def test_a_table_lays_ours_beside_the_published_number(
    what: str, data: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce(data, results, what) == 0
    text = capsys.readouterr().out
    assert "2 steps: a trial, not a result" in text
    assert "ours, last | ours, validation | ours, paper-test-selected |" in text
    for row in ROWS[what]:
        assert row in text
    assert text == (results / f"{what}.md").read_text(encoding="utf-8") + "\n"


@pytest.mark.parametrize("what", ["figure4", "figure5", "figure6", "figure7"])
def test_a_figure_is_drawn(what: str, data: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(data, results, what, "--protocols", "last") == 0
    text = capsys.readouterr().out
    assert str(results / f"{what}.png") in text
    assert (results / f"{what}.png").stat().st_size > 10_000
    if what in ("figure5", "figure6"):
        assert [line.split("|")[1].strip() for line in text.splitlines()[4:19]] == list(map(str, paper.LENGTHS))
    if what == "figure7":
        assert all(name in text for name in ("Explosion010", "Stealing079", "RoadAccidents012"))


def test_an_ensemble_is_the_mean_of_its_detectors_frame_by_frame(data: Path, results: Path) -> None:
    settings = Settings(data=data, results=results, seeds=(0,), trial=2, whole=False)
    material = paper.material(settings, "UCF-Crime")
    plan = paper.plan(settings, ["rtfm+ours, halves"])
    out = results / "ucf-crime"
    experiment.run(material, plan, out)
    parts = [experiment.scores(plan, out, name, "last", 32, 0) for name in ("rtfm", "video_classifier", "bilstm_mil")]
    mean = experiment.scores(plan, out, "rtfm+ours, halves", "last", 32, 0)
    assert mean == pytest.approx(parts[0] / 2 + parts[1] / 4 + parts[2] / 4, abs=1e-6)
    judged = experiment.judged(material, mean)
    assert [len(video.scores_F) for video in judged] == [len(material.truth.labels[v.id]) for v in material.tested]
    first = judged[0].scores_F
    assert first[0] == mean[0]
    assert set(np.unique(first)) <= set(mean[: len(material.features[material.tested[0].id])])


def test_without_features_it_says_which_file_of_which_layout_and_who_has_it(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce(tmp_path, tmp_path / "results", "table2") == 1
    said = capsys.readouterr().err
    assert "Anomaly_Train.txt" in said
    assert "crcv.ucf.edu" in said


def test_two_runs_with_a_seed_are_equal_and_what_is_there_is_not_run_again(data: Path, tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        assert reproduce(data, tmp_path / name, "table3", "--protocols", "last") == 0
        found.append(json.loads(json.dumps(sorted(p.read_text() for p in (tmp_path / name).glob("table3.md")))))
    assert found[0] == found[1]
    run = tmp_path / "first" / "shanghaitech" / "rtfm" / "seed-0" / "whole" / "run.json"
    before = run.stat().st_mtime_ns
    assert reproduce(data, tmp_path / "first", "table3", "--protocols", "last") == 0
    assert run.stat().st_mtime_ns == before


def test_a_folder_of_other_runs_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--data", str(data), "--results", str(tmp_path), "--part", "--seeds", "1", "--protocols", "last"]
    assert cli.main(["reproduce", "table3", *place, "--trial", "2"]) == 0
    assert cli.main(["reproduce", "table3", *place, "--trial", "3"]) == 1
    assert "holds a run with another schedule" in capsys.readouterr().err


def test_what_is_not_known_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "table9", "--data", str(tmp_path)]) == 1
    assert "there is no table9; known are table1" in capsys.readouterr().err
