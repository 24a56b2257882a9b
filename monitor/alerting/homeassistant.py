"""Home Assistant's MQTT discovery, the device form (Home Assistant 2024.11 and later): one retained message
a camera at ``homeassistant/device/<id>/config`` makes a device with an alarm, a score and a status."""

from __future__ import annotations

import hashlib
import re

from monitor.alerting.contract import Payload, Topics
from monitor.flow import CameraStatus


def discovery(topics: Topics, camera: str, version: str, prefix: str = "homeassistant") -> tuple[str, Payload]:
    """Topic and payload; published retained, and emptied when the camera is gone."""
    alarm, score, status = (topics.camera(camera, what) for what in ("alarm", "score", "status"))
    device = _device_id(topics.site, camera)
    payload: Payload = {
        "device": {
            "identifiers": [device],
            "name": f"{topics.site} {camera}",
            "manufacturer": "vad-monitor",
            "model": "watched camera",
            "sw_version": version,
        },
        "origin": {"name": "vad-monitor", "sw_version": version},
        "availability": _availability(topics),
        "components": {
            "alarm": {
                "platform": "binary_sensor",
                "unique_id": f"{device}_alarm",
                "name": "Alarm",
                "device_class": "safety",  # on means unsafe
                "state_topic": alarm,
                "value_template": "{{ value_json.state }}",
                "payload_on": "raised",
                "payload_off": "calm",
                "json_attributes_topic": alarm,
            },
            "score": {
                "platform": "sensor",
                "unique_id": f"{device}_score",
                "name": "Anomaly score",
                "state_class": "measurement",
                "suggested_display_precision": 2,
                "state_topic": score,
                "value_template": "{{ value_json.score }}",
                # A camera that is lost has no score; an old number must not look like calm.
                "expire_after": 120,
            },
            "status": {
                "platform": "sensor",
                "unique_id": f"{device}_status",
                "name": "Status",
                "device_class": "enum",
                "options": [state.value for state in CameraStatus],
                "entity_category": "diagnostic",
                "state_topic": status,
                "value_template": "{{ value_json.status }}",
                "json_attributes_topic": status,
            },
        },
        "qos": 1,
    }
    return f"{prefix}/device/{device}/config", payload


def site_discovery(topics: Topics, version: str, prefix: str = "homeassistant") -> tuple[str, Payload]:
    """Of the site as a whole: whether an incident of many cameras is open."""
    device = _device_id(topics.site, "")
    payload: Payload = {
        "device": {
            "identifiers": [device],
            "name": topics.site,
            "manufacturer": "vad-monitor",
            "model": "watched site",
            "sw_version": version,
        },
        "origin": {"name": "vad-monitor", "sw_version": version},
        "availability": _availability(topics),
        "components": {
            "incident": {
                "platform": "binary_sensor",
                "unique_id": f"{device}_incident",
                "name": "Incident of many cameras",
                "device_class": "safety",
                "state_topic": topics.incident,
                "value_template": "{{ 'on' if value_json.open_incidents > 0 else 'off' }}",
                "payload_on": "on",
                "payload_off": "off",
                "json_attributes_topic": topics.incident,
            },
        },
        "qos": 1,
    }
    return f"{prefix}/device/{device}/config", payload


def _availability(topics: Topics) -> list[Payload]:
    return [
        {
            "topic": topics.availability,
            "value_template": "{{ value_json.state }}",
            "payload_available": "online",
            "payload_not_available": "offline",
        }
    ]


def _device_id(site: str, camera: str) -> str:
    """[a-zA-Z0-9_-] only; the hash keeps apart what the replacement would make the same."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", f"vad_{site}_{camera}")
    return f"{plain}_{hashlib.sha256(f'{site}/{camera}'.encode()).hexdigest()[:6]}"
