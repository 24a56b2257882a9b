"""plant.yaml: what is read, what is wrong with it, and what is never shown."""

from __future__ import annotations

import base64
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import jsonschema
import pytest
import yaml

from monitor.config import (
    Camera,
    ConfigError,
    Mqtt,
    Period,
    Plant,
    Schedule,
    StreamUrl,
    Thresholds,
    Window,
    diff,
    json_schema,
    load,
    redacted,
)
from tests.conftest import ROOT
from tests.monitor.config_mistakes import MISTAKES, START

EXAMPLE = ROOT / "configs" / "plant.example.yaml"


def written(folder: Path, text: str) -> Path:
    file = folder / "plant.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def loaded(folder: Path, text: str, **env: str) -> Plant:
    return load(written(folder, text), env)


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_every_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text, RATE="slow")
    lines = str(raised.value).replace(f"{tmp_path}/", "").split("\n")
    assert lines == expected
    assert "hunter22" not in str(raised.value)
    assert [problem.line for problem in raised.value.problems] == [int(line.split(":")[1]) for line in expected]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"site: \xff\n", "plant.yaml:1: is not UTF-8 text: save it as UTF-8"),
        (b"site: a\nmqtt: \0\n", "plant.yaml:2: is a binary file (or UTF-16), not YAML in UTF-8"),
        (b"site: a\nmqtt: \x01\n", "plant.yaml:2: not YAML: a character that YAML does not allow"),
        (b"site: a\xc2\x85b\nx: [\n", "plant.yaml:1: not YAML: the invisible line break U+0085: delete it"),
        (b"# nothing\n", "plant.yaml:1: is empty; it needs site, mqtt and cameras"),
        (b"[" * 5000, "plant.yaml:1: not YAML: nested too deeply, or endless"),
        (b'site: "\\UFFFFFFFF"\n', "plant.yaml:1: not YAML: a character that does not exist"),
        (b"#" * 4_000_001, "plant.yaml: is larger than 4 MB: is that the right file?"),
    ],
    ids=[
        "not UTF-8",
        "binary",
        "control character",
        "invisible line break",
        "comments only",
        "nested",
        "no character",
        "huge",
    ],
)
def test_a_file_that_is_no_text_is_one_sentence(tmp_path: Path, data: bytes, expected: str) -> None:
    file = tmp_path / "plant.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as raised:
        load(file, {})
    hint = " (mind the indentation; quote values that have special characters)"
    assert str(raised.value).replace(f"{tmp_path}/", "").removesuffix(hint) == expected


def test_a_missing_file_and_a_folder_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read: there is no such file$"):
        load(tmp_path / "nothing.yaml", {})
    with pytest.raises(ConfigError, match=r"cannot be read: it is a folder$"):
        load(tmp_path, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_said_so(tmp_path: Path) -> None:
    file = written(tmp_path, START)
    file.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: permission denied"):
        load(file, {})


def test_the_example_is_read_with_an_empty_environment() -> None:
    plant = load(EXAMPLE, {})
    assert [camera.name for camera in plant.cameras] == ["gate", "press-2", "door", "recording"]
    assert plant.cameras[0].url.secret == "rtsp://viewer:change-me@192.0.2.10:554/stream1"
    assert plant.cameras[1].url.secret == "rtsps://operator:change-me@192.0.2.11/main"
    assert plant.cameras[2].url.secret == "/dev/video0"
    assert plant.cameras[2].frozen_after_s is None
    assert plant.cameras[3].url.secret == f"file:{ROOT}/configs/recording.mp4"
    assert plant.cameras[1].labels == {"building": "A", "machine": "press 2"}
    assert plant.cameras[1].schedule.timezone == "Europe/Berlin"
    assert plant.cameras[0].thresholds is None
    assert plant.cameras[1].thresholds == Thresholds(raise_at=0.8, clear_at=0.6)


def keys_of(schema: dict[str, Any]) -> set[tuple[str, str]]:
    parts: dict[str, Any] = {**schema["$defs"], "Plant": schema}
    return {(name, key) for name, part in parts.items() for key in part["properties"]}


def test_every_key_is_shown_in_the_example() -> None:
    words = set(EXAMPLE.read_text(encoding="utf-8").replace("{", " ").split())
    missing = {f"{part}.{key}" for part, key in keys_of(json_schema()) if f"{key}:" not in words}
    assert missing == set()


def test_every_key_of_the_schema_is_described() -> None:
    schema = json_schema()
    parts: dict[str, Any] = {**schema["$defs"], "Plant": schema}
    obvious = {
        "Plant.mqtt",
        "Plant.http",
        "Plant.scoring",
        "Plant.evidence",
        "Plant.ingest",
        "Plant.defaults",
        "Plant.cameras",
        "Mqtt.tls",
        "Mqtt.keepalive_s",
        "Window.end",
        "EvidenceSettings.folder",
        "Ingest.cameras_per_process",
    }
    bare = {f"{part}.{key}" for part, key in keys_of(schema) if not parts[part]["properties"][key].get("description")}
    assert bare <= obvious


def test_the_schema_for_editors_is_current() -> None:
    shipped = (ROOT / "configs" / "plant.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json_schema(), (
        "run: python -c 'import json; from monitor.config import json_schema; "
        "print(json.dumps(json_schema(), indent=2, ensure_ascii=False))' > configs/plant.schema.json"
    )


def test_the_schema_accepts_the_example_and_refuses_what_load_refuses(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    # Editors read YAML 1.2, where off is text.
    example = yaml.load(EXAMPLE.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert example["cameras"][2]["frozen_after_s"] == "off"
    small: dict[str, Any] = {"site": "a", "mqtt": "off", "cameras": [{"name": "gate", "url": 0, "fps": "${FPS}"}]}
    validator.validate(small)
    for change in ({"mqtt": "of"}, {"sites": "b"}, {"http": {"port": "x"}}, {"cameras": [{"name": "a", "fsp": 1}]}):
        assert not validator.is_valid(small | change)
        with pytest.raises(ConfigError):
            loaded(tmp_path, json.dumps(small | change), FPS="5")
    assert loaded(tmp_path, json.dumps(small), FPS="5").cameras[0].name == "gate"


def test_a_variable_may_be_a_number_and_a_password_of_digits_stays_text(tmp_path: Path) -> None:
    text = (
        "site: hall\nmqtt:\n  host: ${HOST}\n  port: ${PORT}\n  username: u\n  password: ${PASSWORD}\n"
        "cameras: [{name: gate, url: 0, fps: '${FPS}'}]\n"
    )
    plant = loaded(tmp_path, text, HOST="broker", PORT="1884", PASSWORD="0123", FPS="5")
    assert plant.mqtt.port == 1884
    assert plant.mqtt.password is not None
    assert plant.mqtt.password.get_secret_value() == "0123"
    assert plant.cameras[0].fps == 5.0
    assert type(plant.mqtt.host) is str


@pytest.mark.parametrize(
    ("written_as", "value"),
    [
        ("${A}", "one"),
        ("${A:-two}", "one"),
        ("${B:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("x${A}y", "xoney"),
        ("$${A}", "${A}"),
        ("${A}${A}", "oneone"),
        ("'#${A}'", "#one"),
        ("$A", "$A"),
        ("${B:-a:b #c}", "a:b #c"),
    ],
)
def test_variables(tmp_path: Path, written_as: str, value: str) -> None:
    quoted = written_as if written_as.startswith("'") else f'"{written_as}"'
    plant = loaded(tmp_path, START + f"    labels: {{x: {quoted}}}\n", A="one", EMPTY="")
    assert plant.cameras[0].labels == {"x": value}
    assert type(plant.cameras[0].labels["x"]) is str


def test_words_of_yaml_1_1_stay_words(tmp_path: Path) -> None:
    plant = loaded(tmp_path, "site: no\nmqtt: off\ncameras: [{name: on, url: 0, labels: {a: 20:00, b: 2026-01-01}}]\n")
    assert (plant.site, plant.cameras[0].name) == ("no", "on")
    assert plant.cameras[0].labels == {"a": "20:00", "b": "2026-01-01"}


def test_secrets_come_from_files_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "mqtt").write_text("s3cret\n")
    (tmp_path / "gate").write_text("p@ss/w#rd: 100%\n")
    (tmp_path / "url").write_text("rtsp://a:b%40c@host/x\n")
    text = (
        "site: hall\nmqtt: {username: u, password_file: mqtt}\n"
        "cameras:\n- {name: gate, url: 'rtsp://host:8554/x', username: ad:min, password_file: gate}\n"
        "- {name: door, url_file: url}\n- {name: yard, url: 'http://host/x', username: u, password_file: gate}\n"
    )
    with pytest.raises(ConfigError, match=r"plant.yaml:4: cameras\[0\].username: a user name has no colon"):
        loaded(tmp_path, text)
    plant = loaded(tmp_path, text.replace("ad:min", "admin"))
    assert plant.mqtt.password is not None
    assert plant.mqtt.password.get_secret_value() == "s3cret"
    assert plant.cameras[0].url.secret == "rtsp://admin:p%40ss%2Fw%23rd%3A%20100%25@host:8554/x"
    assert plant.cameras[1].url.secret == "rtsp://a:b%40c@host/x"
    assert set(plant.secrets()) >= {"s3cret", "p@ss/w#rd: 100%", "p%40ss%2Fw%23rd%3A%20100%25", "b@c", "b%40c"}
    for shown in (str(plant), repr(plant), json.dumps(redacted(plant)), str(plant.cameras[0].url)):
        for secret in plant.secrets():
            assert secret not in shown


@pytest.mark.parametrize(
    ("address", "secret", "shown"),
    [
        ("rtsp://host/a", "rtsp://host/a", "rtsp://host/a"),
        ("RTSP://u:p@[fe80::1]:554/a", "rtsp://u:p@[fe80::1]:554/a", "rtsp://***@[fe80::1]:554/a"),
        ("rtsp://u:p@ss@host/a", "rtsp://u:p%40ss@host/a", "rtsp://***@host/a"),
        ("rtsp://u:p ä@host/a", "rtsp://u:p%20%C3%A4@host/a", "rtsp://***@host/a"),
        ("rtsp://u:100%@host/a", "rtsp://u:100%25@host/a", "rtsp://***@host/a"),
        ("http://host/v?user=a&pwd=b", "http://host/v?user=a&pwd=b", "http://host/v?***"),
        (
            "rtsp://h/user=a_password=xyz_channel=1",
            "rtsp://h/user=a_password=xyz_channel=1",
            "rtsp://h/user=a_password=***_channel=1",
        ),
        ("file:///a%20b/c.mp4", "file:/a b/c.mp4", "file:/a b/c.mp4"),
        ("file:c.mp4", "file:c.mp4", "file:c.mp4"),
        ("3", "/dev/video3", "/dev/video3"),
        ("/dev/video3", "/dev/video3", "/dev/video3"),
    ],
)
def test_an_address_is_opened_whole_and_shown_without_credentials(address: str, secret: str, shown: str) -> None:
    url = StreamUrl(address)
    assert (url.secret, str(url), repr(url)) == (secret, shown, f"StreamUrl({shown!r})")
    again = pickle.loads(pickle.dumps(url))
    assert again == url
    assert hash(again) == hash(url)
    assert str(again) == shown


def test_defaults_fill_what_a_camera_leaves_out_and_mappings_are_merged(tmp_path: Path) -> None:
    plant = loaded(
        tmp_path,
        "site: hall\nmqtt: off\n"
        "defaults:\n  fps: 4\n  thresholds: {raise_at: 0.8, clear_at: 0.5, cooldown_s: 60}\n"
        "  username: viewer\n  password: one\n  labels: {floor: 1st, wing: A}\n  ignore: [[[0, 0], [1, 0], [1, 1]]]\n"
        "cameras:\n- {name: a, url: 'rtsp://h/a'}\n"
        "- {name: b, url: 'rtsp://own:login@h/b', thresholds: {raise_at: 0.9}, labels: {wing: B}, ignore: []}\n"
        "- {name: c, url: 0, thresholds: inherit, fps: null}\n",
    )
    a, b, c = plant.cameras
    assert (a.fps, b.fps, c.fps) == (4.0, 4.0, None)
    assert a.url.secret == "rtsp://viewer:one@h/a"
    assert b.url.secret == "rtsp://own:login@h/b"
    assert b.thresholds == Thresholds(raise_at=0.9, clear_at=0.5, cooldown_s=60)
    assert c.thresholds is None
    assert b.labels == {"floor": "1st", "wing": "B"}
    assert (len(a.ignore), len(b.ignore)) == (1, 0)


@pytest.mark.parametrize("name", ["auto", "default", "motion"])
def test_a_folder_beside_the_file_does_not_hide_a_documented_artefact(tmp_path: Path, name: str) -> None:
    text = "site: h\nmqtt: off\ncameras: [{{name: a, url: 0}}]\nscoring: {{artefact: {named}}}\n"
    for folder in (name, "ours"):
        (tmp_path / folder).mkdir()
    assert loaded(tmp_path, text.format(named=name)).scoring.artefact == name
    for named in (f"./{name}", "ours"):
        assert Path(loaded(tmp_path, text.format(named=named)).scoring.artefact) == tmp_path / named


def test_a_mistake_between_defaults_and_camera_stands_where_it_was_written(tmp_path: Path) -> None:
    text = START + "    thresholds: {raise_at: 0.4}\ndefaults:\n  thresholds:\n    clear_at: 0.5\n"
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text)
    assert (
        str(raised.value)
        == f"{tmp_path}/plant.yaml:9: defaults.thresholds.clear_at: must not be above raise_at (got 0.5)"
    )


def test_relative_paths_begin_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    text = (
        "site: hall\nmqtt: {tls: true, ca_file: ca.pem}\nevidence: {folder: /var/ev}\nscoring: {artefact: ./mine}\n"
        "cameras: [{name: a, url: file:a.mp4}]\n"
    )
    written(tmp_path, text)
    plant = load(Path("../plant.yaml"), {})
    assert plant.mqtt.ca_file == tmp_path / "ca.pem"
    assert plant.mqtt.port == 8883
    assert plant.state_folder == tmp_path / "state"
    assert plant.evidence.folder == Path("/var/ev")
    assert plant.scoring.artefact == str(tmp_path / "mine")
    assert plant.cameras[0].url.path == str(tmp_path / "a.mp4")
    (tmp_path / "mine").mkdir()
    written(tmp_path, text.replace("./mine", "mine"))
    assert load(Path("../plant.yaml"), {}).scoring.artefact == str(tmp_path / "mine")


def test_the_embedded_broker_listens_beyond_loopback_only_with_users(tmp_path: Path) -> None:
    cameras = "site: hall\ncameras: [{name: a, url: 0}]\n"
    assert loaded(tmp_path, cameras + "mqtt: embedded\n").mqtt == Mqtt(kind="embedded", host="127.0.0.1")
    assert loaded(tmp_path, cameras + "mqtt: {kind: embedded, host: '::1', port: 0}\n").mqtt.port == 0
    users = loaded(
        tmp_path, cameras + "mqtt: {kind: embedded, host: '::', users: {op: '${P}'}}\n", P="sesame"
    ).mqtt.users
    assert users["op"].get_secret_value() == "sesame"


NIGHTS = Schedule(
    timezone="Europe/Berlin",
    armed=(
        Period(days=("mon", "fri"), start="18:00", end="06:00"),
        Period(days=("sun",), start="00:00", end="24:00"),
        Period(days=("wed",), start="12:00", end="13:00"),
    ),
    maintenance=(Window(start="2026-03-02 20:00", end="2026-03-02 21:30", reason="service"),),
)


@pytest.mark.parametrize(
    ("utc", "armed", "reason"),
    [
        # Berlin is UTC+1 until 29 March 2026, then UTC+2; 2 March 2026 is a Monday.
        ("2026-03-02 16:59", False, "outside armed hours (Europe/Berlin)"),
        ("2026-03-02 17:00", True, "armed"),
        ("2026-03-02 19:00", False, "maintenance until 2026-03-02 21:30: service"),
        ("2026-03-02 20:30", True, "armed"),
        ("2026-03-03 04:59", True, "armed"),
        ("2026-03-03 05:00", False, "outside armed hours (Europe/Berlin)"),
        ("2026-03-03 18:00", False, "outside armed hours (Europe/Berlin)"),
        ("2026-03-04 11:00", True, "armed"),
        ("2026-03-04 12:00", False, "outside armed hours (Europe/Berlin)"),
        ("2026-03-06 23:30", True, "armed"),
        ("2026-03-07 23:00", True, "armed"),
        ("2026-03-08 22:59", True, "armed"),
        ("2026-03-08 23:00", False, "outside armed hours (Europe/Berlin)"),
        ("2026-03-30 15:59", False, "outside armed hours (Europe/Berlin)"),
        ("2026-03-30 16:00", True, "armed"),
    ],
)
def test_a_camera_is_armed_by_the_local_clock(utc: str, armed: bool, reason: str) -> None:
    camera = Camera(name="gate", url=StreamUrl(0), schedule=NIGHTS)
    assert camera.is_armed(datetime.fromisoformat(utc).replace(tzinfo=UTC)) == (armed, reason)


@pytest.mark.parametrize(
    ("utc", "armed"),
    [
        # In Berlin 2 o'clock comes twice on 25 October 2026 (02:00 to 03:00), and not at all on 29 March.
        ("2026-10-25 00:14", False),
        ("2026-10-25 00:15", True),
        ("2026-10-25 00:45", False),
        ("2026-10-25 01:14", False),
        ("2026-10-25 01:15", True),
        ("2026-10-25 01:45", False),
        ("2026-03-29 00:59", False),
        ("2026-03-29 01:00", False),
        ("2026-03-29 01:30", False),
    ],
)
def test_an_hour_that_comes_twice_counts_twice_and_one_that_is_skipped_not_at_all(utc: str, armed: bool) -> None:
    schedule = Schedule(timezone="Europe/Berlin", armed=(Period(start="02:15", end="02:45"),))
    assert schedule.is_armed(datetime.fromisoformat(utc).replace(tzinfo=UTC))[0] is armed


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_night_is_armed_from_end_to_end_whatever_the_clock_does_in_it(day: str) -> None:
    schedule = Schedule(timezone="Europe/Berlin", armed=(Period(start="22:00", end="06:00"),))
    midnight = datetime.fromisoformat(f"{day} 00:00+00:00")
    hours = {minute: schedule.is_armed(midnight + timedelta(minutes=minute))[0] for minute in range(0, 240, 15)}
    assert all(hours.values())


def test_without_a_schedule_a_camera_is_always_armed_and_a_time_without_zone_is_refused() -> None:
    camera = Camera(name="gate", url=StreamUrl(0))
    assert camera.is_armed(datetime(2026, 1, 1, tzinfo=UTC)) == (True, "armed")
    with pytest.raises(ValueError, match="needs a time with a time zone"):
        camera.is_armed(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the mistake


def test_a_reload_says_what_changed(tmp_path: Path) -> None:
    old = loaded(tmp_path, "site: h\nmqtt: off\ncameras: [{name: a, url: 0}, {name: b, url: 1}, {name: c, url: 2}]\n")
    new = loaded(
        tmp_path,
        "site: h\nmqtt: embedded\nhttp: {port: 1}\n"
        "cameras: [{name: d, url: 0}, {name: c, url: 2}, {name: b, url: 1, fps: 3}]\n",
    )
    changes = diff(old, new)
    assert (changes.added, changes.removed, changes.changed) == (("d",), ("a",), ("b",))
    assert changes.restart_needed == ("mqtt.kind", "http.port")
    assert not diff(old, old)


def test_what_the_decoder_leaves_out_changes_that_camera_alone_and_no_restart_is_needed(tmp_path: Path) -> None:
    text = (
        "site: h\nmqtt: off\ndefaults: {{decode: {{skip_loop_filter: nonref}}}}\n"
        "cameras: [{{name: a, url: 0}}, {{name: b, url: 1, decode: {{skip_frame: {skipped}}}}}]\n"
    )
    old, new = (loaded(tmp_path, text.format(skipped=skipped)) for skipped in ("none", "nonref"))
    assert [(c.decode.skip_loop_filter, c.decode.skip_frame) for c in new.cameras] == [
        ("nonref", "none"),
        ("nonref", "nonref"),
    ]
    changes = diff(old, new)
    assert (changes.changed, changes.restart_needed) == (("b",), ())


def test_a_changed_password_is_a_change(tmp_path: Path) -> None:
    text = "site: h\nmqtt: {username: u, password: '${P}'}\ncameras: [{name: a, url: 'rtsp://u:${P}@h/'}]\n"
    changes = diff(loaded(tmp_path, text, P="one"), loaded(tmp_path, text, P="two"))
    assert (changes.changed, changes.restart_needed) == (("a",), ("mqtt.password",))


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    shown = redacted(load(EXAMPLE, {}))
    assert shown["mqtt"]["password"] == "***"
    assert shown["cameras"][0]["url"] == "rtsp://***@192.0.2.10:554/stream1"
    again = loaded(tmp_path, yaml.safe_dump(shown))
    assert redacted(again) == shown


def test_settings_travel_to_other_processes_and_cannot_be_changed() -> None:
    plant = load(EXAMPLE, {})
    assert pickle.loads(pickle.dumps(plant)) == plant
    with pytest.raises(ValueError, match="frozen"):
        setattr(plant, "site", "other")  # noqa: B010 - mypy knows that it is frozen


def test_errors_travel_between_processes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, START + "    fps: x\n")
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_settings_built_in_code_do_not_show_secrets_in_errors_either() -> None:
    with pytest.raises(ValueError, match="password") as raised:
        Mqtt.model_validate({"password": ["hunter22"], "port": "hunter22"})
    assert "hunter22" not in str(raised.value)
    with pytest.raises(ValueError, match="url") as raised:
        Camera.model_validate({"name": "a", "url": "rtsp//u:hunter22@h"})
    assert "hunter22" not in str(raised.value)


def test_importing_the_settings_is_fast_and_needs_no_torch() -> None:
    script = (
        "import sys, time; begin = time.process_time(); import monitor.config; "
        "heavy = [name for name in ('torch', 'numpy', 'av', 'yaml') if name in sys.modules]; "
        "print(time.process_time() - begin, *heavy)"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        first, *modules = done.stdout.split()
        assert modules == []
        seconds.append(float(first))
    assert min(seconds) < 0.3


def refuse_until_login(server: socket.socket, logins: list[str]) -> None:
    """Answers 401 to every request until one has a login, and notes that."""
    while not logins:
        connection, _ = server.accept()
        with connection, connection.makefile("rwb") as stream:
            protocol, sequence = "HTTP/1.1", ""
            for line in stream:
                text = line.decode().strip()
                if text.startswith("Authorization: Basic "):
                    logins.append(base64.b64decode(text.split(" ")[2]).decode())
                elif text.startswith("CSeq"):
                    sequence = text + "\r\n"
                elif text.endswith("RTSP/1.0"):
                    protocol = "RTSP/1.0"
                elif not text:
                    answer = f'{protocol} 401 Unauthorized\r\n{sequence}WWW-Authenticate: Basic realm="x"\r\n'
                    stream.write((answer + "Content-Length: 0\r\n\r\n").encode())
                    stream.flush()
                    if logins:
                        return


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_libav_sends_the_very_password_that_was_given(scheme: str) -> None:
    password = "p@ss/w#rd: ä100%&?"
    logins: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=refuse_until_login, args=(server, logins), name="camera")
        thread.start()
        url = StreamUrl(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/x").with_credentials("admin", password)
        with pytest.raises(av.error.HTTPUnauthorizedError):
            av.open(url.secret, timeout=5)
        thread.join(10)
    assert logins == [f"admin:{password}"]
