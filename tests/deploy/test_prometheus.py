"""Rules and routing as shipped: judged by promtool and amtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.observe.series import SERIES
from tests.conftest import ROOT, needs_program
from tests.deploy.promql import named

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ROUTING = DEPLOY / "alertmanager" / "alertmanager.yml"
WANTED = {
    "VadCameraDown",
    "VadCameraStalled",
    "VadCameraDegraded",
    "VadCameraNotScored",
    "VadTooManyAlarms",
    "VadOutboxGrowing",
    "VadBrokerLost",
    "VadScorerSaturated",
}


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules" / file).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = rules("alerts.yml")


def said(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    promtool = needs_program("promtool", "prometheus")
    shutil.copytree(PROMETHEUS, tmp_path / "here")
    (tmp_path / "token").write_text("0123456789abcdef")
    text = (tmp_path / "here" / "prometheus.yml").read_text(encoding="utf-8")
    (tmp_path / "here" / "prometheus.yml").write_text(
        text.replace("/run/secrets/metrics_token", str(tmp_path / "token"))
    )
    said(promtool, "check", "config", tmp_path / "here" / "prometheus.yml")
    said(promtool, "check", "rules", "--lint=all", "--lint-fatal", *(PROMETHEUS / "rules").glob("*.yml"))


def test_the_rules_do_what_their_unit_tests_say() -> None:
    said(needs_program("promtool", "prometheus"), "test", "rules", PROMETHEUS / "tests" / "rules.test.yml")


def test_every_alert_is_shown_to_fire_by_a_unit_test() -> None:
    fires = set()
    for test in yaml.safe_load((PROMETHEUS / "tests" / "rules.test.yml").read_text(encoding="utf-8"))["tests"]:
        for check in test.get("promql_expr_test", ()):
            if check["exp_samples"]:
                fires.add(test["name"])
                fires |= set(re.findall(r'alertname="(\w+)"', check["expr"]))
    assert {rule["alert"] for rule in ALERTS} - fires == set()


def test_there_is_an_alert_for_what_a_plant_must_know() -> None:
    assert {rule["alert"] for rule in ALERTS} >= WANTED


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_it_means_and_the_guide_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert f"`{rule['alert']}`" in (DEPLOY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "rule", [*ALERTS, *rules("recording.yml")], ids=lambda rule: rule.get("alert", rule.get("record"))
)
def test_a_rule_reads_series_of_the_list_only(rule: dict[str, Any]) -> None:
    known = {row.name for row in SERIES} | {one["record"] for one in rules("recording.yml")} | {"up"}
    known |= {f"{row.name}_{part}" for row in SERIES if row.kind == "histogram" for part in ("bucket", "sum", "count")}
    assert set(named(rule["expr"]).series) - known == set()


def test_amtool_accepts_the_routing_and_critical_alerts_go_to_the_guard() -> None:
    amtool = needs_program("amtool", "prometheus-alertmanager")
    said(amtool, "check-config", ROUTING)
    route = (amtool, "config", "routes", "test", f"--config.file={ROUTING}")
    assert said(*route, "severity=critical", "alertname=VadCameraDown").strip() == "guard"
    assert said(*route, "severity=warning", "alertname=VadScoresLate").strip() == "desk"


def test_every_alert_that_the_routing_names_exists() -> None:
    there = {rule["alert"] for rule in ALERTS}
    for inhibit in yaml.safe_load(ROUTING.read_text(encoding="utf-8"))["inhibit_rules"]:
        for matcher in inhibit["source_matchers"] + inhibit["target_matchers"]:
            name, operator, value = re.fullmatch(r'(\w+)(=~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
            assert name == "alertname"
            assert [one for one in there if re.fullmatch(value, one)], (operator, value)
