"""Wrong plant.yaml files and, word for word, what is said of them.

Each row: what is wrong, the file's text, the lines of the error. RATE is set to `slow`, no other variable is.
"""
# ruff: noqa: E501 - messages stand here as a person sees them

from __future__ import annotations

START = "site: hall\nmqtt: off\ncameras:\n  - name: gate\n    url: rtsp://host/a\n"
"""Five good lines, open at the end of a camera."""

MISTAKES: list[tuple[str, str, list[str]]] = [
    (
        "text where a number belongs",
        START + "    fps: fast\n",
        ["plant.yaml:6: cameras[0].fps: expected a whole number or decimal (got 'fast')"],
    ),
    (
        "a decimal where a whole number belongs",
        START + "scoring:\n  stride: 2.5\n",
        ["plant.yaml:7: scoring.stride: expected a whole number (got 2.5)"],
    ),
    (
        "unknown key",
        START + "    treshold: inherit\n",
        ["plant.yaml:6: cameras[0].treshold: unknown key; did you mean 'thresholds'?"],
    ),
    (
        "an unknown key that is like no other",
        START + "http:\n  zzz: 1\n",
        ["plant.yaml:7: http.zzz: unknown key; known here: host, port, metrics"],
    ),
    (
        "a key given twice",
        START + "    fps: 5\n    fps: 6\n",
        ["plant.yaml:7: cameras[0].fps: given twice (first in line 6)"],
    ),
    (
        "wrong indentation",
        START + "   fps: 5\n",
        ["plant.yaml:6: not YAML: the indentation does not match the lines above, or a quote is missing"],
    ),
    ("a tab", START + "\tfps: 5\n", ["plant.yaml:6: not YAML: indent with spaces, not tabs"]),
    ("a quote that is not closed", START + "    mode: 'alert\n", ["plant.yaml:6: not YAML: a quote is not closed"]),
    (
        "variables that are not set",
        START + "    fps: ${FPS}\n    labels: {floor: '${FLOOR}'}\n",
        [
            "plant.yaml:6: cameras[0].fps: the environment variable FPS is not set",
            "plant.yaml:7: cameras[0].labels.floor: the environment variable FLOOR is not set",
        ],
    ),
    (
        "a variable without its bracket",
        START + "    labels: {floor: '${FLOOR'}\n",
        [
            "plant.yaml:6: cameras[0].labels.floor: a variable is written ${NAME} or ${NAME:-default}; a plain ${ is written $${"
        ],
    ),
    (
        "a variable that holds the wrong thing: its name is shown, not what it holds",
        START + "    fps: ${RATE}\n",
        ["plant.yaml:6: cameras[0].fps: expected a whole number or decimal (got '${RATE}')"],
    ),
    (
        "a secret where it is shown",
        START + "    labels: {floor: '${FLOOR_TOKEN}'}\n    username: ${GATE_USER}\n    password: ${RATE_PASSWORD}\n",
        [
            "plant.yaml:6: cameras[0].labels.floor: FLOOR_TOKEN is named like a secret, and what stands here is shown: such a "
            "variable goes under password, url, users or a hash (one that holds a path is named FLOOR_TOKEN_FILE)",
            "plant.yaml:7: cameras[0].username: the environment variable GATE_USER is not set",
            "plant.yaml:8: cameras[0].password: the environment variable RATE_PASSWORD is not set",
        ],
    ),
    (
        "a secret in the shown part of an address",
        START.replace("rtsp://", "rtsp://${GATE_KEY:-hunter22}.")
        + "defaults: {labels: {a: '${GATE_KEY:-hunter22}'}}\n",
        [
            "plant.yaml:5: cameras[0].url: a variable named like a secret stands where the address is shown: in the user's name "
            "and password (rtsp://user:${…}@host/), in a field like ?password=${…}, or under the keys username and password it "
            "is hidden",
            "plant.yaml:6: defaults.labels.a: GATE_KEY is named like a secret, and what stands here is shown: such a variable "
            "goes under password, url, users or a hash (one that holds a path is named GATE_KEY_FILE)",
        ],
    ),
    (
        "words that the decoder's options do not have",
        START + "    decode: {skip_frame: noref, skip_loop_filter: yes, skip_frames: nonref}\n"
        "defaults:\n  decode: {skip_frame: all}\n",
        [
            "plant.yaml:6: cameras[0].decode.skip_loop_filter: expected 'none', 'nonref' or 'all' (got 'yes')",
            "plant.yaml:6: cameras[0].decode.skip_frame: expected 'none' or 'nonref' (got 'noref'); did you mean 'nonref'?",
            "plant.yaml:6: cameras[0].decode.skip_frames: unknown key; did you mean 'skip_frame'?",
            "plant.yaml:8: defaults.decode.skip_frame: expected 'none' or 'nonref' (got 'all')",
        ],
    ),
    ("an empty file", "", ["plant.yaml:1: is empty; it needs site, mqtt and cameras"]),
    ("a list, no mapping", "- a\n- b\n", ["plant.yaml:1: expected a mapping: site, mqtt, cameras …"]),
    (
        "no mqtt and no cameras",
        "site: hall\n",
        ["plant.yaml:1: mqtt: missing: a mapping with host, or embedded, or off", "plant.yaml:1: cameras: missing"],
    ),
    (
        "a camera without name and url",
        "site: hall\nmqtt: off\ncameras:\n  - fps: 3\n",
        ["plant.yaml:4: cameras[0].url: missing: url or url_file", "plant.yaml:4: cameras[0].name: missing"],
    ),
    ("no cameras", "site: hall\nmqtt: off\ncameras: []\n", ["plant.yaml:3: cameras: must not be empty"]),
    (
        "cameras are no list",
        "site: hall\nmqtt: off\ncameras: {gate: x}\n",
        ["plant.yaml:3: cameras: expected a list (got a mapping)"],
    ),
    (
        "two cameras of one name",
        START + "  - name: gate\n    url: 1\n",
        ["plant.yaml:6: cameras[1].name: an earlier camera (line 4) has this name (got 'gate')"],
    ),
    (
        "names that are no MQTT topics",
        "site: a/b\nmqtt: off\ncameras:\n  - {name: 'a#', url: 0}\n  - {name: '', url: 1}\n  - {name: 12, url: 2}\n",
        [
            "plant.yaml:1: site: becomes part of MQTT topics: it must not have / + # or \\, begin with $, or be . or .. (got 'a/b')",
            "plant.yaml:4: cameras[0].name: becomes part of MQTT topics: it must not have / + # or \\, begin with $, or be . or .. (got 'a#')",
            "plant.yaml:5: cameras[1].name: must not be empty (got '')",
            "plant.yaml:6: cameras[2].name: expected text (got 12): put quotes around it",
        ],
    ),
    (
        "addresses of unknown kinds",
        "site: hall\nmqtt: off\ncameras:\n  - {name: a, url: ftp://u:hunter22@h/x}\n  - {name: b, url: host/x}\n  - {name: c, url: -1}\n",
        [
            "plant.yaml:4: cameras[0].url: the scheme of an address is one of rtsp://, rtsps://, http://, https://, file:, a device number or /dev/videoN",
            "plant.yaml:5: cameras[1].url: an address begins with its scheme: rtsp://, rtsps://, http://, https://, file:, a device number or /dev/videoN",
            "plant.yaml:6: cameras[2].url: expected an address as text, or a device number",
        ],
    ),
    (
        "addresses with a raw password, a wrong port, no host",
        "site: hall\nmqtt: off\ncameras:\n  - {name: a, url: 'rtsp://admin:hun/ter22'}\n  - {name: b, url: 'rtsp://host:99999/x'}\n  - {name: c, url: 'rtsp:///x'}\n  - {name: d, url: 'rtsp://u:hun/ter22@h/'}\n",
        [
            "plant.yaml:4: cameras[0].url: the port is a number from 1 to 65535 (special characters of a password go into the keys username and password, or are percent-encoded)",
            "plant.yaml:5: cameras[1].url: the port is a number from 1 to 65535 (special characters of a password go into the keys username and password, or are percent-encoded)",
            "plant.yaml:6: cameras[2].url: the host is missing or has a character no host has: rtsp://host:port/path",
            "plant.yaml:7: cameras[3].url: the @ is ambiguous: write %40 in a path, or use the keys username and password",
        ],
    ),
    (
        "logins that do not fit",
        "site: hall\nmqtt: off\ncameras:\n  - {name: a, url: 'rtsp://u:hunter22@h/', username: u, password: hunter22}\n  - {name: b, url: 0, username: u}\n  - {name: c, url: 'http://h/', password: hunter22}\n",
        [
            "plant.yaml:4: cameras[0].username: the url has a user name already",
            "plant.yaml:5: cameras[1].username: a device has no login",
            "plant.yaml:6: cameras[2].username: missing: a password needs a username",
        ],
    ),
    (
        "polygons that are none",
        START + "    ignore: [[[0, 0], [1, 1]]]\n    private: [[0, 0], [1, 0], [1, 1]]\n",
        [
            "plant.yaml:6: cameras[0].ignore[0]: a polygon has at least 3 different points",
            "plant.yaml:7: cameras[0].private: expected a list of polygons: write one more pair of brackets around this one",
        ],
    ),
    (
        "a point outside the picture",
        START + "    ignore: [[[0, 0], [1, 0], [1, 1.5]]]\n",
        ["plant.yaml:6: cameras[0].ignore[0][2]: x and y are fractions of the picture's width and height, from 0 to 1"],
    ),
    (
        "clear above raise",
        START + "    thresholds: {raise_at: 0.5, clear_at: 0.7}\n",
        ["plant.yaml:6: cameras[0].thresholds.clear_at: must not be above raise_at (got 0.7)"],
    ),
    (
        "a threshold in percent, the other missing",
        START + "    thresholds: {raise_at: 80}\n",
        [
            "plant.yaml:6: cameras[0].thresholds.raise_at: must be at most 1 (got 80)",
            "plant.yaml:6: cameras[0].thresholds.clear_at: missing",
        ],
    ),
    (
        "an unknown mode",
        START + "    mode: alerts\n",
        ["plant.yaml:6: cameras[0].mode: expected 'alert' or 'observe' (got 'alerts'); did you mean 'alert'?"],
    ),
    (
        "yes for true",
        START + "    enabled: yes\n",
        ["plant.yaml:6: cameras[0].enabled: expected true or false (got 'yes')"],
    ),
    (
        "a schedule of mistakes",
        START
        + "    schedule:\n      timezone: Europe/Berlinn\n      armed:\n        - {days: [mo], start: 8:00, end: '25:00'}\n      maintenance:\n        - {start: 2026-03-02 08:00, end: 2026-03-01 08:00, reason: service}\n",
        [
            "plant.yaml:7: cameras[0].schedule.timezone: expected a time zone like \"Europe/Berlin\" (got 'Europe/Berlinn')",
            "plant.yaml:9: cameras[0].schedule.armed[0].days[0]: expected 'mon', 'tue', 'wed', 'thu', 'fri', 'sat' or 'sun' (got 'mo'); did you mean 'mon'?",
            "plant.yaml:9: cameras[0].schedule.armed[0].start: expected a time of day like \"06:30\" (got '8:00')",
            'plant.yaml:9: cameras[0].schedule.armed[0].end: expected a time of day from "00:00" to "24:00" (got \'25:00\')',
            "plant.yaml:11: cameras[0].schedule.maintenance[0].end: must be after start (got '2026-03-01 08:00')",
        ],
    ),
    (
        "an unknown word for mqtt",
        "site: hall\nmqtt: on\ncameras: [{name: a, url: 0}]\n",
        ["plant.yaml:2: mqtt: expected a mapping with host, or embedded, or off (got 'on')"],
    ),
    (
        "an open broker without users",
        "site: hall\nmqtt: {kind: embedded, host: 0.0.0.0}\ncameras: [{name: a, url: 0}]\n",
        [
            "plant.yaml:2: mqtt.host: the embedded broker listens beyond this machine only with users: add mqtt.users (got '0.0.0.0')"
        ],
    ),
    (
        "a certificate that is not there",
        "site: hall\nmqtt: {tls: true, ca_file: ca.pem}\ncameras: [{name: a, url: 0}]\n",
        [
            "plant.yaml:2: mqtt.ca_file: there is no such file (relative paths begin at the folder of this file) (got 'ca.pem')"
        ],
    ),
    (
        "a file where folders are wanted",
        "site: hall\nmqtt: off\nstate_folder: plant.yaml\nevidence: {folder: plant.yaml}\ncameras: [{name: a, url: 0}]\n",
        [
            "plant.yaml:3: state_folder: is a file; expected a folder (got 'plant.yaml')",
            "plant.yaml:4: evidence.folder: is a file; expected a folder (got 'plant.yaml')",
        ],
    ),
    (
        "a password without quotes: not shown",
        "site: hall\nmqtt: {username: u, password: 12345}\ncameras: [{name: a, url: 0}]\n",
        ["plant.yaml:2: mqtt.password: expected text: put quotes around it"],
    ),
    (
        "secret files that are not there: not shown, they may be the secret itself",
        "site: hall\nmqtt: {username: u, password_file: hunter22}\ncameras: [{name: a, url_file: nowhere}]\n",
        [
            "plant.yaml:2: mqtt.password_file: there is no such file (relative paths begin at the folder of this file)",
            "plant.yaml:3: cameras[0].url_file: there is no such file (relative paths begin at the folder of this file)",
        ],
    ),
    (
        "two passwords",
        "site: hall\nmqtt: {username: u, password: a, password_file: b}\ncameras: [{name: a, url: 0}]\n",
        ["plant.yaml:2: mqtt.password_file: give either password or password_file"],
    ),
    (
        "an unknown device, a batch of none",
        START + "scoring: {device: gpu, batch_max: 0}\n",
        [
            "plant.yaml:6: scoring.device: expected 'auto', 'cpu', 'cuda' or 'cuda:N' (got 'gpu')",
            "plant.yaml:6: scoring.batch_max: must be at least 1 (got 0)",
        ],
    ),
    (
        "a port above all ports",
        START + "http: {port: 70000}\n",
        ["plant.yaml:6: http.port: must be at most 65535 (got 70000)"],
    ),
    (
        "mistakes in the defaults are said once",
        START + "  - {name: b, url: 1}\ndefaults:\n  fps: quick\n  name: x\n  unknown_thing: 1\n",
        [
            "plant.yaml:8: defaults.fps: expected a whole number or decimal (got 'quick')",
            "plant.yaml:9: defaults.name: belongs to each camera, not under defaults",
            "plant.yaml:10: defaults.unknown_thing: unknown key; known here: enabled, mode, transport, fps, decode, ignore, private, thresholds, schedule, labels, connect_timeout_s, stall_timeout_s, frozen_after_s, picture, drift_limit_ppm, lag_limit_s, backoff_min_s, backoff_max_s, username, password, password_file",
        ],
    ),
    (
        "mistakes all over the file",
        "site: ''\nmqtt: {host: 'a b', prt: 1}\nhttp: 8080\nevidence: {audio: 1, keep_days: -1}\ncameras:\n  - url: 0\n  - gate\n",
        [
            "plant.yaml:1: site: must not be empty (got '')",
            "plant.yaml:2: mqtt.host: expected a host name or an IP address (got 'a b')",
            "plant.yaml:2: mqtt.prt: unknown key; did you mean 'port'?",
            "plant.yaml:3: http: expected a mapping (lines of key: value) (got 8080)",
            "plant.yaml:4: evidence.audio: expected true or false (got 1)",
            "plant.yaml:4: evidence.keep_days: must be above 0 (got -1)",
            "plant.yaml:6: cameras[0].name: missing",
            "plant.yaml:7: cameras[1]: expected a mapping (lines of key: value) (got 'gate')",
        ],
    ),
    (
        "a merge key",
        START + "    <<: {fps: 5}\n",
        ["plant.yaml:6: cameras[0].<<: merge keys (<<) are not read: what cameras share goes under defaults"],
    ),
    (
        "a YAML tag",
        START + "    fps: !!python/object:os.system 5\n",
        ["plant.yaml:6: cameras[0].fps: YAML tags (!name) are not used here"],
    ),
    (
        "an endless file",
        "a: &a [*a]\n",
        [
            "plant.yaml:1: not YAML: nested too deeply, or endless (mind the indentation; quote values that have special characters)"
        ],
    ),
    ("two documents", START + "---\nsite: b\n", ["plant.yaml:6: not YAML: only one document is read (---)"]),
    (
        "numbers without end",
        START + "    fps: .inf\n    stall_timeout_s: 1e400\n",
        [
            "plant.yaml:6: cameras[0].fps: expected a finite number (got .inf)",
            "plant.yaml:7: cameras[0].stall_timeout_s: expected a finite number (got 1e400)",
        ],
    ),
    (
        "an alias that may be a password",
        START + "    password: *hunter22\n",
        ["plant.yaml:6: not YAML: an alias (*) of nothing: quote values that begin with *"],
    ),
    (
        "TLS for the embedded broker",
        "site: hall\nmqtt: {kind: embedded, tls: true}\ncameras: [{name: a, url: 0}]\n",
        ["plant.yaml:2: mqtt.tls: is for an external broker; the embedded one takes users (got true)"],
    ),
    (
        "a misspelt word for the broker",
        "site: hall\nmqtt: embeded\ncameras: [{name: a, url: 0}]\n",
        [
            "plant.yaml:2: mqtt: expected a mapping with host, or embedded, or off (got 'embeded'); "
            "did you mean 'embedded'?"
        ],
    ),
    (
        "users of an external broker",
        "site: hall\nmqtt: {tls: false, username: u, users: {a: b}}\ncameras: [{name: a, url: 0}]\n",
        ["plant.yaml:2: mqtt.users: users are for the embedded broker (kind: embedded)"],
    ),
    (
        "backoff limits upside down",
        START + "    backoff_min_s: 90\n",
        ["plant.yaml:4: cameras[0].backoff_max_s: must not be below backoff_min_s"],
    ),
    (
        "a variable inside brackets without quotes",
        START + "    labels: {floor: ${FLOOR}}\n",
        ["plant.yaml:6: not YAML: quote a ${VAR} that stands inside { } or [ ]"],
    ),
]
