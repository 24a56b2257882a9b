"""The routes. The page uses these and nothing else; ``api/v1/openapi.json`` describes them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sqlite3
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import StringConstraints

from monitor.console import bags, catalogue, reading
from monitor.console.access import SESSION_S, Person
from monitor.console.answers import (
    AlertDetail,
    AlertNow,
    AuditRow,
    CameraDetail,
    CanaryNow,
    Curve,
    Done,
    HistoryState,
    Judgement,
    LogIn,
    Me,
    Problem,
    Shelving,
    Shift,
    Similar,
    WallNow,
)
from monitor.console.evidence import TYPES, find
from monitor.console.guard import COOKIE, session_key
from monitor.console.history import HistoryError

if TYPE_CHECKING:
    from monitor.console.service import Console

MOST_VIEWERS = 200
GONE = "deleted: evidence is kept for evidence.keep_days and up to evidence.keep_mb"
UNJUDGED_S = 86_400.0
MOST_PICTURES = 60
"""In one request …"""
PICTURES_WAIT_S = 0.5
"""… where one camera that gives no picture must not hold up the others'."""
MOST_LOGGING_IN = 4
"""Each costs 50 ms of a core: a flood of guesses must find its end before it finds the scorer."""
LANGUAGES = ("en", "ja")
_STATIC = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript"} | {
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Nobody is logged in."},
    403: {"model": Problem, "description": "Not allowed: the role, a foreign page, or a foreign name of this host."},
    404: {"model": Problem, "description": "There is no such thing."},
    413: {"model": Problem, "description": "Too long."},
    422: {"model": Problem, "description": "Not as it should be."},
    429: {"model": Problem, "description": "Too many requests: wait a while."},
    503: {"model": Problem, "description": "Not now: the monitor starts, or its disk fails."},
}
Time = Annotated[float, Query(ge=0, le=4e9, allow_inf_nan=False, description="seconds since 1970")]
Name = Annotated[str, StringConstraints(max_length=200)]
Key = Annotated[str, Path(max_length=200, pattern=r"^[^\x00-\x1f/]+$")]


def build(console: Console) -> FastAPI:
    """The console without its guard."""
    made = FastAPI(
        title="vad-monitor console",
        version=console.version,
        description="Times (`*_s`, `from`, `to`) are seconds since 1970, UTC. "
        "POST and DELETE with a session's cookie need the header `X-VAD-Console: 1`.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        separate_input_output_schemas=False,
    )
    made.add_exception_handler(RequestValidationError, _wrong)
    made.add_exception_handler(HistoryError, _unkept)
    made.add_exception_handler(sqlite3.Error, _unread)
    for part in (_session(console), _now(console), _past(console), _acts(console), _pages()):
        made.include_router(part)
    return made


def _person(request: Request) -> Person:
    person: Person | None = request.state.person
    if person is None:
        raise HTTPException(401, "log in first")
    return person


def _address(request: Request) -> str | None:
    return None if request.client is None else request.client.host


def _session(console: Console) -> APIRouter:
    router = APIRouter(prefix="/api/v1", responses=_PROBLEMS, tags=["session"])
    trying = 0

    def me(person: Person | None) -> dict[str, Any]:
        return {
            "name": None if person is None else person.name,
            "role": None if person is None else person.role,
            "open": console.access.is_open,
            "site": console.site if person is not None else "",
            "version": console.version,
            "pictures": console.pictures,
        }

    @router.get("/session", response_model=Me)
    async def who_am_i(request: Request) -> Any:
        return me(request.state.person)

    @router.post("/session", response_model=Me)
    async def log_in(request: Request, response: Response, said: LogIn) -> Any:
        nonlocal trying
        if trying >= MOST_LOGGING_IN:
            raise HTTPException(429, "others are logging in: try again", {"retry-after": "1"})
        wait_s = console.access.must_wait_s(said.name, _address(request) or "")
        if wait_s > 0:
            raise HTTPException(429, f"too many wrong passwords: wait {wait_s:.0f} s", {"retry-after": f"{wait_s:.0f}"})
        trying += 1
        try:
            address = _address(request) or ""
            opened = await run_in_threadpool(console.access.log_in, said.name, said.password, address)
        finally:
            trying -= 1
        # A name that nobody has may be a password, typed into the wrong field.
        known = said.name if console.access.knows(said.name) else None
        await console.audit("login", who=known, address=_address(request), ok=opened is not None)
        if opened is None:
            raise HTTPException(401, "the name or the password is wrong")
        key, person = opened
        # Who says so without such a proxy has a cookie that their own browser keeps back: nobody else is harmed.
        scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
        secure = scheme.partition(",")[0].strip() == "https"  # of several proxies the first met the browser
        response.set_cookie(COOKIE, key, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=secure)
        return me(person)

    @router.delete("/session", response_model=Done)
    async def log_out(request: Request, response: Response) -> Any:
        key = session_key(request.headers)
        person: Person | None = request.state.person
        if key is not None:
            await run_in_threadpool(console.access.log_out, key)
        if person is not None and not console.access.is_open:
            await console.audit("logout", who=person.name, address=_address(request))
        response.delete_cookie(COOKIE)
        return {"done": True}

    return router


def _now(console: Console) -> APIRouter:
    router = APIRouter(prefix="/api/v1", responses=_PROBLEMS, tags=["now"])

    @router.get("/cameras", response_model=WallNow)
    async def all_cameras() -> Any:
        return console.wall.whole()

    @router.get(
        "/live",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "wall, then change after change; beats."}
        },
    )
    async def live(
        request: Request,
        last: Annotated[str | None, Query(max_length=64, description="the id of the last event that was heard")] = None,
    ) -> Response:
        """Server-sent events. `wall`: everything, as of /cameras. `change`: `cameras` (only the keys that changed;
        `scores` are new ones), `removed`, `news`. With `Last-Event-ID` or `last` only what was missed."""
        if console.wall.viewers >= MOST_VIEWERS or console.wall.closed:
            raise HTTPException(503, "too many viewers, or the monitor is ending")
        key = session_key(request.headers)

        def may() -> bool:
            """Who logs out, or whose session ends, hears no more."""
            by_cookie = not console.access.is_open and "authorization" not in request.headers
            return not by_cookie or (key is not None and console.access.by_session(key) is not None)

        events = console.wall.follow(request.headers.get("last-event-id") or last, may)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    @router.get("/cameras/{camera}", response_model=CameraDetail)
    async def one_camera(camera: Key) -> Any:
        try:
            tile = console.wall.tile(camera)
            facts, settings = console.outside.detail(camera)
        except KeyError:
            raise HTTPException(404, "there is no such camera") from None
        return {"camera": tile, "facts": facts, "settings": settings, "attention": console.wall.attention(camera)}

    @router.get(
        "/cameras/{camera}/picture",
        response_class=Response,
        responses={
            200: {"content": {"image/jpeg": {}}, "description": "The newest picture, private areas black."},
            204: {"description": "This camera gives no picture just now."},
        },
    )
    async def picture(camera: Key) -> Response:
        if camera not in console.wall.names or not console.pictures:
            raise HTTPException(404, "there is no such camera, or pictures are switched off")
        found = await console.picture(camera)
        if found is None:
            return Response(status_code=204)
        jpeg, captured_s = found
        return Response(jpeg, media_type="image/jpeg", headers={"x-captured-s": f"{captured_s:.3f}"})

    @router.get(
        "/pictures",
        response_class=Response,
        responses={
            200: {"content": {"multipart/form-data": {}}, "description": "A part a picture, private areas black."}
        },
    )
    async def several(camera: Annotated[list[Name], Query(min_length=1, max_length=MOST_PICTURES)]) -> Response:
        """The newest pictures of several cameras. A part is named by its camera's place in the request (0 is the first)
        and its file by when it was captured; a camera that gives none just now, or is gone, has no part."""
        if not console.pictures:
            raise HTTPException(404, "pictures are switched off")
        known = set(console.wall.names)
        asked = [(at, name) for at, name in enumerate(camera) if name in known]
        found = await asyncio.gather(*(console.picture(name, PICTURES_WAIT_S) for _, name in asked))
        edge = secrets.token_hex(16)
        parts = [
            f'--{edge}\r\nContent-Disposition: form-data; name="{at}"; filename="{one[1]:.3f}.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n".encode()
            + one[0]
            + b"\r\n"
            for (at, _), one in zip(asked, found, strict=True)
            if one is not None
        ]
        body = b"".join([*parts, f"--{edge}--\r\n".encode()])
        return Response(body, media_type=f"multipart/form-data; boundary={edge}")

    @router.get("/canary", response_model=CanaryNow)
    async def canary() -> Any:
        """Is the watch on the monitor itself well: a clip that goes the cameras' way and must give what it gave."""
        return console.outside.canary()

    @router.get("/history", response_model=HistoryState)
    def history_state() -> Any:
        kept = console.history
        if kept is None:
            return {"fault": "starting", "dropped": 0, "unjudged": None}
        unjudged = None if kept.fault else reading.unjudged(console.path, console.clock() - UNJUDGED_S)
        return {"fault": kept.fault, "dropped": kept.dropped, "unjudged": unjudged}

    return router


def _past(console: Console) -> APIRouter:
    router = APIRouter(prefix="/api/v1", responses=_PROBLEMS, tags=["history"])

    @router.get("/cameras/{camera}/scores", response_model=Curve)
    def curve(camera: Key, from_: Annotated[Time, Query(alias="from")], to: Time) -> Any:
        _ordered(from_, to)
        return reading.scores(console.path, camera, from_, to)

    @router.get("/alerts", response_model=list[AlertNow])
    def listed(
        camera: Annotated[str | None, Query(max_length=200)] = None,
        from_: Annotated[float | None, Query(alias="from", ge=0, le=4e9, allow_inf_nan=False)] = None,
        to: Annotated[float | None, Query(ge=0, le=4e9, allow_inf_nan=False)] = None,
        verdict: Literal["real", "false", "unsure", "none"] | None = None,
        before: Annotated[str | None, Query(max_length=200)] = None,
        most: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Any:
        """Newest first; `verdict=none`: those nobody judged; `before`: older than this alert."""
        found = {"camera": camera, "from_s": from_, "to_s": to, "verdict": verdict, "before": before, "most": most}
        return reading.alerts(console.path, **found)  # type: ignore[arg-type]

    @router.get("/alerts/{alert_id}", response_model=AlertDetail)
    def one_alert(alert_id: Key) -> Any:
        found = reading.alert(console.path, alert_id)
        if found is None:
            raise HTTPException(404, "there is no such alert")
        for what in ("clip", "snapshot"):
            if found["evidence"][what] and console.evidence(alert_id, what) is None:
                found["evidence"] |= {what: False, "state": "none", "note": GONE}
        newer, older = reading.neighbours(console.path, alert_id)
        more = {"attention": bags.attention(console.path, alert_id), "newer": newer, "older": older}
        return found | more | {"clip_ends_s": found["captured_s"] + console.post_roll_s}

    @router.get("/alerts/{alert_id}/similar", response_model=list[Similar])
    def alike(alert_id: Key) -> Any:
        """Other alerts of the same camera whose bags were most like this one's, with their verdicts."""
        return bags.similar(console.path, alert_id)

    @router.get(
        "/alerts/{alert_id}/{what}",
        response_class=FileResponse,
        responses={
            200: {"content": {"video/mp4": {}, "video/x-matroska": {}, "image/jpeg": {}}, "description": "The file."},
            206: {"description": "A part of it."},
            416: {"description": "There is no such part."},
        },
    )
    async def evidence(
        request: Request,
        alert_id: Key,
        what: Literal["clip", "snapshot"],
        playable: Annotated[bool, Query(description="the clip as H.264, made at its first view")] = False,
    ) -> Response:
        """The link comes from the alert; nothing of the request becomes a path."""
        if playable and what == "clip":
            path = await console.playable(alert_id)
        else:
            path = await run_in_threadpool(console.evidence, alert_id, what)
        if path is None:
            raise HTTPException(404, "this alert has no such evidence (any more)")
        await console.viewed(alert_id, what, who=_person(request).name, address=_address(request))
        return FileResponse(path, media_type=TYPES[path.suffix], headers={"cache-control": "private, max-age=3600"})

    @router.get("/shift", response_model=Shift)
    def shift(from_: Annotated[Time, Query(alias="from")], to: Time) -> Any:
        _ordered(from_, to)
        return reading.shift(console.path, from_, to)

    @router.get(
        "/catalogue.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}, "description": "Judged alerts as a list that training reads."}},
    )
    def export(request: Request) -> Response:
        console.outside.audit("catalogue exported", who=_person(request).name, address=_address(request))
        text = catalogue.write(console.path, lambda link: find(console.folder, link) is not None)
        named = {"content-disposition": 'attachment; filename="catalogue.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=named)

    return router


def _ordered(from_s: float, to_s: float) -> None:
    if from_s >= to_s:
        raise HTTPException(422, "from must be before to")


def _acts(console: Console) -> APIRouter:
    router = APIRouter(prefix="/api/v1", responses=_PROBLEMS, tags=["acts"])

    @router.post("/alerts/{alert_id}/verdict", response_model=Done)
    async def judge(request: Request, alert_id: Key, said: Judgement) -> Any:
        """Durable when it is answered; published on MQTT. A later verdict replaces it, the former stays known."""
        who = _person(request).name
        done = await console.judge(alert_id, verdict=said.verdict, category=said.category, note=said.note, who=who)
        if done:
            facts = {"alert": alert_id, "verdict": said.verdict, "category": said.category}
            await console.audit("verdict", who=who, address=_address(request), **facts)
        return _found(done)

    @router.post("/alerts/{alert_id}/acknowledgement", response_model=Done)
    async def acknowledge(request: Request, alert_id: Key) -> Any:
        """Somebody has seen it: it makes no sound any more."""
        who = _person(request).name
        done = await console.acknowledge(alert_id, who=who)
        if done:
            await console.audit("acknowledged", who=who, address=_address(request), alert=alert_id)
        return _found(done)

    @router.post("/cameras/{camera}/shelf", response_model=Done)
    async def shelve(request: Request, camera: Key, said: Shelving) -> Any:
        """For so long the camera does not come first and makes no sound on the console. It goes on being scored,
        its alerts are published and kept."""
        if camera not in console.wall.names:
            raise HTTPException(404, "there is no such camera")
        if said.seconds and not said.reason:
            raise HTTPException(422, "a shelf needs a reason")
        who = _person(request).name
        await console.shelve(camera, seconds=said.seconds, reason=said.reason, who=who)
        facts = {"camera": camera, "seconds": said.seconds, "reason": said.reason}
        await console.audit("shelved" if said.seconds else "unshelved", who=who, address=_address(request), **facts)
        return {"done": True}

    @router.get("/audit", response_model=list[AuditRow], response_model_exclude_unset=True)
    def audited(most: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Any:
        """For operators: who logged in, looked at clips, judged, shelved; starts, ends and reloads. Newest first."""
        return console.outside.audited(most)

    return router


def _found(done: bool) -> dict[str, bool]:
    if not done:
        raise HTTPException(404, "there is no such alert")
    return {"done": True}


def _pages() -> APIRouter:
    """Files of the package, read once: a name that is not among them is not there, whatever it spells."""
    router = APIRouter(include_in_schema=False)
    files = _read("static") | {f"texts/{language}.json": _file("texts", f"{language}.json") for language in LANGUAGES}

    def answer(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such page")
        body, kind, tag = files[name]
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=kind, headers=headers)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return answer(request, "static/index.html")

    @router.api_route("/{folder}/{name}", methods=["GET", "HEAD"])
    async def file(request: Request, folder: str, name: str) -> Response:
        return answer(request, f"{folder}/{name}")

    return router


def _read(folder: str) -> dict[str, tuple[bytes, str, str]]:
    found = resources.files("monitor.console").joinpath(folder)
    return {f"{folder}/{entry.name}": _file(folder, entry.name) for entry in found.iterdir() if entry.is_file()}


def _file(folder: str, name: str) -> tuple[bytes, str, str]:
    body = resources.files("monitor.console").joinpath(folder, name).read_bytes()
    kind = _STATIC[name[name.rindex(".") :]]
    return body, kind, f'"{hashlib.sha256(body).hexdigest()[:20]}"'


async def _wrong(_: Request, error: Exception) -> Response:
    """Which field, and why: never what was in it, which may be a password."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    sentences = [".".join(str(part) for part in one["loc"][1:]) + ": " + one["msg"] for one in found]
    return JSONResponse({"detail": "; ".join(sentences)[:1000]}, 422)


async def _unkept(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 503)


async def _unread(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": f"the history cannot be read ({error})"}, 503)
