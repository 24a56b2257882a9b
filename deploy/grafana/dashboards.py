"""Writes the dashboards beside this file: python deploy/grafana/dashboards.py

Plain dicts in the shape of Grafana's dashboard JSON (10.1 and later). Every panel says what it shows, in which unit,
and what it means when there is nothing to show.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FOLDER = Path(__file__).parent / "dashboards"
SCHEMA = 38
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
AT_SITE = 'site=~"$site"'
AT_CAMERA = 'site=~"$site",camera=~"$camera"'
STATUS_COLOURS = {
    "ok": "green",
    "learning": "light-blue",
    "connecting": "blue",
    "degraded": "orange",
    "lost": "red",
    "disarmed": "text",
    "disabled": "semi-dark-purple",
}
OK_OR_RED = [{"color": "green", "value": None}, {"color": "red", "value": 1}]
RED_UNLESS_ONE = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
CONSOLE = {
    "type": "textbox", "name": "console", "label": "Console", "query": "http://127.0.0.1:9108",
    "current": {"text": "http://127.0.0.1:9108", "value": "http://127.0.0.1:9108"},
}  # fmt: skip
"""Where the operators' console is, as the browser of whoever looks at Grafana reaches it."""
PLAIN = [{"color": "text", "value": None}]


def query(expr: str, legend: str = "", *, table: bool = False, instant: bool = False) -> Json:
    asked: Json = {"datasource": DATASOURCE, "expr": expr, "legendFormat": legend or "__auto"}
    now = table or instant
    return asked | {"instant": now, "range": not now, "format": "table" if table else "time_series"}


def panel(
    kind: str,
    title: str,
    description: str,
    *queries: Json,
    unit: str,
    empty: str,
    width: int = 12,
    height: int = 8,
    defaults: Json | None = None,
    overrides: Sequence[Json] = (),
    options: Json | None = None,
    transformations: Sequence[Json] = (),
) -> Json:
    """One panel without its place; ``empty`` is what is read where the query answers nothing."""
    for letter, asked in zip("ABCDEFGH", queries, strict=False):
        asked["refId"] = letter
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": list(queries),
        "gridPos": {"w": width, "h": height, "x": 0, "y": 0},
        "fieldConfig": {
            "defaults": {"unit": unit, "noValue": empty, "thresholds": {"mode": "absolute", "steps": PLAIN}}
            | (defaults or {}),
            "overrides": list(overrides),
        },
        "options": options or {},
        "transformations": list(transformations),
    }


def stat(title: str, description: str, expr: str, *, unit: str, empty: str, steps: Sequence[Json] = PLAIN) -> Json:
    return panel(
        "stat", title, description, query(expr, title, instant=True), unit=unit, empty=empty, width=4, height=4,
        defaults={"thresholds": {"mode": "absolute", "steps": list(steps)}},
        options={"colorMode": "background", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}},
    )  # fmt: skip


def lines(
    title: str,
    description: str,
    *queries: Json,
    unit: str,
    empty: str,
    stacked: bool = False,
    width: int = 12,
    **defaults: Any,
) -> Json:
    custom: Json = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 60 if stacked else 8, "showPoints": "never"}
    custom["spanNulls"] = False
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return panel(
        "timeseries", title, description, *queries, unit=unit, empty=empty, width=width,
        defaults={"custom": custom, "min": 0} | defaults,
        options={"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                 "tooltip": {"mode": "multi", "sort": "desc"}},
    )  # fmt: skip


def table(
    title: str, description: str, expr: str, *, empty: str, hide: Sequence[str], unit: str = "short",
    width: int = 12, height: int = 8, value: str | None = None, links: bool = False,
) -> Json:  # fmt: skip
    """The labels of the query's series, one row each; ``value`` names the column of its numbers, if it has one."""
    hidden = {"Time", "__name__", "job", *hide} | (set() if value else {"Value"})
    overrides: list[Json] = []
    if links:
        shown = {
            "title": "this camera",
            "url": "/d/vad-camera?var-site=${__data.fields.site}&var-camera=${__data.fields.camera}",
        }
        operated = {
            "title": "this camera in the operators' console",
            "url": "${console}/#/camera/${__data.fields.camera:percentencode}",
            "targetBlank": True,
        }
        overrides.append(
            {
                "matcher": {"id": "byName", "options": "camera"},
                "properties": [{"id": "links", "value": [shown, operated]}],
            }
        )
    return panel(
        "table", title, description, query(expr, table=True), unit=unit, empty=empty, width=width, height=height,
        overrides=overrides, options={"showHeader": True},
        transformations=[{"id": "organize", "options": {
            "excludeByName": dict.fromkeys(sorted(hidden), True), "indexByName": {},
            "renameByName": {"Value": value} if value else {},
        }}],
    )  # fmt: skip


def states(title: str, description: str, asked: Json, mappings: dict[str, tuple[str, str]], *, empty: str) -> Json:
    options = {value: {"text": text, "color": colour} for value, (text, colour) in mappings.items()}
    return panel(
        "state-timeline", title, description, asked, unit="none", empty=empty, width=24, height=6,
        defaults={"mappings": [{"type": "value", "options": options}], "custom": {"fillOpacity": 80, "lineWidth": 0}},
        options={"mergeValues": True, "showValue": "never", "legend": {"showLegend": True, "displayMode": "list",
                                                                       "placement": "bottom"}},
    )  # fmt: skip


def quantiles(title: str, description: str, name: str, *, empty: str, window: str = "$__rate_interval") -> Json:
    per_bucket = f"sum by (instance, le) (rate({name}_bucket{{{AT_SITE}}}[{window}]))"
    return lines(
        title,
        description,
        *(query(f"histogram_quantile({q / 100}, {per_bucket})", f"p{q} {{{{instance}}}}") for q in (50, 95, 99)),
        unit="s",
        empty=empty,
    )


def variable(name: str, label: str, asked: str) -> Json:
    return {
        "type": "query", "name": name, "label": label, "datasource": DATASOURCE,
        "query": {"query": asked, "refId": name}, "refresh": 2, "sort": 7, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def annotation(name: str, expr: str, colour: str, title: str, text: str) -> Json:
    return {
        "name": name, "datasource": DATASOURCE, "enable": True, "hide": False, "iconColor": colour, "expr": expr,
        "step": "15s", "titleFormat": title, "textFormat": text,
    }  # fmt: skip


def dashboard(uid: str, title: str, description: str, panels: Sequence[Json], *, one_camera: bool = False) -> Json:
    x = y = tallest = 0
    for number, one in enumerate(panels, start=1):
        place = one["gridPos"]
        if x + place["w"] > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        one["id"], place["x"], place["y"] = number, x, y
        x, tallest = x + place["w"], max(tallest, place["h"])
    camera = variable("camera", "Camera", f"label_values(vad_camera_up{{{AT_SITE}}}, camera)")
    if one_camera:
        camera |= {"multi": False, "includeAll": False, "allValue": None, "current": {}}
    source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
              "refresh": 1, "current": {}}  # fmt: skip
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["vad-monitor"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "15s",
        "timezone": "browser",
        "time": {"from": "now-3h", "to": "now"},
        "links": [{
            "type": "dashboards", "title": "vad-monitor", "tags": ["vad-monitor"], "asDropdown": False,
            "includeVars": True, "keepTime": True, "targetBlank": False, "icon": "", "tooltip": "", "url": "",
        }, {
            "type": "link", "title": "Operators' console", "url": "${console}/", "tags": [], "asDropdown": False,
            "includeVars": False, "keepTime": False, "targetBlank": True, "icon": "external link",
            "tooltip": "The address is the variable Console.",
        }],
        "annotations": {"list": [
            annotation("Alarms", f"vad_camera_alarm_raised{{{AT_CAMERA}}} == 1", "red", "Alarm", "{{camera}}"),
            annotation("Monitor started",
                       f"changes(vad_process_start_time_seconds{{{AT_SITE}}}[1m]) > 0", "blue", "Monitor started",
                       "{{instance}}"),
        ]},
        "templating": {"list": [
            source, variable("site", "Site", "label_values(vad_camera_up, site)"), camera, CONSOLE,
        ]},
        "panels": list(panels),
    }  # fmt: skip


def status_count(status: str, bad: bool, says: str) -> Json:
    steps = OK_OR_RED if bad else PLAIN
    expr = f'sum(vad_camera_status{{{AT_CAMERA},status="{status}"}})'
    return stat(status.capitalize(), says, expr, unit="none", empty="no monitor answers", steps=steps)


def plant() -> Json:
    by_status = lines(
        "Cameras by status", "How many cameras had which status. Only ok means that silence is calm.",
        query(f"sum by (status) (vad_camera_status{{{AT_CAMERA}}})", "{{status}}"),
        unit="none", empty="no monitor answers", stacked=True,
    )  # fmt: skip
    by_status["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": status},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for status, colour in STATUS_COLOURS.items()
    ]
    return dashboard("vad-plant", "vad-monitor: plant", "All cameras of a site at a glance.", [
        status_count("ok", False, "Cameras that are watched and scored."),
        status_count("degraded", True, "Cameras of which not all that happens is scored."),
        status_count("lost", True, "Cameras without a stream."),
        stat("Alarms now", "Cameras whose alarm is raised at this moment.",
             f"sum(vad_camera_alarm_raised{{{AT_CAMERA}}})", unit="none", empty="no monitor answers", steps=OK_OR_RED),
        stat("All monitors answer", "Whether the last scrape of every monitor succeeded.",
             f'min(up{{job="vad-monitor",{AT_SITE}}})', unit="bool_yes_no", empty="no monitor is scraped",
             steps=RED_UNLESS_ONE),
        stat("MQTT broker", "Whether all monitors are connected to their brokers.",
             f"min(vad_mqtt_connected{{{AT_SITE}}})", unit="bool_yes_no", empty="no monitor answers",
             steps=RED_UNLESS_ONE),
        stat("Watch on itself", "Whether the last test clip went through decoding, features, scores and broker.",
             f"min(vad_canary_ok{{{AT_SITE}}})", unit="bool_yes_no", empty="no canary", steps=RED_UNLESS_ONE),
        table("Cameras", "Every camera and its status now; the name leads to its own page.",
              f"vad_camera_status{{{AT_CAMERA}}} == 1", empty="no camera is known: is a monitor scraped?",
              hide=["instance"], height=12, links=True),
        panel("bargauge", "Highest scores now", "The twenty highest scores of this moment (eq. 3).",
              query(f"topk(20, vad_camera_score{{{AT_CAMERA}}})", "{{camera}}", instant=True),
              unit="percentunit", empty="nothing has been scored yet", height=12,
              defaults={"min": 0, "max": 1, "decimals": 2},
              options={"orientation": "horizontal", "displayMode": "basic",
                       "reduceOptions": {"calcs": ["lastNotNull"]}}),
        by_status,
        lines("Segments made and lost", "Segments a second of all cameras; lost: dropped, or not fit to be scored.",
              query(f"sum(rate(vad_camera_segments_total{{{AT_CAMERA}}}[$__rate_interval]))", "made"),
              query(f"sum(rate(vad_camera_segments_scored_total{{{AT_CAMERA}}}[$__rate_interval]))", "scored"),
              query(f"sum(instance:vad_segments_lost:rate5m{{{AT_SITE}}})", "lost (all of the site)"),
              unit="cps", empty="no segments are made"),
        table("Alarms of the last 24 hours", "Alarms raised by camera; a long list at the top wants new thresholds.",
              f"sort_desc(round(increase(vad_camera_alarms_total{{{AT_CAMERA}}}[24h])) > 0)",
              empty="no alarm in 24 hours", hide=["instance"], value="alarms", links=True),
        table("Scored least", "Cameras of which less than 95 % of the segments of five minutes were scored.",
              f"sort(camera:vad_segments_scored:ratio5m{{{AT_CAMERA}}} < 0.95)", unit="percentunit",
              empty="all that is seen is scored", hide=["instance"], value="scored", links=True),
    ])  # fmt: skip


def camera() -> Json:
    rate = f"{{{AT_CAMERA}}}[$__rate_interval]"
    now = panel(
        "stat", "Status", "What the camera's silence means; its status topic in MQTT says why.",
        query(f"vad_camera_status{{{AT_CAMERA}}} == 1", "{{status}}", instant=True),
        unit="none", empty="unknown camera", width=4, height=4,
        options={"textMode": "name", "colorMode": "value", "graphMode": "none",
                 "reduceOptions": {"calcs": ["lastNotNull"]}},
    )  # fmt: skip
    return dashboard("vad-camera", "vad-monitor: camera", "One camera: what it shows, how it is scored.", [
        now,
        stat("Alarm", "Whether its alarm is raised now.", f"max(vad_camera_alarm_raised{{{AT_CAMERA}}})",
             unit="bool_yes_no", empty="unknown camera", steps=OK_OR_RED),
        stat("Last frame", "How long ago the last frame arrived.",
             f"time() - max(vad_camera_last_frame_timestamp_seconds{{{AT_CAMERA}}})", unit="s",
             empty="no frame yet", steps=[{"color": "green", "value": None}, {"color": "red", "value": 60}]),
        stat("Scored", "The part of its time since the start that a published score covers.",
             f"min(vad_camera_scored_ratio{{{AT_CAMERA}}})", unit="percentunit", empty="not scored yet",
             steps=[{"color": "red", "value": None}, {"color": "green", "value": 0.95}]),
        stat("Alarms in 24 hours", "How often its alarm was raised.",
             f"sum(round(increase(vad_camera_alarms_total{{{AT_CAMERA}}}[24h])))", unit="none",
             empty="unknown camera"),
        stat("Evidence held", "Length of encoded stream kept in memory for clips.",
             f"min(vad_camera_evidence_held_seconds{{{AT_CAMERA}}})", unit="s", empty="no stream yet"),
        lines("Score", "The ensemble's score and both detectors' parts (eq. 3); the alarm's thresholds.",
              query(f"vad_camera_score{{{AT_CAMERA}}}", "score"),
              query(f"vad_camera_long_term_score{{{AT_CAMERA}}}", "long term"),
              query(f"vad_camera_short_term_score{{{AT_CAMERA}}}", "short term"),
              query(f"vad_camera_raise_threshold{{{AT_CAMERA}}}", "raise at"),
              query(f"vad_camera_clear_threshold{{{AT_CAMERA}}}", "clear at"),
              unit="percentunit", empty="not scored yet", width=24, max=1),
        states("Alarm over time", "When the alarm was raised.",
               query(f"vad_camera_alarm_raised{{{AT_CAMERA}}}", "{{camera}}"),
               {"0": ("calm", "green"), "1": ("raised", "red")}, empty="unknown camera"),
        states("Stream over time", "When the stream delivered frames.",
               query(f"vad_camera_up{{{AT_CAMERA}}}", "{{camera}}"),
               {"0": ("no stream", "red"), "1": ("frames come", "green")}, empty="unknown camera"),
        states("Picture over time", "When the picture was black, covered, blurred, moved, frozen or smeared.",
               query(f"vad_camera_picture_fault{{{AT_CAMERA}}}", "{{kind}}"),
               {"0": ("well", "green"), "1": ("faulty", "orange")}, empty="unknown camera"),
        lines("Lag", "How much later frames come than at best since the stream was opened.",
              query(f"vad_camera_lag_seconds{{{AT_CAMERA}}}", "{{camera}}"), unit="s", empty="no stream yet"),
        lines("Frames decoded", "Frames decoded each second.", query(f"rate(vad_camera_frames_decoded_total{rate})",
                                                                     "{{camera}}"), unit="fps", empty="no stream yet"),
        lines("Segments", "Made by the reader, scored, and scored across a gap (bridged).",
              query(f"rate(vad_camera_segments_total{rate})", "made"),
              query(f"rate(vad_camera_segments_scored_total{rate})", "scored"),
              query(f"rate(vad_camera_segments_bridged_total{rate})", "bridged"),
              unit="cps", empty="no segments are made"),
        lines("Segments not scored", "Dropped before they were scored, or their pictures not real; by reason.",
              query(f"rate(vad_camera_segments_dropped_total{rate})", "dropped: {{reason}}"),
              query(f"rate(vad_camera_segments_invalid_total{rate})", "invalid: {{reason}}"),
              unit="cps", empty="none was ever lost"),
        lines("Faults of the stream", "Packets and frames that could not be decoded, stalls, reconnects, an hour.",
              query(f"increase(vad_camera_decode_errors_total{{{AT_CAMERA}}}[1h])", "decode errors"),
              query(f"increase(vad_camera_stalls_total{{{AT_CAMERA}}}[1h])", "stalls"),
              query(f"increase(vad_camera_reconnects_total{{{AT_CAMERA}}}[1h])", "reconnects"),
              unit="none", empty="unknown camera"),
    ], one_camera=True)  # fmt: skip


def pipeline() -> Json:
    rate = f"{{{AT_SITE}}}[$__rate_interval]"
    return dashboard("vad-pipeline", "vad-monitor: pipeline", "From capture to broker, and the monitor's process.", [
        lines("Scorer busy", "The part of its time that the scorer computes, on the GPU or the CPU; near 100 % "
              "segments are dropped. The GPU's own load is not measured by the monitor.",
              query(f"instance:vad_scorer_busy:ratio5m{{{AT_SITE}}}", "{{instance}}"),
              unit="percentunit", empty="nothing is scored", max=1),
        lines("Segments that wait", "Segments in shared memory that wait for the scorer.",
              query(f"vad_queue_segments{{{AT_SITE}}}", "{{instance}}"), unit="none", empty="no monitor answers"),
        quantiles("Capture to score", "From the arrival of a bag's last packet to the bag's score.",
                  "vad_capture_to_score_seconds", empty="nothing is scored"),
        quantiles("Capture to acknowledgement", "From the packet that caused an alert to the broker's "
                  "acknowledgement; over half an hour, for alerts are few.", "vad_capture_to_acknowledged_seconds",
                  empty="no alert in half an hour", window="30m"),
        quantiles("Backbone", "Time of the backbone for one batch.", "vad_backbone_seconds", empty="nothing is scored"),
        quantiles("Detectors", "Time of the detectors for the bags of one batch.", "vad_detectors_seconds",
                  empty="nothing is scored"),
        lines("Segments in a batch", "How many segments were encoded together, on average.",
              query(f"rate(vad_batch_segments_sum{rate}) / rate(vad_batch_segments_count{rate})", "{{instance}}"),
              unit="none", empty="nothing is scored"),
        lines("Canary", "How long the last test clip took from decoding to the broker's acknowledgement.",
              query(f"vad_canary_latency_seconds{{{AT_SITE}}}", "{{instance}}"), unit="s", empty="none passed yet"),
        quantiles("Event loop lag", "How late the event loop woke a task that slept.", "vad_event_loop_lag_seconds",
                  empty="no monitor answers"),
        lines("Disk left", "The part of the disk that is free, of the folders state and evidence.",
              query(f"vad_disk_free_bytes{{{AT_SITE}}} / vad_disk_size_bytes{{{AT_SITE}}}", "{{folder}} {{instance}}"),
              unit="percentunit", empty="no monitor answers", max=1),
        lines("Processor", "Cores that the monitor's main process uses; readers are processes of their own.",
              query(f"rate(vad_process_cpu_seconds_total{rate})", "{{instance}}"), unit="none",
              empty="no monitor answers"),
        lines("Memory", "Resident memory of the monitor's main process.",
              query(f"vad_process_resident_memory_bytes{{{AT_SITE}}}", "{{instance}}"), unit="bytes",
              empty="no monitor answers"),
        lines("Reader processes", "Reader processes that run, and restarts in an hour.",
              query(f"vad_readers{{{AT_SITE}}}", "running {{instance}}"),
              query(f"increase(vad_reader_restarts_total{{{AT_SITE}}}[1h])", "restarts {{instance}}"),
              unit="none", empty="no monitor answers"),
        lines("File descriptors", "Open ones, as a part of those the process may open.",
              query(f"vad_process_open_fds{{{AT_SITE}}} / vad_process_max_fds{{{AT_SITE}}}", "{{instance}}"),
              unit="percentunit", empty="no monitor answers", max=1),
        table("What scores", "Artefact, backbone, device and bags of each monitor.",
              f"vad_artefact_info{{{AT_SITE}}}", empty="no monitor answers", hide=[]),
        table("Versions", "What each monitor runs on.", f"vad_build_info{{{AT_SITE}}}", empty="no monitor answers",
              hide=[]),
    ])  # fmt: skip


def alerts() -> Json:
    return dashboard("vad-alerts", "vad-monitor: alerts", "What people were told, and whether it arrived.", [
        stat("Alarms now", "Cameras whose alarm is raised at this moment.",
             f"sum(vad_camera_alarm_raised{{{AT_CAMERA}}})", unit="none", empty="no monitor answers", steps=OK_OR_RED),
        stat("Alarms in 24 hours", "Alarms raised, all cameras.",
             f"sum(round(increase(vad_camera_alarms_total{{{AT_CAMERA}}}[24h])))", unit="none",
             empty="no monitor answers"),
        stat("In the outbox", "Alerts the broker has not acknowledged yet.",
             f"sum(vad_outbox_messages{{{AT_SITE}}})", unit="none", empty="no monitor answers", steps=OK_OR_RED),
        stat("Kept on disk", "Whether alerts are committed to disk before anyone sees them.",
             f"min(vad_outbox_durable{{{AT_SITE}}})", unit="bool_yes_no", empty="no monitor answers",
             steps=RED_UNLESS_ONE),
        stat("Evidence in 24 hours", "Alerts whose clip and snapshot were written whole.",
             f"sum(round(increase(vad_evidence_written_total{{{AT_SITE}}}[24h])))", unit="none",
             empty="no monitor answers"),
        stat("Evidence missing", "Alerts of 24 hours whose evidence is missing or incomplete.",
             f"sum(round(increase(vad_evidence_failed_total{{{AT_SITE}}}[24h])))", unit="none",
             empty="no monitor answers", steps=OK_OR_RED),
        table("Alarms raised now", "Cameras that call for a look.",
              f"vad_camera_alarm_raised{{{AT_CAMERA}}} == 1", empty="all is calm, or nothing is watched: see the plant",
              hide=["instance"], links=True),
        table("Faults that Prometheus reports", "Alerts of the rules about the monitor itself, pending and firing.",
              'ALERTS{alertname=~"Vad.+"}', empty="no fault", hide=["instance"]),
        states("Alarms over time", "When which camera's alarm was raised.",
               query(f"vad_camera_alarm_raised{{{AT_CAMERA}}}", "{{camera}}"),
               {"0": ("calm", "transparent"), "1": ("raised", "red")}, empty="no monitor answers"),
        lines("Alarms an hour", "Alarms raised in the hour before, by camera.",
              query(f"increase(vad_camera_alarms_total{{{AT_CAMERA}}}[1h]) > 0", "{{camera}}"),
              unit="none", empty="no alarm"),
        stat("Judged false", "The part of the verdicts of seven days that said false; many call for other thresholds.",
             f'sum(increase(vad_camera_verdicts_total{{{AT_CAMERA},verdict="false"}}[7d]))'
             f" / sum(increase(vad_camera_verdicts_total{{{AT_CAMERA}}}[7d]))", unit="percentunit",
             empty="nothing judged"),
        stat("Time to verdict", "From an alert to the first verdict on it, on average over seven days.",
             f"sum(increase(vad_verdict_seconds_sum{{{AT_SITE}}}[7d]))"
             f" / sum(increase(vad_verdict_seconds_count{{{AT_SITE}}}[7d]))", unit="s", empty="nothing judged"),
        lines("Verdicts", "What operators said of alerts, by day.",
              query(f"sum by (verdict) (increase(vad_camera_verdicts_total{{{AT_CAMERA}}}[1d]))", "{{verdict}}"),
              unit="none", empty="no monitor answers"),
        stat("Incidents now", "Storms of alarms, grouped, that are still open.",
             f"sum(vad_incidents_open{{{AT_SITE}}})", unit="none", empty="no monitor answers", steps=OK_OR_RED),
        lines("Late and held back", "Messages told late, and updates not sent so that nobody is buried, an hour.",
              query(f"sum(increase(vad_alerts_late_total{{{AT_SITE}}}[1h]))", "late"),
              query(f"sum by (cause) (increase(vad_updates_held_back_total{{{AT_SITE}}}[1h]))", "held: {{cause}}"),
              unit="none", empty="no monitor answers"),
        lines("Outbox", "Alerts that wait for the broker.",
              query(f"vad_outbox_messages{{{AT_SITE}}}", "{{instance}}"), unit="none", empty="no monitor answers"),
        states("Connection to the broker", "When the MQTT broker was connected.",
               query(f"vad_mqtt_connected{{{AT_SITE}}}", "{{instance}}"),
               {"0": ("no broker", "red"), "1": ("connected", "green")}, empty="no monitor answers"),
    ])  # fmt: skip


def written() -> dict[str, str]:
    """File name → its text."""
    boards = {"plant": plant(), "camera": camera(), "pipeline": pipeline(), "alerts": alerts()}
    return {f"{name}.json": json.dumps(board, indent=1) + "\n" for name, board in boards.items()}


if __name__ == "__main__":
    for name, text in written().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
