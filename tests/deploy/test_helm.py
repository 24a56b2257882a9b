"""The chart, rendered by Helm's own library, its objects held against Kubernetes' schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.config import Shard, load
from tests.conftest import ROOT
from tests.deploy.tools import needs_module

CHART = ROOT / "deploy" / "helm" / "vad-monitor"
KUBERNETES = ["1.28", "1.32", "1.37"]
EVERYTHING = {
    "shards": 3,
    "gpu": {"enabled": True, "count": 1},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True},
    "persistence": {"storageClassName": "fast"},
    "podAnnotations": {"a": "b"},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"gpu": "yes"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
}
VALUES = {"as shipped": {}, "everything": EVERYTHING, "no secret": {"existingSecret": "", "plant": {"mqtt": "off"}}}
Render = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def render() -> Render:
    helm = needs_module("helm_python")

    def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
        with helm.Chart.load(CHART) as chart:
            texts = chart.render(values, name="works", namespace="plant")
        return [
            one for name, text in texts.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text) if one
        ]

    return rendered


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (one for one in objects if one["kind"] == kind)
    return found


def monitor_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (container,) = only(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def plant_file(objects: list[dict[str, Any]], folder: Path) -> Path:
    """plant.yaml of the ConfigMap, its secrets' folder being one that is here."""
    for name in ("mqtt_password", "metrics_token"):
        (folder / name).write_text("s3cret-of-the-plant\n")
    (config,) = (one for one in objects if one["kind"] == "ConfigMap" and "plant.yaml" in one["data"])
    file = folder / "plant.yaml"
    file.write_text(config["data"]["plant.yaml"].replace("/run/secrets/vad-monitor", str(folder)))
    return file


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_lint_finds_nothing(values: dict[str, Any]) -> None:
    report = needs_module("helm_python.chart").lint(CHART, values, strict=True)
    assert report["errors"] == []
    # "icon is recommended": a picture from elsewhere, which we have not.
    assert [one for one in report["messages"] if "icon" not in one["error"]] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_fits_kubernetes_schema(render: Render, values: dict[str, Any], version: str) -> None:
    validate = needs_module("kubernetes_validate")
    checked = []
    for one in render(values):
        if one["apiVersion"].startswith("monitoring.coreos.com/"):
            continue  # the operator's own; no schema of it is at hand
        validate.validate(one, version, strict=True)
        checked.append(one["kind"])
    assert {"StatefulSet", "Service", "ConfigMap", "ServiceAccount", "PodDisruptionBudget"} <= set(checked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shards": 0},
        {"site": "a/b"},
        {"shard": 2},
        {"plant": {"cameras": []}},
        {"plant": {"site": "x"}},
        {"gpu": {"count": "one"}},
    ],
    ids=str,
)
def test_values_that_cannot_be_meant_are_refused(render: Render, wrong: dict[str, Any]) -> None:
    with pytest.raises(needs_module("helm_python.errors").HelmError):
        render(wrong)


def test_one_monitor_speaks_for_the_site_itself(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARD", "0")
    objects = render({})
    assert not [argument for argument in monitor_of(objects)["args"] if "shard" in argument]
    plant = load(plant_file(objects, tmp_path))
    assert (plant.site, plant.mqtt.client_id, plant.http.host) == ("hall-3", "works-vad-monitor-0", "0.0.0.0")


def test_without_a_secret_metrics_stay_inside_the_pod(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARD", "0")
    plant = load(plant_file(render(VALUES["no secret"]), tmp_path))
    assert (plant.http.metrics.host, plant.http.metrics.token) == ("127.0.0.1", None)
    with pytest.raises(needs_module("helm_python.errors").HelmError, match="metrics_token"):
        render({"existingSecret": "", "podMonitor": {"enabled": True}})


def test_three_monitors_have_topics_clients_and_metrics_of_their_own(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARD", "2")
    objects = render(EVERYTHING)
    arguments = monitor_of(objects)["args"]
    (shard,) = (one.partition("=")[2] for one in arguments if one.startswith("--shard"))
    assert Shard.parse(shard.replace("$(SHARD)", "2")) == Shard(index=2, count=3)
    assert only(objects, "StatefulSet")["spec"]["replicas"] == 3
    plant = load(plant_file(objects, tmp_path))
    assert (plant.site, plant.mqtt.client_id) == ("hall-3-2", "works-vad-monitor-2")
    (endpoint,) = only(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "vad-monitor", "key": "metrics_token"}}
    assert plant.http.metrics.token is not None
    labels = {one["targetLabel"]: one.get("replacement") for one in endpoint["relabelings"]}
    assert labels == {"job": "vad-monitor", "site": "hall-3-$1", "instance": None}


def test_the_probes_ask_what_the_monitor_answers_and_the_gpu_is_a_limit(render: Render) -> None:
    container = monitor_of(render(EVERYTHING))
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/readyz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1, "memory": "8Gi"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_chart_brings_the_same_rules_and_dashboards_as_everything_else(render: Render) -> None:
    objects = render(EVERYTHING)
    shipped = [
        yaml.safe_load(file.read_text()) for file in sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*"))
    ]
    rules = [one["spec"] for one in objects if one["kind"] == "PrometheusRule"]
    assert sorted(rules, key=str) == sorted(shipped, key=str)
    boards = {
        name: json.loads(text)
        for one in objects
        if one["kind"] == "ConfigMap"
        for name, text in one["data"].items()
        if name.endswith(".json")
    }
    folder = ROOT / "deploy" / "grafana" / "dashboards"
    assert boards == {file.name: json.loads(file.read_text()) for file in folder.glob("*.json")}
