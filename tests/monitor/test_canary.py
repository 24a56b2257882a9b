"""The watch on itself: each part of the way that breaks is named, and what is mended passes again."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from monitor.alerting.contract import schema
from monitor.canary import LIMIT_S, Canary, CanaryState
from monitor.config import Scoring
from monitor.detectors import artefact, canary
from monitor.detectors.artefact import Artefact, ArtefactError
from monitor.detectors.canary import Curve
from monitor.flow import Segment
from monitor.scoring.rings import open_rings
from tests.e2e.clips import moving_clip
from tests.e2e.running import RunningMonitor, running
from tests.monitor.alerting.servers import mosquitto, subscriber, until


@pytest.fixture(scope="module")
def curve_and_card() -> tuple[Curve, canary.CanaryCard]:
    """The shipped artefact's clip through its own backbone and detectors."""
    rings = open_rings(Scoring(device="cpu"), files=False)
    card = rings.artefact.card
    assert card.canary is not None
    clip = canary.clip_of(rings.artefact.folder, card.canary)
    decoded = _canary_of(rings.artefact, lambda _: Future())._decode()
    assert isinstance(decoded, list), decoded
    assert clip.stat().st_size < 500_000
    return canary.curve(rings.encode(decoded), rings.artefact.ensemble), card.canary


def _canary_of(loaded: Artefact, try_out, tell=None, counted=None, clock=None) -> Canary:  # type: ignore[no-untyped-def]
    from monitor.features import backbone

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


def test_the_shipped_artefacts_pass_on_the_engine_that_is_here(
    curve_and_card: tuple[Curve, canary.CanaryCard],
) -> None:
    found, card = curve_and_card
    assert canary.judge(found, card) is None
    assert artefact.read_card("staged").canary is not None


@pytest.mark.slow
def test_engines_are_within_the_tolerance_and_a_layer_that_half_works_is_not(tmp_path: Path) -> None:
    """Prints the README's figures: how far each is from the card, and what a run costs (pytest -s)."""
    from monitor.features import backbone
    from monitor.features.engine import Eager

    def children_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    loaded = artefact.load("default")
    card = loaded.card.canary
    assert card is not None
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
        curve = canary.curve(loaded.standardise(features_ND), loaded.ensemble)
        away = float(np.linalg.norm(curve.sketch_NS - wanted_NS) / np.linalg.norm(wanted_NS))
        print(f"{name}: {away:.1e} of the features' length, scores {np.abs(curve.scores_N - card.scores).max():.1e}")
        fault = canary.judge(curve, card)
        assert (fault and fault.part) == ("features" if "dead" in name else None), name


@pytest.mark.parametrize("part", ["features", "scores", "long_term", "short_term", "decode"])
def test_what_differs_is_named(curve_and_card: tuple[Curve, canary.CanaryCard], part: str) -> None:
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
    curve_and_card: tuple[Curve, canary.CanaryCard],
) -> None:
    """A scorer that says something else, one that is silent no longer, a broker that does not answer."""
    found, _ = curve_and_card
    told: list[CanaryState] = []
    counted: list[str] = []
    answers = [replace(found, scores_N=found.scores_N + 0.5), found, found]
    acknowledges = iter([None, False, None, True])

    def try_out(segments: Sequence[Segment]) -> Future[Curve]:
        assert len(segments) == 4
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
    curve_and_card: tuple[Curve, canary.CanaryCard], acknowledged: bool | None, caplog: pytest.LogCaptureFixture
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
