"""The watch on itself: each part of the way that breaks is named, and what is mended passes again."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import resource
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from monitor.alerting.contract import schema
from monitor.canary import LIMIT_S, Canary, CanaryState
from monitor.detectors import artefact, canary
from monitor.detectors.artefact import Artefact, ArtefactError
from monitor.detectors.canary import Curve
from monitor.detectors.card import CanaryCard, Card
from monitor.features import backbone
from monitor.features.backbone import Backbone
from monitor.flow import Floats, Segment
from monitor.scoring.trial import Trial
from tests.e2e.clips import moving_clip
from tests.e2e.running import RunningMonitor, running
from tests.monitor.alerting.servers import mosquitto, subscriber, until
from training.cli import main as vad_train

SHIPPED = ("default", "staged", "motion")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A shipped artefact's clip, decoded as the monitor does it, through its own backbone and detectors."""

    artefact: Artefact
    backbone: Backbone
    features_ND: torch.Tensor
    card: CanaryCard

    def curve(self, features_ND: torch.Tensor | None = None, loaded: Artefact | None = None) -> Curve:
        trial = Trial(self.backbone, loaded or self.artefact)
        for feature_1D in torch.split(self.features_ND if features_ND is None else features_ND, 1):
            trial.take(feature_1D)
        return trial.curve()


@functools.cache
def _run(name: str, weights: Path | None = None) -> Run:
    loaded = artefact.load(name)
    encoder = backbone.create(loaded.card.backbone, weights=weights)
    decoded = _canary_of(loaded, lambda _: Future())._decode()
    assert isinstance(decoded, list), decoded
    features = [encoder.encode(one.pictures[None]) for one in decoded if one.pictures is not None]
    assert loaded.card.canary is not None
    return Run(
        artefact=loaded,
        backbone=encoder,
        features_ND=loaded.standardise(torch.cat(features)),
        card=loaded.card.canary,
    )


@pytest.fixture(params=SHIPPED)
def run(request: pytest.FixtureRequest) -> Run:
    """Of each shipped artefact; of ``motion`` where LiteRT and its weights are there."""
    return _run(request.param, request.getfixturevalue("movinet_file") if request.param == "motion" else None)


@pytest.fixture(params=SHIPPED)
def recorded(request: pytest.FixtureRequest) -> tuple[Curve, CanaryCard]:
    """What each shipped card wants to see."""
    card = artefact.read_card(request.param).canary
    assert card is not None
    return _as_recorded(card), card


def _as_recorded(card: CanaryCard) -> Curve:
    sketch_NS, scores_N, long_term_N, short_term_N = (
        np.array(part, np.float32) for part in (card.sketch, card.scores, card.long_term, card.short_term)
    )
    return Curve(sketch_NS=sketch_NS, scores_N=scores_N, long_term_N=long_term_N, short_term_N=short_term_N)


@pytest.fixture(scope="module")
def curve_and_card() -> tuple[Curve, CanaryCard]:
    """Of the default artefact."""
    one = _run("default")
    return one.curve(), one.card


def _canary_of(loaded: Artefact, try_out, tell=None, counted=None, clock=None) -> Canary:  # type: ignore[no-untyped-def]
    async def nobody(_state: CanaryState) -> bool | None:
        return None

    card = loaded.card
    assert card.canary is not None
    return Canary(
        canary.clip_of(loaded.folder, card.canary),
        card.canary,
        every_s=100.0,
        fps=card.fps,
        preprocessing=backbone.recipe(card.backbone).preprocessing,
        try_out=try_out,
        tell=tell or nobody,
        count=(lambda _: None) if counted is None else counted.append,
        **({} if clock is None else {"clock": clock}),
    )


def test_the_shipped_artefacts_pass_on_the_engine_that_is_here(run: Run) -> None:
    assert canary.judge(run.curve(), run.card) is None


def test_score_and_parts_of_each_shipped_clip_move_by_many_tolerances(recorded: tuple[Curve, CanaryCard]) -> None:
    _, card = recorded
    assert card.span >= 25 * card.score_tolerance
    assert card.flat is None
    assert card.shows is not None
    assert "; then " in card.shows


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_clip_is_small_enough_to_be_mailed(name: str) -> None:
    assert (artefact.resolve(name) / canary.CLIP).stat().st_size < 230_000


@pytest.mark.parametrize("still", ["scores_N", "long_term_N", "short_term_N"])
def test_a_score_that_stands_still_fails(recorded: tuple[Curve, CanaryCard], still: str) -> None:
    """Any constant: the one in the middle is the nearest there is."""
    found, card = recorded
    part_N = getattr(found, still)
    assert canary.judge(found, card) is None
    for constant in ((part_N.min() + part_N.max()) / 2, part_N.mean(), part_N[0], 0.0, 0.5, 1.0):
        fault = canary.judge(replace(found, **{still: np.full_like(part_N, constant)}), card)
        assert fault is not None, constant
        assert fault.part == "scores"


@pytest.mark.parametrize("order", ["backwards", "one late", "one early", "halves exchanged"])
def test_the_right_scores_of_the_wrong_segments_fail(recorded: tuple[Curve, CanaryCard], order: str) -> None:
    found, card = recorded
    half = len(card.scores) // 2

    def moved(part_N: Floats) -> Floats:
        return part_N[::-1] if order == "backwards" else np.roll(part_N, by)

    by = {"backwards": 0, "one late": 1, "one early": -1, "halves exchanged": half}[order]
    parts = {part: moved(getattr(found, part)) for part in ("scores_N", "long_term_N", "short_term_N")}
    for spoilt in (parts, *({part: moved_N} for part, moved_N in parts.items())):
        fault = canary.judge(replace(found, **spoilt), card)
        assert fault is not None, spoilt.keys()
        assert fault.part == "scores"


@pytest.mark.parametrize("dead", ["video_classifier", "bilstm_mil"])
def test_a_detector_without_weights_fails(run: Run, dead: str) -> None:
    loaded = artefact.load(run.artefact.folder)
    with torch.inference_mode():
        for parameter in loaded.ensemble.detectors[dead].parameters():
            parameter.zero_()
    fault = canary.judge(run.curve(loaded=loaded), run.card)
    assert fault is not None
    assert fault.part == "scores"


def test_segments_in_the_wrong_order_fail(run: Run) -> None:
    """In the scorer: features are as they should be, each of another segment."""
    found = run.curve(run.features_ND.flip(0))
    assert canary.judge(found, run.card) is not None
    fault = canary.judge(replace(found, sketch_NS=run.curve().sketch_NS), run.card)
    assert fault is not None
    assert fault.part == "scores"


def test_a_bag_that_keeps_an_old_segment_fails(run: Run) -> None:
    """As where a slot of the store is not written: the first segment of the second scene never arrives."""
    half = len(run.card.scores) // 2
    held_ND = run.features_ND.clone()
    held_ND[half:] = held_ND[half - 1]
    fault = canary.judge(replace(run.curve(held_ND), sketch_NS=run.curve().sketch_NS), run.card)
    assert fault is not None
    assert fault.part == "scores"


def test_features_that_are_a_little_off_do_not_fail_the_scores(run: Run) -> None:
    """By 5 % at random, eight times: what the search for the clip looks for."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(8):
        noise_ND = torch.randn(run.features_ND.shape, generator=generator)
        noise_ND *= 0.05 * run.features_ND.norm() / noise_ND.norm()
        found = run.curve(run.features_ND + noise_ND)
        assert np.abs(found.scores_N - run.card.scores).max() < run.card.score_tolerance


def test_the_clip_of_one_bag_of_an_older_artefact_is_scored_as_it_was(run: Run) -> None:
    """One call of the ensemble, as its card was made; the same length of lists, and nothing said of the clip."""
    length = run.artefact.card.length
    bag_ND = run.features_ND[:length]
    with torch.inference_mode():
        output = run.artefact.ensemble(bag_ND[None])
    found = run.curve(bag_ND)
    former = {
        "sha256": run.card.sha256,
        "sketch": canary.sketch(bag_ND).tolist(),
        "scores": output.scores_BT[0].tolist(),
        "long_term": output.long_term_BT[0].tolist(),
        "short_term": output.short_term_BT[0].tolist(),
        "feature_tolerance": 0.05,
        "score_tolerance": 1e-6,
    }
    card = Card.model_validate_json(json.dumps(json.loads(run.artefact.card.model_dump_json()) | {"canary": former}))
    assert card.canary is not None
    assert canary.judge(found, card.canary) is None
    assert "would not be noticed" in (card.canary.flat or "")


def test_a_canary_shorter_than_a_bag_is_no_canary() -> None:
    card = json.loads(artefact.read_card("default").model_dump_json())
    for part in ("sketch", "scores", "long_term", "short_term"):
        card["canary"][part] = card["canary"][part][:3]
    with pytest.raises(ValueError, match=r"canary: expected one length of its lists, 4 \(the bag's\) or more"):
        Card.model_validate_json(json.dumps(card))


def test_scores_of_fewer_segments_than_came_fail(recorded: tuple[Curve, CanaryCard]) -> None:
    found, card = recorded
    parts = {part: getattr(found, part)[1:] for part in ("scores_N", "long_term_N", "short_term_N")}
    fault = canary.judge(replace(found, **parts), card)
    assert fault is not None
    assert fault.reason == "7 segments have scores, 8 were expected to"


@pytest.mark.slow
@pytest.mark.parametrize("detectors", ["as they are", "that stand still"])
def test_the_command_finds_a_clip_that_moves_the_scores_or_says_so(
    detectors: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = artefact.load("default")
    if detectors == "that stand still":
        monkeypatch.setattr("training.canary.SEGMENTS", 4)  # of every kind one: no scene moves them
        monkeypatch.setattr("training.canary.FINALISTS", 4)
        with torch.inference_mode():
            for parameter in loaded.ensemble.parameters():
                parameter.zero_()
    artefact.save(
        tmp_path, loaded.card.model_copy(update={"canary": None}), loaded.standardise, loaded.ensemble, half=False
    )
    assert vad_train(["canary", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    card = artefact.read_card(tmp_path).canary
    assert card is not None
    assert canary.clip_of(tmp_path, card).stat().st_size < 230_000
    assert f"8 segments, {(tmp_path / canary.CLIP).stat().st_size // 1000} kB: {card.shows}" in said
    if detectors == "as they are":
        assert "48 staged scenes of 4 segments" in said
        assert card.span >= 25 * card.score_tolerance
        assert "beware" not in said
    else:
        assert card.span == 0
        assert "beware: the canary's scores move by 0.0000, less than 5 times their tolerance of 0.02" in said


@pytest.mark.slow
@pytest.mark.parametrize("artefact_name", ["default", "staged"])
def test_engines_are_within_the_tolerance_and_a_layer_that_half_works_is_not(artefact_name: str) -> None:
    """Prints the README's figures: how far each is from the card, and what a run costs (pytest -s)."""
    from monitor.features.engine import Eager

    def children_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    loaded = artefact.load(artefact_name)
    card = loaded.card.canary
    assert card is not None
    card_parts = (card.scores, card.long_term, card.short_term)
    eager, openvino = (backbone.create(loaded.card.backbone, engine=engine) for engine in ("eager", "openvino"))
    assert isinstance(eager, Eager)
    began_s = time.process_time() + children_s()
    decoded = _canary_of(loaded, lambda _: Future())._decode()
    decoding_s = time.process_time() + children_s() - began_s
    assert isinstance(decoded, list), decoded
    pictures = np.stack([one.pictures for one in decoded if one.pictures is not None])
    began_s = time.process_time()
    found = {"openvino": openvino.encode(pictures)}
    print(f"a run: {decoding_s:.2f} s of CPU to decode, {time.process_time() - began_s:.2f} s to encode")
    found["torch float32"] = eager.encode(pictures)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            found["torch bfloat16"] = eager.module(torch.from_numpy(pictures)).float()
        eager.module.network.blocks[8].project[0].weight[:20] = 0  # type: ignore[index,union-attr]
        found["20 of 112 channels dead"] = eager.module(torch.from_numpy(pictures))
    wanted_NS = np.array(card.sketch)
    for name, features_ND in found.items():
        curve = _run(artefact_name).curve(loaded.standardise(features_ND))
        away = float(np.linalg.norm(curve.sketch_NS - wanted_NS) / np.linalg.norm(wanted_NS))
        parts = zip((curve.scores_N, curve.long_term_N, curve.short_term_N), card_parts, strict=True)
        off = ", ".join(f"{float(np.abs(ours - theirs).max()):.1e}" for ours, theirs in parts)
        print(f"{artefact_name}: {name}: {away:.1e} of the features' length; score, long-term, short-term: {off}")
        fault = canary.judge(curve, card)
        assert (fault and fault.part) == ("features" if "dead" in name else None), name


@pytest.mark.parametrize("part", ["features", "scores", "long_term", "short_term", "decode"])
def test_what_differs_is_named(curve_and_card: tuple[Curve, CanaryCard], part: str) -> None:
    found, card = curve_and_card
    spoilt = {
        "features": replace(found, sketch_NS=found.sketch_NS * 1.1),
        "scores": replace(found, scores_N=found.scores_N + 0.03),
        "long_term": replace(found, long_term_N=found.long_term_N - 0.03),
        "short_term": replace(found, short_term_N=np.full_like(found.short_term_N, np.nan)),
        "decode": replace(found, sketch_NS=found.sketch_NS[:-1]),
    }[part]
    fault = canary.judge(spoilt, card)
    assert fault is not None
    assert fault.part == ("scores" if part in ("long_term", "short_term") else part)


def test_a_sketch_moves_as_far_as_its_features() -> None:
    generator = torch.Generator().manual_seed(0)
    features_ND = torch.randn(8, 500, generator=generator)
    for share in (0.01, 0.1, 0.5):
        moved_ND = features_ND + share * torch.randn(8, 500, generator=generator)
        one, other = canary.sketch(features_ND), canary.sketch(moved_ND)
        assert np.linalg.norm(other - one) / np.linalg.norm(one) == pytest.approx(share, rel=0.35)


def test_a_clip_that_is_not_the_cards_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(artefact.resolve("default"), folder)
    card = artefact.read_card(folder).canary
    assert card is not None
    (folder / canary.CLIP).write_bytes(b"\0" + (folder / canary.CLIP).read_bytes())
    with pytest.raises(ArtefactError, match="damaged or another clip"):
        canary.clip_of(folder, card)
    (folder / canary.CLIP).unlink()
    with pytest.raises(ArtefactError, match="cannot be read"):
        canary.clip_of(folder, card)


def test_a_run_that_fails_is_told_and_one_that_passes_mends_it(
    curve_and_card: tuple[Curve, CanaryCard],
) -> None:
    """A scorer that says something else, one that is silent no longer, a broker that does not answer."""
    found, _ = curve_and_card
    told: list[CanaryState] = []
    counted: list[str] = []
    answers = [replace(found, scores_N=found.scores_N + 0.5), found, found]
    acknowledges = iter([None, False, None, True])

    def try_out(segments: Sequence[Segment]) -> Future[Curve]:
        assert len(segments) == 8
        assert all(one.pictures is not None and one.slot is None for one in segments)
        answer: Future[Curve] = Future()
        answer.set_result(answers.pop(0))
        return answer

    async def tell(state: CanaryState) -> bool | None:
        told.append(state)
        return next(acknowledges)

    now_s = 1000.0
    tried = _canary_of(artefact.load("default"), try_out, tell, counted, clock=lambda: now_s)
    assert tried.check().ok

    async def three() -> list[str | None]:
        return [fault and fault.part for fault in [await tried.run_once() for _ in range(3)]]

    assert asyncio.run(three()) == ["scores", "broker", None]
    assert counted == ["scores", "broker", "passed"]
    assert [one.state for one in told] == ["failed", "passed", "failed", "passed"]
    assert tried.state.state == "passed"
    assert tried.state.part is None
    now_s += 200.0 + LIMIT_S
    assert tried.check().ok
    now_s += 1.0
    assert not tried.check().ok
    assert "has not passed for 261 s" in tried.check().note


@pytest.mark.parametrize("acknowledged", [True, None])
def test_a_broker_that_nobody_tells_is_left_out_and_that_is_said(
    curve_and_card: tuple[Curve, CanaryCard], acknowledged: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    found, _ = curve_and_card

    def try_out(_segments: Sequence[Segment]) -> Future[Curve]:
        answer: Future[Curve] = Future()
        answer.set_result(found)
        return answer

    async def tell(_state: CanaryState) -> bool | None:
        return acknowledged

    tried = _canary_of(artefact.load("default"), try_out, tell)
    with caplog.at_level("INFO"):
        assert asyncio.run(tried.run_once()) is None
    (said,) = [one.message for one in caplog.records if "canary" in one.message]
    assert ("scores and broker" in said) == (acknowledged is True)
    for words in (said, tried.check().note):
        assert ("the broker is left out: nothing is published" in words) == (acknowledged is None)


def test_a_machine_without_descriptors_fails_it_and_nothing_more(tmp_path: Path) -> None:
    """The monitor must not end with its canary, and each try must not take more of what is short."""
    tried = _canary_of(artefact.load("default"), lambda _: Future())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def descriptors() -> set[str]:
        return {one.name for one in Path("/proc/self/fd").iterdir()}

    async def with_room_for(more: int) -> tuple[canary.Fault | None, set[str], set[str]]:
        before = descriptors()
        free = [number for number in range(soft) if str(number) not in before]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[more], hard))
        try:
            fault = await tried.run_once()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return fault, before, descriptors()

    async def scenario() -> None:
        await asyncio.to_thread(int)  # the thread is there
        for more in range(5):  # the memory, its mapping, the pipe's two ends, what Popen needs
            fault, before, after = await with_room_for(more)
            assert fault is not None
            assert fault.part == "decode"
            assert "could be started for the canary's clip: Too many open files" in fault.reason
            assert after == before

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_real_monitor_passes_and_a_broker_that_hangs_is_noticed(tmp_path: Path) -> None:
    """The retained message, the series, /readyz; nothing of it on a camera's topics."""
    import signal

    clip = moving_clip(tmp_path / "gate.mp4", 60)
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        plant = {
            "site": "works",
            "mqtt": {"port": broker.port, "keepalive_s": 60},
            "canary": {"every_s": 10},
            "cameras": [{"name": "gate", "url": f"file:{clip}"}],
        }
        monitor = RunningMonitor(tmp_path, plant)
        try:
            monitor.said("the canary passed", 90)

            def said(state: str) -> bool:
                return any(topic == "vad/works/canary" and state in text for topic, _, text in heard.seen)

            until(lambda: said('"passed"'), 10, "the canary's message")
            for topic, _, text in list(heard.seen):
                if topic == "vad/works/canary":
                    jsonschema.validate(json.loads(text), schema("canary"))
            assert monitor.metric("vad_canary_ok") == 1
            assert 0 < (monitor.metric("vad_canary_latency_seconds") or 0) < 60
            assert "canary" in monitor.get("/readyz?verbose")[1]
            assert monitor.metric("vad_readers") == 1
            broker.signal(signal.SIGSTOP)
            try:
                until(lambda: monitor.metric("vad_canary_runs_total", result="broker") == 1, 60, "a run that failed")
                assert monitor.metric("vad_canary_ok") == 0
            finally:
                broker.signal(signal.SIGCONT)
            until(lambda: monitor.metric("vad_canary_ok") == 1, 60, "a run that passes again")
            assert not [topic for topic, _, _ in heard.seen if "cameras/canary" in topic]
            assert monitor.end() == 0
        finally:
            monitor.close()


@pytest.mark.slow
def test_detectors_that_are_not_as_they_were_fail_it(tmp_path: Path) -> None:
    """Weights changed with their checksum: whoever replaced them did not record a canary with them."""
    folder = tmp_path / "artefact"
    loaded = artefact.load("default")
    with torch.inference_mode():
        for parameter in loaded.ensemble.parameters():
            parameter.mul_(1.5)
    artefact.save(folder, loaded.card, loaded.standardise, loaded.ensemble)
    shutil.copy(loaded.folder / canary.CLIP, folder)
    clip = moving_clip(tmp_path / "gate.mp4", 20)
    plant = {
        "site": "works",
        "mqtt": "off",
        "scoring": {"artefact": str(folder)},
        "canary": {"every_s": 10},
        "cameras": [{"name": "gate", "url": f"file:{clip}"}],
    }
    monitor = RunningMonitor(tmp_path, plant)
    try:
        monitor.said("the canary failed (scores): a score differs from the card by", 90)
        assert "camera 'canary'" not in monitor.log, "it is no camera, also not in the log"
        assert monitor.metric("vad_canary_runs_total", result="scores") == 1
        assert "failed (scores)" in monitor.get("/readyz?verbose")[1]
        assert monitor.end() == 0
    finally:
        monitor.close()


@pytest.mark.slow
def test_features_that_are_not_the_cards_make_a_running_monitor_unready(tmp_path: Path) -> None:
    """The card is changed, not the backbone: another backbone has another fingerprint, and is refused at the start."""
    folder = tmp_path / "artefact"
    shutil.copytree(artefact.resolve("default"), folder)
    card = json.loads((folder / "card.json").read_text())
    card["canary"]["sketch"] = [[value * 1.2 for value in row] for row in card["canary"]["sketch"]]
    (folder / "card.json").write_text(json.dumps(card))
    clip = moving_clip(tmp_path / "gate.mp4", 20)
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        plant = {
            "site": "works",
            "mqtt": {"port": broker.port},
            "scoring": {"artefact": str(folder)},
            "canary": {"every_s": 10},
            "cameras": [{"name": "gate", "url": f"file:{clip}"}],
        }
        with running(tmp_path, plant) as monitor:
            monitor.said("the canary failed (features): features differ from the card by 0.1", 90)

            def told() -> dict[str, object]:
                said = [json.loads(text) for topic, _, text in heard.seen if topic == "vad/works/canary" and text]
                return said[-1] if said else {}

            until(lambda: told().get("state") == "failed", 10, "the message")
            jsonschema.validate(told(), schema("canary"))
            assert told()["part"] == "features"
            # Two intervals and the time a run may take; then nobody is to trust this monitor.
            until(lambda: monitor.get("/readyz")[0] == 503, 120, "/readyz 503")
            assert "no: canary: failed (features)" in monitor.get("/readyz?verbose")[1]
            assert monitor.get("/livez")[0] == 200
            assert monitor.end() == 0


@pytest.mark.slow
def test_readers_that_die_at_every_start_are_reported_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log, status, metric, /readyz and canary; all by themselves as it was when the cause is gone."""
    cause = tmp_path / "cause"
    cause.touch()
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if 'monitor.ingest.worker' in sys.orig_argv and os.path.exists({str(cause)!r}):\n"
        "    os._exit(3)\n"
    )
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    )
    clip = moving_clip(tmp_path / "gate.mp4", 60)
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as heard:
        plant = {
            "site": "works",
            "mqtt": {"port": broker.port},
            "canary": {"every_s": 10},
            "cameras": [{"name": "gate", "url": f"file:{clip}"}],
        }
        with running(tmp_path, plant) as monitor:
            monitor.said("reader processes end soon after each start, 3 in a row, the last with exit status 3", 60)
            assert (monitor.metric("vad_reader_restarts_total") or 0) >= 2
            assert monitor.get("/readyz")[0] == 503
            assert "no: readers: reader processes end soon after each start" in monitor.get("/readyz?verbose")[1]
            until(lambda: heard.payloads("gate/status")[-1]["status"] == "lost", 20, "the status")
            assert "its reader process ended (exit status 3)" in heard.payloads("gate/status")[-1]["reason"]
            monitor.said("the canary failed (decode): the canary's clip was not decoded", 120)
            assert monitor.get("/readyz")[0] == 503
            cause.unlink()
            monitor.said("the canary passed", 120)
            until(lambda: monitor.get("/readyz") == (200, "ok\n"), 90, "/readyz 200")
            until(lambda: heard.payloads("gate/status")[-1]["status"] in ("learning", "ok"), 60, "the camera")
            assert monitor.end() == 0
