"""The recipes as shipped, with real brokers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, needs_program
from tests.e2e.running import eventually
from tests.monitor.alerting.servers import certificates, mosquitto, subscriber

RECIPES = ROOT / "deploy" / "recipes"
ALERT = {
    "alert_id": "20260301T063000-0123456789",
    "seq": 1,
    "site": "works",
    "camera": "gate",
    "kind": "raised",
    "score": 0.9,
}


def publish(port: int, alert: dict[str, object], *login: str) -> None:
    program = needs_program("mosquitto_pub", "mosquitto-clients")
    topic = f"vad/{alert['site']}/cameras/{alert['camera']}/alert"
    command = [program, "-p", str(port), "-q", "1", "-t", topic, "-m", json.dumps(alert), *login]
    subprocess.run(command, check=True, timeout=20)


def test_the_subscriber_prints_an_alert_once_and_misses_none_while_it_is_away(tmp_path: Path) -> None:
    def start(log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(RECIPES / "subscriber.py"), "127.0.0.1", str(broker.port)]
        with log.open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=out)

    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with mosquitto(tmp_path / "broker") as broker:
        process = start(first)
        try:
            eventually(
                lambda: publish(broker.port, ALERT) or "works gate raised 0.90\n" in first.read_text(), 20, "an alert"
            )
            publish(broker.port, ALERT | {"seq": 2, "kind": "ended"})
            eventually(lambda: "ended" in first.read_text(), 10, "its end")
            assert first.read_text() == "works gate raised 0.90\nworks gate ended 0.90\n"
        finally:
            process.kill()
            process.wait()
        publish(broker.port, ALERT | {"alert_id": "20260301T070000-0123456789"})
        process = start(second)
        try:
            eventually(lambda: "works gate raised 0.90\n" in second.read_text(), 10, "what came while it was away")
        finally:
            process.kill()
            process.wait()


def test_the_bridge_brings_alerts_to_the_office_over_tls_and_keeps_them_while_the_line_is_down(tmp_path: Path) -> None:
    keys = certificates(tmp_path / "keys")
    passwords = tmp_path / "passwords"
    passwords.write_text("hall-3:change-me\noffice:0ffice\n")
    subprocess.run([needs_program("mosquitto_passwd", "mosquitto"), "-U", passwords], check=True)
    tls = f"allow_anonymous false\npassword_file {passwords}\n" + "".join(
        f"{key} {keys / file}\n"
        for key, file in {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}.items()
    )
    login = ("-u", "office", "-P", "0ffice", "--cafile", str(keys / "ca.pem"))
    with mosquitto(tmp_path / "office", extra=tls) as office:
        text = (RECIPES / "bridge.conf").read_text(encoding="utf-8")
        ours = {"office.example:8883": f"127.0.0.1:{office.port}", "/etc/mosquitto/office-ca.pem": str(keys / "ca.pem")}
        for shipped, mine in ours.items():
            assert shipped in text
            text = text.replace(shipped, mine)
        guard = ("vad/#", *login, "-i", "guard")
        with mosquitto(tmp_path / "plant", extra=text) as plant:
            with subscriber(office.port, *guard) as heard:
                publish(plant.port, ALERT)
                eventually(lambda: heard.payloads("gate/alert") == [ALERT], 20, "the alert at the office")
            office.kill()
            later = ALERT | {"seq": 2}
            publish(plant.port, later)
            office.start()
            with subscriber(office.port, *guard) as heard:
                eventually(lambda: heard.payloads("gate/alert") == [later], 60, "what came while the line was down")


def test_the_node_red_flow_is_whole() -> None:
    """That it runs was tried by hand; here: every wire leads to a node."""
    nodes = {node["id"]: node for node in json.loads((RECIPES / "node-red.json").read_text(encoding="utf-8"))}
    for node in nodes.values():
        assert {target for wire in node.get("wires", ()) for target in wire} <= set(nodes)
        assert node.get("z", "flow") in nodes and node.get("broker", "broker") in {*nodes, "127.0.0.1"}
