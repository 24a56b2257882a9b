"""An experiment through the front door: a file, training, a kill in between, results, an artefact for the monitor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from monitor.config import ConfigError
from monitor.detectors import artefact
from tests.conftest import ROOT
from tests.training import miniature
from training import cli, config, experiment, truth
from training.catalogue import Video
from training.features import Extraction

FILE = """\
data: shanghaitech
source: {source}
whole: false
detectors:
  video_classifier: {{schedule: {{steps: {steps}, evaluate_every: 2, half_batch: 2, segments: 8}}}}
  short: {{kind: sultani, schedule: {{steps: {steps}, evaluate_every: 2, half_batch: 2, segments: 8}}}}
ensembles:
  both: {{video_classifier: 2.0, short: 1.0}}
seeds: [0, 1]
lengths: [8, 16]
standardised: true
out: {out}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = miniature.make(tmp_path_factory.mktemp("data"), "shanghaitech", dimensions=12)
    truth.run("shanghaitech", made.lists, made.lists / "frame_truth.npz", whole=False)
    return made.lists


def written(folder: Path, source: Path, out: str = "out", steps: int = 6, text: str = FILE) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text.format(source=source, out=out, steps=steps), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = written(tmp_path_factory.mktemp("experiment"), source)
    assert cli.main(["train", str(path)]) == 0
    return path


def test_its_results_name_data_truth_protocol_seeds_and_commit(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(done)]) == 0
    text = capsys.readouterr().out
    content = json.loads((done.parent / "out" / "results.json").read_text(encoding="utf-8"))
    assert content["data"] == "shanghaitech"
    assert content["truth"] in text
    assert "8 videos" in content["truth"]
    assert len(content["commit"]) >= 7
    assert {(one["name"], one["protocol"], one["length"]) for one in content["results"]} == {
        (name, protocol, length)
        for name in ("video_classifier", "short", "both")
        for protocol in experiment.PROTOCOLS
        for length in (8, 16)
    }
    for one in content["results"]:
        assert set(one["seeds"]) == {"0", "1"}
        assert one["mean"]["auc"] == pytest.approx(np.mean([one["seeds"][k]["auc"] for k in "01"]))
        assert one["interval"][0] <= one["interval"][1]
    for name in ("both", "video_classifier"):
        for protocol in experiment.PROTOCOLS:
            assert f"| {name} | {protocol} | 8 |" in text


def test_selection_says_which_step_and_never_looks_at_the_test_videos_unless_stamped(done: Path) -> None:
    settings = config.load(done)
    material = settings.material()
    held = json.loads((done.parent / "out/short/seed-0/held-out/run.json").read_text())
    whole = json.loads((done.parent / "out/short/seed-0/whole/run.json").read_text())
    assert set(held["selected_step"]) == {"validation"}
    assert set(whole["selected_step"]) == {"last", "paper-test-selected"}
    assert whole["selected_step"]["last"] == 6
    looks = (done.parent / "out/short/seed-0/held-out/looks.csv").read_text().splitlines()
    assert looks[0] == "step,loss,validation"
    best = max(looks[1:], key=lambda line: float(line.split(",")[2]))
    assert int(best.split(",")[0]) == held["selected_step"]["validation"]
    learnt, kept = experiment.hold_out(material.learnt, settings.held_out, 0)
    assert {video.id for video in learnt} | {video.id for video in kept} == {video.id for video in material.learnt}
    assert not {video.id for video in kept} & {video.id for video in (*learnt, *material.tested)}


def test_a_killed_training_goes_on_to_the_same_numbers(source: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    text = FILE.replace("seeds: [0, 1]", "seeds: [3]\nprotocols: [last]")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command, undisturbed = (
        [sys.executable, "-m", "training.cli", "train", str(written(folder, source, steps=240, text=text))]
        for folder in (killed, whole)
    )
    assert subprocess.run(undisturbed, cwd=ROOT, env=one_thread, capture_output=True, check=False).returncode == 0
    process = subprocess.Popen(command, cwd=ROOT, env=one_thread, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = killed / "out/video_classifier/seed-3/whole/state.pt"
    end_s = time.monotonic() + 90
    while not state.is_file():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end_s
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (state.parent / "run.json").is_file()
    assert subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, check=False).returncode == 0
    for path in sorted((whole / "out").rglob("scores-*.npy")):
        other = killed / path.relative_to(whole)
        assert np.array_equal(np.load(path), np.load(other)), path


def test_an_ensemble_is_exported_as_an_artefact_that_scores_alike(
    done: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(done), "--name", "both", "--seed", "1", "--out", str(tmp_path / "both")]
    assert cli.main(command) == 1
    assert "has no extraction.json" in capsys.readouterr().err
    made_by = Extraction(backbone="i3d_r50", fingerprint="0" * 64, dimensions=12, fps=25.0, crop_order=("whole",))
    said = source / "features" / "extraction.json"
    said.write_text(json.dumps(asdict(made_by)))
    try:
        assert cli.main(command) == 0
    finally:
        said.unlink()
    loaded = artefact.load(tmp_path / "both")
    assert {part.name: (part.kind, part.weight) for part in loaded.card.detectors} == {
        "video_classifier": ("video_classifier", 2.0),
        "short": ("sultani", 1.0),
    }
    assert (loaded.card.length, loaded.card.stride, loaded.card.backbone) == (8, 8, "i3d_r50")
    assert loaded.card.metrics["protocol"] == "last"
    assert cli.main(["export", str(done), "--name", "all", "--out", str(tmp_path / "x")]) == 1
    assert "no detector or ensemble of this experiment; known are video_classifier, short, both" in (
        capsys.readouterr().err
    )


def video(name: str, label: int, scene: str) -> Video:
    return Video(id=name, path=name, label=label, scene=scene)


def test_whole_scenes_are_held_out_where_that_leaves_both_labels_on_both_sides() -> None:
    videos = [video(f"{scene}-{k}", k % 2, f"s{scene}") for scene in range(8) for k in range(4)]
    for seed in range(5):
        learnt, kept = experiment.hold_out(videos, 0.25, seed)
        assert not {v.scene for v in learnt} & {v.scene for v in kept}
        assert {v.label for v in kept} == {v.label for v in learnt} == {0, 1}
        assert 0.1 <= len(kept) / len(videos) <= 0.45
    assert experiment.hold_out(videos, 0.25, 0) == experiment.hold_out(videos, 0.25, 0)


def test_videos_of_one_camera_are_held_out_one_by_one() -> None:
    videos = [video(str(k), k % 2, "one") for k in range(16)]
    learnt, kept = experiment.hold_out(videos, 0.25, 0)
    assert len(kept) == 4
    assert {v.label for v in kept} == {v.label for v in learnt} == {0, 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("data: shanghaitech", "data: shangaitech"), ":1: data: expected one of ucf_crime, shanghaitech"),
        (("whole: false", "hole: false"), ":3: hole: unknown key; did you mean 'whole'?"),
        (("kind: sultani", "kind: sultan"), ":6: detectors.short: there is no detector 'sultan'"),
        (("{steps: 6, eval", "{steps: many, eval"), "schedule.steps: expected a whole number (got 'many')"),
        (("2.0, short: 1.0", "2.0, shor: 1.0"), "ensembles.both.shor: no detector of this file; did you mean 'short'?"),
        (("lengths: [8, 16]", "lengths: []"), "lengths: must not be empty"),
        (("standardised: true", "held_out: 0.9"), "held_out: must be below 0.5 (got 0.9)"),
        (("standardised: true", "stride: 9"), "stride 9 and delay 0 do not fit bags of 8 segments"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_line_and_key(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    text = FILE.format(source="data", out="out", steps=6)
    assert change[0] in text
    path = tmp_path / "experiment.yaml"
    path.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
