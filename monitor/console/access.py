"""Who may look, who may act: passwords and tokens against their hashes, sessions, and patience with guessers.

Nothing here is ever logged or stored but hashes. Sessions outlive the monitor, in a file that has the hashes of their
keys: a wall in a control room must not wait for somebody's password after every restart. One whose user is gone, has
another role or another password by then is over. scrypt costs a guesser what it costs us: 16 MB and some 50 ms, one
at a time, and after five wrong passwords from one address, or thirty from all, a name has to wait.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monitor.config import ConsoleUser
from monitor.files import replacing

log = logging.getLogger(__name__)

Role = Literal["viewer", "operator"]
SESSION_S = 12 * 3600.0
"""A shift; then one logs in again."""
MOST_SESSIONS = 1000
MOST_FAILURES = 5
"""Of a name from one address: who guesses from elsewhere does not lock the operator out …"""
MOST_FAILURES_OF_ALL = 30
"""… unless from many addresses at once."""
ANYWHERE = "*"
FORGIVE_S = 60.0
_N, _R, _P = 16_384, 8, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who asks. ``by_cookie``: a browser sends it by itself, so that foreign pages could use it."""

    name: str
    role: Role
    by_cookie: bool = False


EVERYBODY = Person(name="operator", role="operator", by_cookie=True)
"""Without users: whoever is on this machine. Foreign pages reach it too, like a cookie."""


def hash_password(password: str, salt: bytes | None = None) -> str:
    """``scrypt:<salt>:<hash>``, what plant.yaml keeps."""
    salt = salt or secrets.token_bytes(16)
    made = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=32)
    return f"scrypt:{base64.b64encode(salt).decode()}:{base64.b64encode(made).decode()}"


def hash_token(token: str) -> str:
    """A token is 32 random bytes: nobody guesses it from its hash, however fast that is."""
    return hashlib.sha256(token.encode()).hexdigest()


def fits(password: str, kept: str) -> bool:
    try:
        salt = base64.b64decode(kept.split(":")[1], validate=True)
    except (ValueError, IndexError):
        return False
    return hmac.compare_digest(hash_password(password, salt), kept)


@dataclass(frozen=True, slots=True)
class _Session:
    person: Person
    until_s: float
    """Seconds since 1970."""


class Access:
    """``users`` empty: everybody who reaches the service is an operator. ``file`` keeps the sessions; None: nothing."""

    def __init__(
        self,
        users: Mapping[str, ConsoleUser],
        *,
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._users = users
        self._file = file
        self._clock, self._wall = clock, wall
        self._lock = threading.Lock()
        self._sessions = self._kept()
        """By the hash of their key."""
        self._failures: dict[tuple[str, str], list[float]] = {}
        """By name ('' for names that nobody has) and address."""
        self._nobody = hash_password(secrets.token_hex(8))
        self._tokens = {
            user.token_sha256.get_secret_value(): Person(name=name, role=user.role)
            for name, user in users.items()
            if user.token_sha256 is not None
        }

    @property
    def is_open(self) -> bool:
        return not self._users

    def by_token(self, token: str) -> Person | None:
        return self._tokens.get(hash_token(token))

    def by_session(self, key: str) -> Person | None:
        session = self._sessions.get(hash_token(key))
        return None if session is None or session.until_s <= self._wall() else session.person

    def knows(self, name: str) -> bool:
        return name in self._users

    def must_wait_s(self, name: str, address: str = "") -> float:
        """How long this name is not tried any more, after too many wrong passwords. Made-up names share one count."""
        known = name if name in self._users else ""
        with self._lock:
            of_one = self._wait_s((known, address), MOST_FAILURES)
            return max(of_one, self._wait_s((known, ANYWHERE), MOST_FAILURES_OF_ALL))

    def _wait_s(self, key: tuple[str, str], most: int) -> float:
        now_s = self._clock()
        recent = [at_s for at_s in self._failures.get(key, ()) if now_s - at_s < FORGIVE_S]
        return max(recent[-most] + FORGIVE_S - now_s, 0.0) if len(recent) >= most else 0.0

    def _failed(self, known: str, address: str) -> None:
        now_s = self._clock()
        self._failures = {key: ats for key, ats in self._failures.items() if now_s - ats[-1] < FORGIVE_S}
        for place in (address, ANYWHERE):
            self._failures[known, place] = [*self._failures.get((known, place), ())[-MOST_FAILURES_OF_ALL:], now_s]

    def log_in(self, name: str, password: str, address: str = "") -> tuple[str, Person] | None:
        """The key of a new session. Takes as long for a name that nobody has. Blocks: on a thread."""
        user = self._users.get(name)
        kept = None if user is None else user.password_hash
        with self._lock:  # one at a time
            right = fits(password, self._nobody if kept is None else kept.get_secret_value())
            if user is None or kept is None or not right:
                self._failed(name if user is not None else "", address)
                return None
            self._failures.pop((name, address), None)
            person = Person(name=name, role=user.role, by_cookie=True)
            key = secrets.token_urlsafe(32)
            now_s = self._wall()
            self._sessions = {k: session for k, session in self._sessions.items() if session.until_s > now_s}
            while len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[hash_token(key)] = _Session(person, now_s + SESSION_S)
            self._keep()
            return key, person

    def log_out(self, key: str) -> None:
        """Blocks on the disk."""
        with self._lock:
            if self._sessions.pop(hash_token(key), None) is not None:
                self._keep()

    # -- the file ---------------------------------------------------------------------------------------------------

    def _kept(self) -> dict[str, _Session]:
        """Those of a former life; none where the file is not what we wrote: people log in again."""
        found: dict[str, _Session] = {}
        if self._file is None or not self._users:
            return found
        now_s = self._wall()
        try:
            if not self._file.is_file():
                return found
            for key, (name, user_hash, until_s) in json.loads(self._file.read_text(encoding="utf-8")).items():
                user = self._users.get(name)
                if user is not None and _of_user(user) == user_hash and now_s < until_s <= now_s + SESSION_S:
                    found[key] = _Session(Person(name=name, role=user.role, by_cookie=True), float(until_s))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("console: the sessions in %s cannot be read (%s): log in again", self._file, error)
            return {}
        return found

    def _keep(self) -> None:
        """Whole or not at all. A disk that fails keeps nobody out."""
        if self._file is None:
            return
        said = {
            key: (one.person.name, _of_user(self._users[one.person.name]), one.until_s)
            for key, one in self._sessions.items()
        }
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replacing(self._file) as part:
                part.touch(mode=0o600)
                part.write_text(json.dumps(said), encoding="utf-8")
        except OSError as error:
            log.warning("console: sessions will not outlive the monitor: %s cannot be written (%s)", self._file, error)


def _of_user(user: ConsoleUser) -> str:
    """Changes with the role and with the password; tells nothing of either."""
    kept = "" if user.password_hash is None else user.password_hash.get_secret_value()
    return hashlib.sha256(f"{user.role} {kept}".encode()).hexdigest()
