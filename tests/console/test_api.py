"""The console's API by real requests: who may what, what is said, and what never is."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitor.alerting.contract import schema, verdict_payload
from monitor.config import ConfigError, Plant, load
from monitor.console.access import hash_password, hash_token
from monitor.console.service import Console, Outside
from monitor.flow import AlertKind, Evidence
from monitor.observe.picture import WORDS, picture_state
from monitor.observe.status import Facts, camera_status
from tests.console.support import PLANTED, Served, alert, camera, name_of, plant, served, waving
from training import catalogue

API = "/console/api/v1"
OURS = {"X-VAD-Console": "1"}
TOKEN = "a-token-of-thirty-two-random-bytes"
PASSWORD = "correct horse battery"
JPEG = b"\xff\xd8\xff\xe0 a small picture \xff\xd9"
USERS = {
    "ann": {"role": "operator", "password_hash": hash_password(PASSWORD)},
    "guest": {"role": "viewer", "password_hash": hash_password("look only!")},
    "robot": {"role": "operator", "token_sha256": hash_token(TOKEN)},
}


def with_evidence(folder: Path, alert_id: str = "a1", **more: Any) -> str:
    """An alert whose clip and snapshot lie in the evidence folder."""
    there = folder / "evidence" / "camera-1" / "2026-01-01"
    there.mkdir(parents=True, exist_ok=True)
    (there / f"{alert_id}.mp4").write_bytes(bytes(range(256)) * 4)
    (there / f"{alert_id}.jpg").write_bytes(JPEG)
    link = f"camera-1/2026-01-01/{alert_id}"
    evidence = Evidence(clip=f"{link}.mp4", clip_sha256="a" * 64, snapshot=f"{link}.jpg", snapshot_sha256="b" * 64)
    return alert(alert_id, **({"evidence": evidence} | more))


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A console of this machine alone, with two alerts and scores."""
    folder = tmp_path_factory.mktemp("everybody")
    with served(plant(folder, 4), JPEG) as one:
        one.do(one.console.alerted, [with_evidence(folder), alert("a2", camera=name_of(1))])
        one.beating = waving
        one.written()
        yield one


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("guarded")
    with served(plant(folder, 2, console={"users": USERS})) as one:
        one.do(one.console.alerted, [alert()])
        one.written()
        yield one


@pytest.fixture
def web(everybody: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=everybody.address, timeout=10) as client:
        yield client


@pytest.fixture
def stranger(guarded: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.address, timeout=10) as client:
        yield client


def log_in(client: httpx.Client, name: str, password: str) -> httpx.Response:
    return client.post(f"{API}/session", json={"name": name, "password": password}, headers=OURS)


# -- what it says ---------------------------------------------------------------------------------------------------


def test_the_front_page_leads_to_the_console_and_metrics_stay_where_they_are(web: httpx.Client) -> None:
    assert web.get("/").headers["location"] == "console/"
    assert "main.js" in web.get("/", follow_redirects=True).text
    assert web.get("/livez").text == "ok\n"
    assert web.get("/metrics").status_code == 200


def test_the_api_tells_cameras_alerts_scores_and_the_shift(web: httpx.Client, everybody: Served) -> None:
    cameras = web.get(f"{API}/cameras").json()["cameras"]
    assert list(cameras) == [name_of(n) for n in range(4)]
    assert cameras["camera-1"]["status"] == "ok"
    assert {one["alert_id"] for one in web.get(f"{API}/alerts").json()} == {"a1", "a2"}
    assert [one["alert_id"] for one in web.get(f"{API}/alerts", params={"camera": "camera-2"}).json()] == ["a2"]
    time.sleep(1)
    everybody.written()
    now_s = time.time()
    span = {"from": now_s - 60, "to": now_s + 5}
    assert web.get(f"{API}/cameras/camera-1/scores", params=span).json()["points"]
    shift = web.get(f"{API}/shift", params=span).json()
    assert [row["alerts"] for row in shift["cameras"]] == [1, 1]
    assert web.get(f"{API}/cameras/camera-1").json()["settings"]["labels"] == {"hall": "1"}
    assert web.get(f"{API}/cameras/nobody").status_code == 404
    assert web.get(f"{API}/canary").json()["state"] == "off"
    assert web.get(f"{API}/cameras/camera-1/picture").content == JPEG


def test_several_pictures_come_in_one_answer_each_named_by_its_cameras_place(web: httpx.Client) -> None:
    # One that was taken out of the configuration a moment ago costs the others nothing.
    wanted = [("camera", name) for name in ("camera-2", "camera-9", "camera-1")]
    answer = web.get(f"{API}/pictures", params=wanted)
    kind, body = answer.headers["content-type"], answer.content
    assert kind.startswith("multipart/form-data; boundary=")
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    parts = [
        (part.get_param("name", header="content-disposition"), part.get_content()) for part in message.iter_parts()
    ]
    assert parts == [("0", JPEG), ("2", JPEG)]
    assert web.get(f"{API}/pictures").status_code == 422


def test_a_verdict_is_durable_told_on_and_exported_as_a_catalogue_that_training_reads(
    web: httpx.Client, everybody: Served, tmp_path: Path
) -> None:
    said = {"verdict": "real", "category": "machine", "note": "belt torn"}
    assert web.post(f"{API}/alerts/a1/verdict", json=said, headers=OURS).json() == {"done": True}
    found = web.get(f"{API}/alerts/a1").json()
    assert (found["verdict"]["verdict"], found["verdict"]["who"]) == ("real", "operator")
    assert web.post(f"{API}/alerts/a2/verdict", json={"verdict": "false"}, headers=OURS).status_code == 200
    assert web.post(f"{API}/alerts/none/verdict", json=said, headers=OURS).status_code == 404
    assert [(one.alert_id, one.verdict) for one in everybody.judged[-2:]] == [("a1", "real"), ("a2", "false")]
    first = [one.after_s for one in everybody.judged[-2:]]
    assert all(after_s is not None and 0 <= after_s < 120 for after_s in first)
    assert web.post(f"{API}/alerts/a2/verdict", json={"verdict": "false"}, headers=OURS).status_code == 200
    assert everybody.judged[-1].after_s is None, "a later verdict says nothing of how long the first took"
    listing = tmp_path / "verdicts.csv"
    listing.write_bytes(web.get(f"{API}/catalogue.csv").content)
    videos = catalogue.read(listing)
    assert [(v.path, v.label, v.kind, v.scene) for v in videos] == [
        ("camera-1/2026-01-01/a1.mp4", 1, "machine", "camera-1")
    ], "an alert without a clip is no video"
    assert listing.read_text(encoding="utf-8").splitlines()[0] == ",".join(catalogue.COLUMNS)


def test_a_verdict_keeps_to_the_schema_of_its_topic() -> None:
    import jsonschema

    told = verdict_payload("s", "c", alert_id="a", verdict="real", category=None, note="", who="ann", at_s=1.0)
    jsonschema.validate(told | {"published_at": "2026-01-01T00:00:00.000Z"}, schema("verdict"))


def test_a_shelf_needs_a_reason_and_shows_on_the_wall(web: httpx.Client, everybody: Served) -> None:
    path = f"{API}/cameras/camera-3/shelf"
    assert web.post(path, json={"seconds": 60}, headers=OURS).status_code == 422
    assert web.post(path, json={"seconds": 90_000, "reason": "x"}, headers=OURS).status_code == 422
    assert web.post(path, json={"seconds": 60, "reason": "welding until noon"}, headers=OURS).status_code == 200
    everybody.do(everybody.console.look, everybody.cameras)
    shelf = web.get(f"{API}/cameras").json()["cameras"]["camera-3"]["shelf"]
    assert (shelf["reason"], shelf["who"]) == ("welding until noon", "operator")
    assert web.post(path, json={"seconds": 0}, headers=OURS).status_code == 200
    everybody.do(everybody.console.look, everybody.cameras)
    assert web.get(f"{API}/cameras").json()["cameras"]["camera-3"]["shelf"] is None


def test_a_shelf_ends_by_itself_also_over_a_restart(tmp_path: Path) -> None:
    now_s = time.time()

    async def tell(_: object) -> None:
        return

    def begun(stack: ExitStack) -> Console:
        outside = Outside(tell_verdict=tell, detail=lambda _: ({}, {}), ask_picture=lambda _: None)
        console = Console(plant(tmp_path, 1), outside, wall=lambda: now_s)
        console.open(stack)
        return console

    def shelf(console: Console) -> object:
        console.look([camera(0)])
        return console.wall.tile(name_of(0))["shelf"]

    with ExitStack() as stack:
        console = begun(stack)
        asyncio.run(console.shelve(name_of(0), seconds=600, reason="welding", who="ann"))
        now_s += 599
        assert shelf(console) is not None
    with ExitStack() as stack:
        console = begun(stack)
        assert shelf(console) is not None, "the monitor's end does not end it"
        now_s += 2
        assert shelf(console) is None


def test_an_alert_is_acknowledged_by_the_first_who_does(web: httpx.Client) -> None:
    assert web.post(f"{API}/alerts/a2/acknowledgement", headers=OURS).status_code == 200
    first = web.get(f"{API}/alerts/a2").json()["acknowledged"]
    assert web.post(f"{API}/alerts/a2/acknowledgement", headers=OURS).status_code == 200
    assert web.get(f"{API}/alerts/a2").json()["acknowledged"] == first


# -- live -----------------------------------------------------------------------------------------------------------


def events(client: httpx.Client, most: int, last: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, name, data) of the first events."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    with client.stream("GET", f"{API}/live", headers={} if last is None else {"Last-Event-ID": last}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        one: dict[str, str] = {}
        for line in answer.iter_lines():
            key, _, value = line.partition(": ")
            if line:
                one[key] = value
                continue
            if one["event"] != "beat":
                found.append((one["id"], one["event"], json.loads(one["data"])))
            one = {}
            if len(found) == most:
                return found
    raise AssertionError("the stream ended")


def test_live_begins_with_the_whole_wall_and_goes_on_with_changes(web: httpx.Client) -> None:
    (_, first, data), (_, second, change) = events(web, 2)
    assert (first, second) == ("wall", "change")
    assert set(data["cameras"]) == {name_of(n) for n in range(4)}
    assert set(change["cameras"]["camera-1"]) == {"scores"}, "only what changed"


def test_who_comes_back_gets_what_was_missed_and_not_the_whole_wall(web: httpx.Client) -> None:
    seen = events(web, 2)[1][0]
    life, number = seen.split(".")
    time.sleep(1.2)
    missed = events(web, 2, last=seen)
    assert [name for _, name, _ in missed] == ["change", "change"]
    assert missed[0][0] == f"{life}.{int(number) + 1}"
    for foreign in ("other.1", f"{life}.999999", "nonsense", f"{life}.-1"):
        assert events(web, 1, last=foreign)[0][1] == "wall", foreign


def test_an_alert_is_heard_live(web: httpx.Client, everybody: Served) -> None:
    with web.stream("GET", f"{API}/live") as answer:
        lines = answer.iter_lines()
        everybody.do(everybody.console.alerted, [alert("a3", kind=AlertKind.RAISED)])
        end_s = time.monotonic() + 10
        for line in lines:
            assert time.monotonic() < end_s
            if line.startswith("data") and '["alert",{"alert_id":"a3"' in line:
                break


def test_viewers_that_leave_are_forgotten(web: httpx.Client, everybody: Served) -> None:
    end_s = time.monotonic() + 10
    while everybody.console.wall.viewers:
        assert time.monotonic() < end_s, "a viewer of a former test is still counted"
        time.sleep(0.1)
    with web.stream("GET", f"{API}/live") as answer:
        lines = answer.iter_lines()
        next(lines)
        assert everybody.console.wall.viewers == 1
    while everybody.console.wall.viewers:
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_who_logs_out_hears_no_more(stranger: httpx.Client) -> None:
    log_in(stranger, "ann", PASSWORD)
    with stranger.stream("GET", f"{API}/live") as answer:
        lines = answer.iter_lines()
        next(lines)
        with httpx.Client(base_url=stranger.base_url, cookies=dict(stranger.cookies)) as other:
            other.delete(f"{API}/session", headers=OURS)
        began_s = time.monotonic()
        for _ in lines:
            assert time.monotonic() - began_s < 8


def test_a_flood_of_guesses_is_turned_away(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with served(plant(tmp_path, 1, console={"users": USERS})) as one:

        def guess(number: int) -> int:
            with httpx.Client(base_url=one.address, timeout=20) as web:
                return log_in(web, f"made-up-{number}", "guess").status_code

        with ThreadPoolExecutor(24) as many:
            codes = list(many.map(guess, range(48)))
    assert codes.count(401) <= 12, "made-up names share one count"
    assert codes.count(429) >= 36


# -- evidence -------------------------------------------------------------------------------------------------------


def test_a_clip_is_served_in_parts(web: httpx.Client) -> None:
    whole = web.get(f"{API}/alerts/a1/clip")
    assert (whole.status_code, len(whole.content), whole.headers["content-type"]) == (200, 1024, "video/mp4")
    part = web.get(f"{API}/alerts/a1/clip", headers={"Range": "bytes=256-259"})
    assert (part.status_code, part.content) == (206, bytes(range(4)))
    assert web.get(f"{API}/alerts/a1/snapshot").content == JPEG
    assert web.get(f"{API}/alerts/a2/clip").status_code == 404


def test_evidence_that_was_deleted_is_said_to_be_gone(tmp_path: Path) -> None:
    with served(plant(tmp_path, 1)) as one, httpx.Client(base_url=one.address) as web:
        one.do(one.console.alerted, [with_evidence(tmp_path)])
        one.written()
        assert web.get(f"{API}/alerts/a1").json()["evidence"]["state"] == "ready"
        (tmp_path / "evidence" / "camera-1" / "2026-01-01" / "a1.mp4").unlink()
        evidence = web.get(f"{API}/alerts/a1").json()["evidence"]
        assert (evidence["clip"], evidence["snapshot"], evidence["state"]) == (False, True, "none")
        assert "keep_days" in evidence["note"]
        assert web.get(f"{API}/alerts/a1/clip").status_code == 404


def test_the_process_that_converts_a_clip_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\nexit 1\n", encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("GATE_PASSWORD", PLANTED)
    with served(plant(tmp_path, 1)) as one, httpx.Client(base_url=one.address) as web:
        one.do(one.console.alerted, [with_evidence(tmp_path)])
        one.written()
        assert web.get(f"{API}/alerts/a1/clip", params={"playable": True}).status_code == 404
    given = (tmp_path / "environment").read_text(encoding="utf-8")
    assert "PATH=" in given
    assert PLANTED not in given


@pytest.mark.parametrize(
    "path",
    [
        "/console/static/../../../plant.yaml",
        "/console/static/..%2f..%2fservice.py",
        "/console/texts/%2e%2e%2fservice.py",
        "/console/static/%2fetc%2fpasswd",
        "/console/static//etc/passwd",
        f"{API}/alerts/..%2f..%2fetc/clip",
        f"{API}/alerts/camera-1%2f2026-01-01%2fa1.mp4/clip",
        f"{API}/alerts/a1/..%2f..%2fetc%2fpasswd",
        f"{API}/alerts/a1/snapshot%00.mp4",
    ],
)
def test_no_address_leads_out_of_its_folder(everybody: Served, path: str) -> None:
    import http.client

    host, port = everybody.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)  # httpx would tidy the path up
    connection.request("GET", path)
    assert connection.getresponse().status in (404, 422)
    connection.close()


def test_evidence_outside_its_folder_is_not_served_even_if_an_alert_says_so(tmp_path: Path) -> None:
    from monitor.console.evidence import find

    folder = tmp_path / "evidence"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "out").symlink_to(tmp_path)
    (folder / "here.jpg").write_bytes(b"ours")
    (folder / "plant.yaml").write_bytes(b"password: x")
    assert find(folder, "here.jpg") == folder / "here.jpg"
    for link in (
        "../secret.jpg",
        "link.jpg",
        "out/secret.jpg",
        "/etc/passwd",
        "",
        "gone.jpg",
        "plant.yaml",
        "a\0.jpg",
        ".",
    ):
        assert find(folder, link) is None, link


# -- who may --------------------------------------------------------------------------------------------------------


def test_without_users_only_this_machines_names_are_answered_to(web: httpx.Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9108", "192.0.2.1", ""):
        assert web.get(f"{API}/cameras", headers={"Host": host}).status_code in (400, 403), host
    for host in ("localhost:9108", "127.0.0.1", "[::1]:9108"):
        assert web.get(f"{API}/cameras", headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-VAD-Console": "0"},
        OURS | {"Origin": "http://evil.example"},
        OURS | {"Origin": "null"},
        OURS | {"Sec-Fetch-Site": "cross-site"},
        OURS | {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_foreign_page_cannot_judge(web: httpx.Client, headers: dict[str, str]) -> None:
    before = web.get(f"{API}/alerts/a1").json()["verdict"]
    answer = web.post(f"{API}/alerts/a1/verdict", json={"verdict": "unsure"}, headers=headers)
    assert answer.status_code == 403
    assert web.get(f"{API}/alerts/a1").json()["verdict"] == before


def test_with_users_nothing_is_told_before_logging_in(stranger: httpx.Client) -> None:
    for path in (
        "cameras",
        "live",
        "alerts",
        "alerts/a1",
        "alerts/a1/clip",
        "shift?from=1&to=2",
        "catalogue.csv",
        "openapi.json",
    ):
        assert stranger.get(f"{API}/{path}").status_code == 401, path
    assert stranger.post(f"{API}/alerts/a1/verdict", json={"verdict": "real"}, headers=OURS).status_code == 401
    me = stranger.get(f"{API}/session").json()
    assert (me["name"], me["role"], me["site"]) == (None, None, "")


@pytest.mark.parametrize("said", ["https", "https, http"])
def test_behind_a_proxy_that_speaks_https_the_cookie_is_for_https_alone(stranger: httpx.Client, said: str) -> None:
    stranger.headers["x-forwarded-proto"] = said
    cookie = log_in(stranger, "ann", PASSWORD).headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Secure"))


def test_an_operator_logs_in_acts_and_logs_out(stranger: httpx.Client, guarded: Served) -> None:
    answer = log_in(stranger, "ann", PASSWORD)
    assert answer.json()["role"] == "operator"
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Secure" not in cookie, "it would not come back over http"
    assert stranger.post(f"{API}/alerts/a1/verdict", json={"verdict": "real"}, headers=OURS).status_code == 200
    assert stranger.post(f"{API}/alerts/a1/verdict", json={"verdict": "real"}).status_code == 403, "a form cannot"
    assert guarded.judged[-1].who == "ann"
    kept = dict(stranger.cookies)
    assert stranger.delete(f"{API}/session", headers=OURS).status_code == 200
    stranger.cookies.update(kept)
    assert stranger.get(f"{API}/cameras").status_code == 401, "the session has ended, not only its cookie"


def test_a_viewer_looks_and_cannot_act(stranger: httpx.Client) -> None:
    assert log_in(stranger, "guest", "look only!").json()["role"] == "viewer"
    assert stranger.get(f"{API}/cameras").status_code == 200
    for path in ("alerts/a1/verdict", "alerts/a1/acknowledgement", "cameras/camera-1/shelf"):
        answer = stranger.post(f"{API}/{path}", json={"verdict": "real"}, headers=OURS)
        assert answer.status_code == 403, path


def test_a_token_works_in_the_header_and_never_in_the_address(stranger: httpx.Client) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert stranger.get(f"{API}/cameras", headers=bearer).status_code == 200
    assert stranger.post(f"{API}/alerts/a1/verdict", json={"verdict": "real"}, headers=bearer).status_code == 200
    for wrong in ("x", "x" * 32, hash_token(TOKEN)):
        assert stranger.get(f"{API}/cameras", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    for key in ("token", "access_token", "vad_session"):
        assert stranger.get(f"{API}/cameras", params={key: TOKEN}).status_code == 401


def test_guessing_is_slowed_down_and_never_echoed(tmp_path: Path) -> None:
    with (
        served(plant(tmp_path, 1, console={"users": USERS})) as one,
        httpx.Client(base_url=one.address, timeout=20) as web,
    ):
        answers = [log_in(web, "ann", "guess-number-1234") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429]
        assert log_in(web, "ann", PASSWORD).status_code == 429, "the right one has to wait too"
        assert log_in(web, "guest", "look only!").status_code == 200, "others need not"
        odd = web.post(f"{API}/session", json={"name": "ann", "password": ["guess-number-1234"]}, headers=OURS)
        assert odd.status_code == 422
        assert all("guess-number" not in answer.text for answer in (*answers, odd))


def test_no_page_and_no_answer_has_a_password(everybody: Served, guarded: Served, web: httpx.Client) -> None:
    now_s = time.time()
    span = f"from={now_s - 600}&to={now_s}"
    paths = ["/", "/console/", "/metrics"] + [
        f"{API}/{rest}"
        for rest in (
            "session", "cameras", "cameras/camera-1", f"cameras/camera-1/scores?{span}", "alerts", "alerts/a1",
            f"shift?{span}", "catalogue.csv", "history", "openapi.json",
        )
    ]  # fmt: skip
    for path in paths:
        text = web.get(path, follow_redirects=True).text
        assert PLANTED not in text, path
        assert not re.search(r"://[^/\s\"]*:[^/\s\"]*@", text), path
    assert "***@192.0.2.10" in web.get(f"{API}/cameras/camera-1").text, "the address itself is shown"
    with httpx.Client(base_url=guarded.address, headers={"Authorization": f"Bearer {TOKEN}"}) as robot:
        for path in paths:
            text = robot.get(path, follow_redirects=True).text
            assert all(kept not in text for user in USERS.values() for key, kept in user.items() if key != "role"), path


def test_every_answer_carries_the_strict_headers(web: httpx.Client) -> None:
    for path in ("/console/", "/console/static/main.js", f"{API}/cameras", f"{API}/nothing", f"{API}/alerts/a1/clip"):
        headers = web.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_long_bodies_are_refused(web: httpx.Client) -> None:
    answer = web.post(f"{API}/alerts/a1/verdict", content=b"x" * 70_000, headers=OURS)
    assert answer.status_code == 413
    chunks = (b"x" * 10 for _ in range(3))
    assert web.post(f"{API}/alerts/a1/verdict", content=chunks, headers=OURS).status_code == 413


# -- settings, texts, promises --------------------------------------------------------------------------------------


def settings(tmp_path: Path, text: str) -> Plant:
    file = tmp_path / "plant.yaml"
    file.write_text("site: s\nmqtt: off\ncameras: [{name: a, url: 'file:a.mp4'}]\n" + text, encoding="utf-8")
    return load(file, {})


def test_a_console_that_others_can_reach_needs_users(tmp_path: Path) -> None:
    assert settings(tmp_path, "").serves_console
    assert not settings(tmp_path, "http: {host: 0.0.0.0, metrics: {token: 0123456789abcdef0}}\n").serves_console, (
        "metrics go on without it"
    )
    assert not settings(tmp_path, "console: {enabled: false}\n").serves_console
    with pytest.raises(ConfigError, match=r"console\.users: a console that others can reach"):
        settings(tmp_path, "http: {host: 0.0.0.0, metrics: {token: 0123456789abcdef0}}\nconsole: {enabled: true}\n")
    ann = f"console: {{users: {{ann: {{role: operator, password_hash: '{hash_password('x')}'}}}}}}\n"
    assert settings(tmp_path, "http: {host: 0.0.0.0}\n" + ann).serves_console
    with pytest.raises(ConfigError, match="expected a hash") as wrong:
        settings(tmp_path, "console: {users: {ann: {password_hash: my-plain-password}}}\n")
    assert "my-plain-password" not in str(wrong.value)


def test_the_password_program_prints_a_hash_that_fits() -> None:
    from monitor.console.access import fits

    run = subprocess.run(
        [sys.executable, "-m", "monitor.console.password"],
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    kept = run.stdout.removeprefix("password_hash: ").strip()
    assert fits(PASSWORD, kept)
    assert not fits("another", kept)
    assert PASSWORD not in run.stdout + run.stderr


def test_the_console_needs_neither_torch_nor_the_readers() -> None:
    asked = (
        "import sys, monitor.console.service; print([m for m in sys.modules"
        " if m.split('.')[0] in ('torch', 'av', 'cv2') or m.startswith('monitor.ingest')])"
    )
    run = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_both_languages_say_everything_the_page_asks_for() -> None:
    import monitor.console

    folder = Path(monitor.console.__file__).parent
    texts = {name: json.loads((folder / "texts" / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "ja")}
    said = {key for key in texts["ja"] if key.startswith("said.")}
    assert set(texts["en"]) == set(texts["ja"]) - said, "what the monitor says is English already"
    for key in said:
        assert sorted(re.findall(r"\{\w+\}", key)) == sorted(re.findall(r"\{\w+\}", texts["ja"][key])), key
    for key, text in texts["en"].items():
        blanks = re.findall(r"\{\w+\}", text)
        assert sorted(re.findall(r"\{\w+\}", texts["ja"][key])) == sorted(blanks), key
    asked = {key for file in (folder / "static").glob("*.js") for key in re.findall(r'\bt\("(\w+)"', file.read_text())}
    assert asked <= set(texts["en"])
    from monitor.console.answers import Category
    from monitor.flow import CameraStatus

    assert {f"category.{one}" for one in Category.__args__} <= set(texts["en"])  # type: ignore[attr-defined]
    assert {f"status.{one}" for one in CameraStatus} <= set(texts["en"])


def test_what_the_monitor_says_of_a_camera_can_be_read_in_japanese() -> None:
    import monitor.console

    texts = json.loads((Path(monitor.console.__file__).parent / "texts" / "ja.json").read_text(encoding="utf-8"))
    known = [
        re.compile(re.sub(r"\\\{\w\\\}", "(.+)", re.escape(key.removeprefix("said."))))
        for key in texts
        if key.startswith("said.")
    ]
    held = {"segments_held": 32, "segments_needed": 32}
    every = [
        Facts(**held),
        Facts(**held, publishes_alerts=False, drift_ppm=900.0, drift_limit_ppm=100.0),
        Facts(**held, enabled=False),
        Facts(**held, armed=False, fault="cam:554 refused the connection: is the camera on, is the port right?"),
        Facts(**held, link="lost"),
        Facts(**held, link="ended"),
        Facts(**held, link="connecting"),
        Facts(**held, awaited=True),
        Facts(segments_held=3, segments_needed=32),
        Facts(segments_held=3, segments_needed=32, barren=True, invalid_reason="decode_error"),
        Facts(**held, scored_ratio=0.5, invalid_share=0.2, recorder_short=True, recorder_s=4.0),
        Facts(**held, drift_ppm=-900.0, drift_limit_ppm=100.0, invalid_share=0.2, invalid_reason="frozen"),
        *(Facts(**held, picture_faults=(kind,)) for kind in WORDS),
    ]
    sentences = [camera_status(facts)[1] for facts in every]
    sentences += [picture_state("up", [kind], learnt=True).to_do or "" for kind in WORDS]
    sentences += [picture_state(link, [], learnt=learnt).reason for link in ("up", "lost") for learnt in (True, False)]
    parts = {part for sentence in sentences for part in sentence.split("; ")}
    assert {part for part in parts if not any(one.fullmatch(part) for one in known)} == set()


def test_the_page_is_small_and_names_no_other_host() -> None:
    import monitor.console

    folder = Path(monitor.console.__file__).parent
    files = [*(folder / "static").iterdir(), folder / "texts" / "en.json"]
    assert sum(file.stat().st_size for file in files) < 300_000
    for file in files:
        found = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text(encoding="utf-8")))
        assert found <= {"http://www.w3.org/2000/svg"}, file


def test_the_page_asks_beforehand_for_exactly_the_modules_that_it_imports() -> None:
    import monitor.console

    folder = Path(monitor.console.__file__).parent / "static"
    asked = re.findall(r'rel="modulepreload" href="static/([\w.]+)"', (folder / "index.html").read_text())
    imported, waiting = {"main.js"}, ["main.js"]
    while waiting:
        found = set(re.findall(r'from "\./([\w.]+)"', (folder / waiting.pop()).read_text())) - imported
        imported |= found
        waiting += found
    assert sorted(asked) == sorted(imported) == sorted(file.name for file in folder.glob("*.js"))


def test_the_page_and_the_wall_of_two_hundred_cameras_are_below_the_budget() -> None:
    import monitor.console
    from monitor.console.wall import SCORES, Wall
    from tests.console.support import camera

    wall, cameras = Wall("hall-3"), [camera(n) for n in range(200)]
    for n in range(SCORES + 1):
        for one in cameras:
            wall.scored(one.name, [0.123456 + n / 1000], [])
        wall.look(cameras, {})
    folder = Path(monitor.console.__file__).parent
    page = sum(file.stat().st_size for file in [*(folder / "static").iterdir(), folder / "texts" / "ja.json"])
    whole = json.dumps(wall.whole(), separators=(",", ":"))
    assert len(wall.tile("camera-200")["scores"]) == SCORES
    assert page + len(whole) < 300_000


# -- the API as it is described ---------------------------------------------------------------------------------------


def test_the_api_keeps_to_its_own_description(everybody: Served) -> None:
    """Requests made up from the OpenAPI document: no answer but those it names, in the shapes it names."""
    schemathesis = pytest.importorskip("schemathesis")
    import hypothesis
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    described = schemathesis.openapi.from_url(f"{everybody.address}{API}/openapi.json")
    described.base_url = f"{everybody.address}/console"
    skipped = {"/api/v1/live", "/api/v1/session"}
    for operation in described.get_all_operations():
        found = operation.ok()
        if found.path in skipped:
            continue

        @hypothesis.settings(
            max_examples=8,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=found.as_strategy())
        def holds(case: Any) -> None:
            answer = case.call(headers=OURS)
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
            case.validate_response(answer, checks=checks)

        holds()
