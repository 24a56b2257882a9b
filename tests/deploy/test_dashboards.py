"""The shipped dashboards: whole, and in a shape that Grafana knows."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy.tools import needs_module

GRAFANA = ROOT / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
BOARDS = [json.loads(file.read_text(encoding="utf-8")) for file in FILES]
UIDS = [board["uid"] for board in BOARDS]
OF_PROMETHEUS = {"step", "titleFormat", "textFormat"}
"""An annotation has these by its data source; the schema of dashboards does not list them."""


def test_they_are_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("dashboards", GRAFANA / "dashboards.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.written() == {file.name: file.read_text(encoding="utf-8") for file in FILES}, (
        "run python deploy/grafana/dashboards.py"
    )


def test_plant_camera_pipeline_and_alerts_have_one_each() -> None:
    assert UIDS == ["vad-alerts", "vad-camera", "vad-pipeline", "vad-plant"]


@pytest.mark.parametrize("board", BOARDS, ids=UIDS)
def test_every_panel_has_a_title_a_description_a_unit_and_words_for_nothing(board: dict[str, Any]) -> None:
    for panel in board["panels"]:
        defaults = panel["fieldConfig"]["defaults"]
        assert all((panel["title"], panel["description"].endswith("."), defaults["unit"], defaults["noValue"])), panel
        assert panel["targets"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "site", "camera", "console"]
    assert [one["name"] for one in board["annotations"]["list"]] == ["Alarms", "Monitor started"]


@pytest.mark.parametrize("board", BOARDS, ids=UIDS)
def test_no_panel_covers_another(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in board["panels"]):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells


def test_every_link_leads_to_a_shipped_dashboard_or_to_a_page_of_the_console() -> None:
    for address in (value for board in BOARDS for key, value in leaves(board) if key == "url" and value):
        if address.startswith("${console}/"):
            assert address.removeprefix("${console}/") in ("", "#/camera/${__data.fields.camera:percentencode}")
        else:
            assert address.startswith("/d/") and address[3:].partition("?")[0] in UIDS


@pytest.mark.parametrize("board", BOARDS, ids=UIDS)
def test_grafanas_own_schema_knows_every_key(board: dict[str, Any]) -> None:
    """Grafana's foundation SDK is generated from its schemas: what it reads and writes again, it knows."""
    sdk = needs_module("grafana_foundation_sdk.models.dashboard")
    encoder = needs_module("grafana_foundation_sdk.cog.encoder")
    back = json.loads(encoder.JSONEncoder().encode(sdk.Dashboard.from_json(board)))
    assert {path for path in unknown(board, back, "") if path.rpartition("/")[2] not in OF_PROMETHEUS} == set()


def test_provisioning_finds_the_dashboards_where_compose_and_chart_put_them() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "${PROMETHEUS_URL}", True)
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "vad-monitor.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def leaves(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from leaves(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value, key)
    elif isinstance(tree, str):
        yield key, tree


def unknown(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    """Paths of ours that are gone or changed in theirs; what is empty may be left out."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from unknown(value, theirs[key], f"{path}/{key}")
            elif value not in (None, {}, [], False, ""):
                yield f"{path}/{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from unknown(one, other, f"{path}/{number}")
    elif ours != theirs:
        yield path


def test_what_the_schema_does_not_know_is_found() -> None:
    assert list(unknown({"a": [{"b": 1, "c": {}}]}, {"a": [{}]}, "")) == ["/a/0/b"]
