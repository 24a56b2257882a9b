"""What the console's users leave in the audit log, how much they may ask, and requests made up by the thousand."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from monitor.config import ConsoleUser
from monitor.console.access import Access, hash_password
from monitor.console.guard import Guard
from monitor.console.rate import Rate
from monitor.observe.audit import NAME, read
from tests.console.support import Served, alert, name_of, plant, served, waving
from tests.console.test_api import API, JPEG, OURS, PASSWORD, TOKEN, USERS, log_in, with_evidence

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))
"""Of each operation and person."""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Served]:
    """A console with users, an alert with evidence, and one without."""
    with served(plant(tmp_path, 2, console={"users": USERS}), JPEG) as console:
        console.do(console.console.alerted, [with_evidence(tmp_path), alert("a2", camera=name_of(1))])
        console.beating = waving
        console.written()
        yield console


def rows(one: Served) -> list[dict[str, Any]]:
    """Oldest first, without their times."""
    return [
        {key: value for key, value in row.items() if key != "at"} for row in reversed(read(one.settings.state_folder))
    ]


def test_what_people_do_is_in_the_audit_log_with_name_and_address(one: Served) -> None:
    with httpx.Client(base_url=one.address, timeout=20) as web:
        log_in(web, "ann", "not her password")
        log_in(web, "my-own-p4ssword-in-the-wrong-field", "x")
        log_in(web, "ann", PASSWORD)
        for _ in range(3):  # as a player does
            assert web.get(f"{API}/alerts/a1/clip", headers={"Range": "bytes=0-9"}).status_code == 206
        web.post(f"{API}/alerts/a1/acknowledgement", headers=OURS)
        web.post(f"{API}/alerts/a1/verdict", json={"verdict": "false", "category": "animal"}, headers=OURS)
        web.post(f"{API}/alerts/none/verdict", json={"verdict": "false"}, headers=OURS)
        web.post(f"{API}/cameras/camera-1/shelf", json={"seconds": 600, "reason": "painters"}, headers=OURS)
        web.post(f"{API}/cameras/camera-1/shelf", json={"seconds": 0}, headers=OURS)
        web.get(f"{API}/catalogue.csv")
        web.delete(f"{API}/session", headers=OURS)
    here = {"address": "127.0.0.1"}
    ann = {"who": "ann"} | here
    assert rows(one) == [
        {"what": "login", "ok": False} | ann,
        {"what": "login", "ok": False, "who": None} | here,
        {"what": "login", "ok": True} | ann,
        {"what": "clip viewed", "alert": "a1"} | ann,
        {"what": "acknowledged", "alert": "a1"} | ann,
        {"what": "verdict", "alert": "a1", "verdict": "false", "category": "animal"} | ann,
        {"what": "shelved", "camera": "camera-1", "seconds": 600, "reason": "painters"} | ann,
        {"what": "unshelved", "camera": "camera-1", "seconds": 0, "reason": ""} | ann,
        {"what": "catalogue exported"} | ann,
        {"what": "logout"} | ann,
    ]
    text = (one.settings.state_folder / NAME).read_text()
    assert not [word for word in (PASSWORD, "not her password", "p4ssword", TOKEN) if word in text]


def test_the_audit_log_is_told_to_operators_only(one: Served) -> None:
    with httpx.Client(base_url=one.address, timeout=20) as web:
        assert web.get(f"{API}/audit").status_code == 401
        log_in(web, "guest", "look only!")
        assert web.get(f"{API}/audit").status_code == 403
        assert web.get(f"{API}//audit").status_code in (403, 404)
        told = web.get(f"{API}/audit", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert [(row["what"], row["who"]) for row in told] == [("login", "guest")]


def test_one_address_may_ask_so_much_and_no_more() -> None:
    async def well(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("well")(scope, receive, send)

    async def asked() -> list[httpx.Response]:
        guard = Guard(well, Access({}), Rate(burst=3, per_s=0.001))
        ours = httpx.ASGITransport(guard, client=("192.0.2.7", 1))
        other = httpx.ASGITransport(guard, client=("192.0.2.8", 1))
        async with (
            httpx.AsyncClient(transport=ours, base_url="http://localhost") as web,
            httpx.AsyncClient(transport=other, base_url="http://localhost") as second,
        ):
            paths = ["/api/v1/cameras"] * 4 + ["/"]
            return [await web.get(path) for path in paths] + [await second.get("/api/v1/cameras")]

    answers = asyncio.run(asked())
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 200, 200]
    assert answers[3].headers["retry-after"] == "1"


def test_viewers_behind_one_proxy_do_not_use_up_each_others_requests() -> None:
    async def well(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("well")(scope, receive, send)

    async def asked() -> list[int]:
        access = Access({"ann": ConsoleUser.model_validate(USERS["ann"])})
        keys = [opened[0] for _ in range(2) if (opened := access.log_in("ann", PASSWORD)) is not None]
        proxy = httpx.ASGITransport(Guard(well, access, Rate(burst=3, per_s=0.001)), client=("192.0.2.7", 1))
        cookies = [*(f"vad_session={key}" for key in keys * 4), "vad_session=made-up", "vad_session=another"]
        async with httpx.AsyncClient(transport=proxy, base_url="http://console.example") as web:
            said = [await web.get("/api/v1/cameras", headers={"cookie": cookie}) for cookie in cookies * 2]
            return [answer.status_code for answer in said]

    answers = asyncio.run(asked())
    assert answers[:8] == [200] * 6 + [429] * 2, "three each"
    assert answers[8:10] == [401, 401]
    assert answers[18:] == [401, 429], "a made-up session counts for its address"


def test_who_guesses_from_elsewhere_does_not_lock_the_operator_out() -> None:
    now_s = 0.0
    users = {"ann": ConsoleUser.model_validate(USERS["ann"])}
    access = Access(users, clock=lambda: now_s)
    for number in range(5):
        assert access.log_in("ann", f"guess {number}", "192.0.2.66") is None
    assert access.must_wait_s("ann", "192.0.2.66") == 60.0
    assert access.must_wait_s("ann", "192.0.2.7") == 0
    assert access.log_in("ann", PASSWORD, "192.0.2.7") is not None
    for number in range(25):
        access.log_in("ann", "guess", f"192.0.2.{100 + number}")
    assert access.must_wait_s("ann", "192.0.2.7") == 60.0, "from many addresses at once nobody gets in"
    now_s = 61.0
    assert access.must_wait_s("ann", "192.0.2.66") == 0
    access.log_in("nobody", "x", "192.0.2.7")
    assert len(access._failures) == 2, "forgotten when forgiven"


def test_a_session_outlives_the_monitor_but_not_its_users_password(tmp_path: Path) -> None:
    now_s, file = 1_767_268_800.0, tmp_path / "state" / "sessions.json"

    def started(users: dict[str, Any]) -> Access:
        known = {name: ConsoleUser.model_validate(user) for name, user in users.items()}
        return Access(known, file=file, wall=lambda: now_s)

    first = started(USERS)
    keys = [opened[0] for _ in range(2) if (opened := first.log_in("ann", PASSWORD)) is not None]
    first.log_out(keys[1])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(word in file.read_text() for word in (*keys, PASSWORD, USERS["ann"]["password_hash"]))
    person = started(USERS).by_session(keys[0])
    assert person is not None
    assert (person.name, person.role, person.by_cookie) == ("ann", "operator", True)
    assert started(USERS).by_session(keys[1]) is None, "logged out is logged out"
    assert started({"ann": USERS["ann"] | {"role": "viewer"}}).by_session(keys[0]) is None
    assert started({"ann": USERS["ann"] | {"password_hash": hash_password("new")}}).by_session(keys[0]) is None
    assert started({"guest": USERS["guest"]}).by_session(keys[0]) is None
    now_s += 13 * 3600
    assert started(USERS).by_session(keys[0]) is None, "a shift is over"
    now_s -= 26 * 3600
    assert started(USERS).by_session(keys[0]) is None, "a clock that was set back makes no session longer"


def test_a_page_that_was_logged_in_stays_so_when_the_monitor_comes_back(tmp_path: Path) -> None:
    settings = plant(tmp_path, 1, console={"users": USERS})
    with served(settings) as one, httpx.Client(base_url=one.address, timeout=10) as web:
        log_in(web, "guest", "look only!")
        cookies = web.cookies
    with served(settings) as one, httpx.Client(base_url=one.address, timeout=10, cookies=cookies) as web:
        assert web.get(f"{API}/session").json()["name"] == "guest"
        assert web.get(f"{API}/cameras").status_code == 200
        assert web.post(f"{API}/alerts/a1/verdict", json={"verdict": "real"}, headers=OURS).status_code == 403


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": ["ann", 1, "late"]}', "{\x00"])
def test_damaged_sessions_only_mean_logging_in_again(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sessions.json"
    file.write_text(text)
    access = Access({"ann": ConsoleUser.model_validate(USERS["ann"])}, file=file)
    assert access.by_session("a") is None
    assert access.log_in("ann", PASSWORD) is not None


def test_a_disk_that_fails_at_the_start_only_means_logging_in_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = Access({"ann": ConsoleUser.model_validate(USERS["ann"])}, file=tmp_path / ("x" * 300) / "sessions.json")
    assert "cannot be read" in caplog.text
    assert access.log_in("ann", PASSWORD) is not None
    assert "sessions will not outlive the monitor" in caplog.text


def test_a_bucket_fills_again_and_each_address_has_its_own() -> None:
    now_s = 0.0
    rate = Rate(burst=3, per_s=0.5, clock=lambda: now_s)
    assert [rate.takes("a") for _ in range(4)] == [True, True, True, False]
    assert rate.takes("b")
    now_s = 1.0
    assert not rate.takes("a")
    now_s = 2.5
    assert [rate.takes("a") for _ in range(2)] == [True, False]
    for number in range(2000):
        rate.takes(f"x{number}")
    assert len(rate._buckets) == 1000


# -- requests made up by the thousand ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("who", ["operator", "viewer", "nobody", "page"])
def test_the_api_survives_whatever_is_asked_of_it(one: Served, who: str) -> None:
    """From the console's own OpenAPI document, right and wrong: FUZZ_EXAMPLES=300 for a run by hand."""
    schemathesis = pytest.importorskip("schemathesis")
    import hypothesis

    with httpx.Client(base_url=one.address) as web:
        log_in(web, "guest", "look only!")
        session = f"vad_session={web.cookies['vad_session']}"
    headers = {
        "operator": {"Authorization": f"Bearer {TOKEN}"} | OURS,
        "viewer": {"Cookie": session} | OURS,
        "nobody": OURS,
        "page": {"Cookie": session, "Origin": "http://evil.example"},
    }[who]
    robot = {"Authorization": f"Bearer {TOKEN}"}
    described = schemathesis.openapi.from_url(f"{one.address}{API}/openapi.json", headers=robot)
    described.base_url = f"{one.address}/console"
    described.config.generation.update(modes=list(schemathesis.GenerationMode))
    tried = 0
    for operation in described.get_all_operations():
        found = operation.ok()
        if found.path == "/api/v1/live" and who != "nobody":
            continue  # it never ends
        if found.path == "/api/v1/session" and found.method == "delete" and who in ("viewer", "page"):
            continue  # it ends the session that the others need

        @hypothesis.settings(
            max_examples=FUZZ_EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=found.as_strategy())
        def holds(case: Any) -> None:
            nonlocal tried
            path = case.operation.path
            tried += 1
            answer = case.call(headers={**(case.headers or {}), **headers})
            assert answer.status_code < 500 or answer.status_code == 503, (case, answer.text)
            assert "Traceback" not in answer.text
            assert PASSWORD not in answer.text
            assert answer.headers["x-content-type-options"] == ["nosniff"]
            if who == "nobody" and path != "/api/v1/session":
                assert answer.status_code in (400, 401, 403, 404, 405, 413, 429), (case, answer.status_code)
            if who in ("viewer", "page") and case.method not in ("GET", "HEAD", "OPTIONS", "TRACE"):
                refused = (400, 403, 404, 405, 413, 429)
                assert path == "/api/v1/session" or answer.status_code in refused, (case, answer.status_code)

        holds()
    assert tried > 0
    print(f"{who}: {tried} requests")
    assert one.judged == [] or who == "operator", "nobody else's verdict is told on"
