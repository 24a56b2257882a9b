"""The list of series, and what a scrape says."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from monitor.flow import PICTURE_FAULTS, CameraStatus
from monitor.observe.metrics import CameraFigures, Metrics, ProcessFigures, compress
from monitor.observe.series import CAMERA_BUDGET, SERIES, reference
from tests.conftest import ROOT, needs_program


def camera(name: str, most: bool = True) -> CameraFigures:
    """A camera with all series there can be, or (``most=False``) one that is just being opened."""
    if not most:
        return CameraFigures(camera=name, status=CameraStatus.CONNECTING, up=False)
    return CameraFigures(
        camera=name,
        status=CameraStatus.OK,
        up=True,
        frames_decoded=3200,
        segments=200,
        segments_scored=180,
        segments_bridged=3,
        segments_dropped={f"why_{n}": n for n in range(12)},
        segments_invalid={f"bad_{n}": n for n in range(12)},
        decode_errors=4,
        reconnects=2,
        stalls=1,
        last_frame_wall_s=1_700_000_000.25,
        evidence_held_s=31.5,
        picture={kind: int(kind == "black") for kind in PICTURE_FAULTS},
        drift_ppm=-120.0,
        lag_s=0.25,
        score=0.125,
        long_term=0.0625,
        short_term=0.1875,
        raise_at=0.5,
        clear_at=0.25,
        alarms=7,
        alarm_raised=True,
        scored_ratio=0.9375,
    )


ALL = ProcessFigures(
    queue_segments=5,
    mqtt_connected=True,
    outbox_messages=2,
    outbox_durable=False,
    nvdec_asked=4,
    nvdec_cameras=3,
    incidents=2,
    incidents_open=1,
    alerts_late=7,
    held_back={"incident": 4, "rate": 0},
    readers=3,
    reader_restarts=1,
    disk_free_bytes={"state": 10**9, "evidence": 10**10},
    disk_size_bytes={"state": 10**10, "evidence": 10**11},
    canary_ok=True,
    canary_passed_wall_s=1.7e9,
    canary_latency_s=1.5,
)


def everything(cameras: list[CameraFigures]) -> Metrics:
    metrics = Metrics(lambda: cameras, lambda: ALL)
    metrics.observe_batch(8, backbone_s=0.2, detectors_s=0.003)
    metrics.observe_scored(0.4)
    metrics.observe_acknowledged(1.5)
    metrics.observe_event_loop_lag(0.002)
    metrics.count_evidence(written=True)
    metrics.count_evidence(written=False)
    metrics.count_reload(applied=True)
    metrics.expect_canary()
    metrics.count_canary("passed")
    metrics.observe_verdict(42.0)
    metrics.set_build("0.1.0", torch="2.14.1")
    metrics.set_artefact(name="default", backbone="effnet_lite0", device="cpu", bag_length=8, stride=2, delay=1)
    return metrics


def samples(metrics: Metrics) -> list[Sample]:
    body, _ = metrics.exposition()
    return [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found = [s.value for s in samples(metrics) if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_scrape_has_every_series_of_the_list_and_no_other() -> None:
    exported = set()
    for sample in samples(everything([camera("gate")])):
        name = sample.name
        for suffix in ("_bucket", "_sum", "_count"):
            if name.removesuffix(suffix) in {row.name for row in SERIES if row.kind == "histogram"}:
                name = name.removesuffix(suffix)
        exported.add((name, tuple(sorted(set(sample.labels) - {"le"}))))
    assert exported == {(row.name, tuple(sorted(row.labels))) for row in SERIES}


def test_names_keep_prometheus_conventions() -> None:
    names = [row.name for row in SERIES]
    assert len(names) == len(set(names))
    for row in SERIES:
        assert row.name.startswith("vad_")
        assert row.name.endswith("_total") == (row.kind == "counter")
        assert row.meaning.endswith(".")
        assert (row.unit.startswith("seconds")) == ("_seconds" in row.name), row.name
        assert bool(row.buckets) == (row.kind == "histogram")
        # Nothing that changes with each start, and nothing that may hold a secret.
        assert not {"pid", "url", "id", "host", "alert_id"} & set(row.labels)


def test_promtool_finds_nothing_to_say_about_a_scrape() -> None:
    promtool = needs_program("promtool", "prometheus")
    body, _ = everything([camera("gate"), camera('press "2" \\ hall\n', most=False)]).exposition()
    told = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")


def test_a_camera_has_at_most_50_series_whatever_reasons_there_are() -> None:
    per_camera = Counter(
        sample.labels["camera"]
        for sample in samples(everything([camera("gate"), camera("press")]))
        if "camera" in sample.labels
    )
    assert per_camera == {"gate": 50, "press": 50}
    assert CAMERA_BUDGET == 50


def test_reasons_beyond_the_budget_are_counted_as_other_and_none_is_ever_renamed() -> None:
    dropped = {"pool_full": 1, "late": 2}
    metrics = Metrics(lambda: [CameraFigures(camera="gate", status=CameraStatus.OK, up=True, segments_dropped=dropped)])

    def told() -> dict[str, float]:
        return {s.labels["reason"]: s.value for s in samples(metrics) if "reason" in s.labels}

    assert told() == {"pool_full": 1, "late": 2}
    dropped |= {f"a{n}": 10 for n in range(7)}
    assert told() == {
        "pool_full": 1,
        "late": 2,
        "a0": 10,
        "a1": 10,
        "a2": 10,
        "a3": 10,
        "a4": 10,
        "other": 20,
    }
    dropped |= {"a": 5}
    assert told()["other"] == 25


def test_figures_are_exported_as_they_are() -> None:
    metrics = everything([camera("gate")])
    assert value(metrics, "vad_camera_frames_decoded_total", camera="gate") == 3200
    assert value(metrics, "vad_camera_last_frame_timestamp_seconds") == 1_700_000_000.25
    assert value(metrics, "vad_camera_score", camera="gate") == 0.125
    assert value(metrics, "vad_camera_raise_threshold", camera="gate") == 0.5
    assert value(metrics, "vad_camera_alarm_raised", camera="gate") == 1
    assert value(metrics, "vad_camera_scored_ratio", camera="gate") == 0.9375
    assert value(metrics, "vad_outbox_messages") == 2
    assert value(metrics, "vad_outbox_durable") == 0
    assert value(metrics, "vad_evidence_failed_total") == 1
    assert value(metrics, "vad_config_reloads_total", result="refused") == 0
    assert value(metrics, "vad_capture_to_acknowledged_seconds_sum") == 1.5
    assert value(metrics, "vad_capture_to_acknowledged_seconds_bucket", le="2.0") == 1
    assert value(metrics, "vad_capture_to_acknowledged_seconds_bucket", le="1.0") == 0
    assert value(metrics, "vad_batch_segments_bucket", le="8.0") == 1
    assert value(metrics, "vad_artefact_info", backbone="effnet_lite0", l="8", stride="2", delay="1") == 1


def test_a_camera_has_exactly_one_status() -> None:
    for status in CameraStatus:
        figures = CameraFigures(camera="gate", status=status, up=False)
        shown = {
            s.labels["status"]: s.value
            for s in samples(Metrics(lambda figures=figures: [figures]))  # type: ignore[misc]
            if s.name == "vad_camera_status"
        }
        assert shown == {other.value: float(other is status) for other in CameraStatus}


def test_what_is_not_known_yet_is_left_out() -> None:
    metrics = Metrics(lambda: [camera("gate", most=False)])
    assert value(metrics, "vad_camera_up", camera="gate") == 0
    assert value(metrics, "vad_camera_alarms_total", camera="gate") == 0
    assert value(metrics, "vad_camera_score", camera="gate") is None
    assert value(metrics, "vad_camera_last_frame_timestamp_seconds") is None
    assert value(metrics, "vad_mqtt_connected") is None


def test_a_removed_camera_vanishes() -> None:
    cameras = [camera("gate"), camera("press")]
    metrics = everything(cameras)
    assert {s.labels["camera"] for s in samples(metrics) if "camera" in s.labels} == {"gate", "press"}
    del cameras[0]
    assert {s.labels["camera"] for s in samples(metrics) if "camera" in s.labels} == {"press"}


def test_any_camera_name_is_escaped() -> None:
    name = 'press "2" \\ Hälle\n'
    assert value(everything([camera(name)]), "vad_camera_up", camera=name) == 1


def test_a_new_artefact_takes_the_place_of_the_old() -> None:
    metrics = everything([])
    metrics.set_artefact(name="mine", backbone="i3d_r50", device="cuda:0", bag_length=32, stride=32, delay=0)
    assert [s.labels["artefact"] for s in samples(metrics) if s.name == "vad_artefact_info"] == ["mine"]


def test_two_monitors_in_one_process_do_not_share_their_series() -> None:
    one, other = everything([camera("gate")]), Metrics()
    assert value(one, "vad_evidence_written_total") == 1
    assert value(other, "vad_evidence_written_total") == 0


def test_a_scrape_of_a_thousand_cameras_takes_less_than_a_second() -> None:
    cameras = [camera(f"camera-{number}") for number in range(1000)]
    metrics = everything(cameras)
    # CPU time of the thread, the best of five: two cores may be shared with anything else.
    took_s = []
    for _ in range(5):
        begun_s = time.thread_time()
        body, _ = metrics.exposition()
        compressed = compress(body)
        took_s.append(time.thread_time() - begun_s)
    assert body.count(b"vad_camera_") > 39_000
    assert len(compressed) < len(body) / 10
    assert min(took_s) < 1.0


def test_the_reference_names_every_series_and_the_command_prints_it() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "monitor.observe.metrics"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == reference() + "\n"
    assert told.stdout.count("\n") == len(SERIES) + 2
    for row in SERIES:
        assert f"| `{row.name}` | {row.kind} |" in told.stdout


def test_the_readme_has_the_reference() -> None:
    readme = Path(ROOT, "README.md")
    if not readme.is_file():
        pytest.skip("there is no README.md here")
    _, _, rest = readme.read_text(encoding="utf-8").partition("<!-- metrics -->\n")
    table, end, _ = rest.partition("\n<!-- /metrics -->")
    assert end, "README.md has no metrics table between <!-- metrics --> and <!-- /metrics -->"
    assert table.strip() == reference(), "run `python -m monitor.observe.metrics` and paste what it prints"
