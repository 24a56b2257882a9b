"""Logs: text or JSON lines, without a secret in them, repeats summed up.

Secrets are taken out where records are made, so that no handler, ours or another's, ever sees one.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from json import dumps
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import quote

from monitor.config import redact_addresses

HIDDEN = "***"
REPEAT_WINDOW_S = 30.0
MOST_REMEMBERED = 500
"""Different messages within one window; more, and their counts are told early."""

_CHATTY = ("amqtt", "asyncio", "matplotlib", "transitions", "uvicorn.access")
"""Their INFO is our DEBUG."""
_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}


class Redaction:
    """Text → the text without secrets: the given ones in every spelling, and the credentials of any address."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = frozenset(filter(None, secrets))
        spellings: set[str] = set()
        for secret in self.secrets:
            spellings |= {secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1], dumps(secret)[1:-1]}
        # A secret of three letters is part of many words: it is hidden where it stands alone.
        patterns = [
            re.escape(text) if len(text) > 3 else rf"(?<!\w){re.escape(text)}(?!\w)"
            for text in sorted(spellings, key=len, reverse=True)
        ]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, text: str) -> str:
        if self._pattern is not None:
            text = self._pattern.sub(HIDDEN, text)
        return redact_addresses(text)


class RedactedRecord(logging.LogRecord):
    """A log record that lost its secrets when it was made: in message, arguments, exception and stack."""

    redaction = Redaction(())
    """Of the whole process; ``set_up`` sets it."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        redact = type(self).redaction
        try:
            said = super().getMessage()
        except (TypeError, ValueError, KeyError):  # logging would print the raw arguments
            said, self.args = f"{self.msg} {self.args!r} (this message does not fit its arguments)", ()
            self.msg = said
        clean = redact(said)
        if clean != said or isinstance(self.args, Mapping):
            self.msg, self.args = clean, None
        if self.exc_info:
            raw = logging.Formatter().formatException(self.exc_info)
            self.exc_text = redact(raw)
            if self.exc_text != raw:
                self.exc_info = None  # or a handler could render it anew
        if self.stack_info:
            self.stack_info = redact(self.stack_info)


class TextLines(logging.Formatter):
    """`2026-03-01T06:30:00.000Z INFO monitor.app: message`; further lines are indented, so none can be forged."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [record.getMessage(), record.exc_text or "", record.stack_info or ""]
        if record.exc_info and not record.exc_text:
            parts[1] = self.formatException(record.exc_info)
        text = "\n".join(filter(None, parts)).replace("\r", "\\r").replace("\n", "\n    ")
        line = f"{_utc(record)} {record.levelname} {record.name}: {text}"
        return RedactedRecord.redaction(line)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, thread, exception, and what `extra` gave."""

    def format(self, record: logging.LogRecord) -> str:
        redact = RedactedRecord.redaction
        shown: dict[str, Any] = {
            "time": _utc(record),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            "thread": record.threadName,
        }
        if record.exc_info or record.exc_text:
            shown["exception"] = redact(record.exc_text or self.formatException(record.exc_info or (None,) * 3))
        if record.stack_info:
            shown["stack"] = redact(record.stack_info)
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in shown:
                plain = isinstance(value, (int, float, bool, type(None)))
                shown[name] = value if plain else redact(str(value))
        return dumps(shown, ensure_ascii=False, default=str)


def _utc(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Lines(logging.StreamHandler[TextIO]):
    """Writes lines; of the same message within ``window_s`` the first, then one line that counts the rest."""

    def __init__(
        self,
        stream: TextIO,
        formatter: logging.Formatter,
        window_s: float = REPEAT_WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self._window_s, self._clock = window_s, clock
        self._seen: dict[tuple[str, int, str], tuple[float, int, logging.LogRecord]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock()
        self._tell(now, everything=len(self._seen) >= MOST_REMEMBERED)
        key = (record.name, record.levelno, record.getMessage())
        since, more, first = self._seen.get(key, (now, -1, record))
        self._seen[key] = (since, more + 1, first)
        if first is record:
            super().emit(record)

    def close(self) -> None:
        """Tells what was held back."""
        with self.lock or threading.RLock():
            if not self.stream.closed:
                self._tell(self._clock(), everything=True)
        super().close()

    def _tell(self, now: float, everything: bool) -> None:
        over = [key for key, (since, _, _) in self._seen.items() if everything or now - since >= self._window_s]
        for key in over:
            since, more, record = self._seen.pop(key)
            if more:
                times = "once more" if more == 1 else f"{more} more times"
                told = logging.makeLogRecord(vars(record) | {"exc_info": None, "exc_text": None, "stack_info": None})
                told.msg, told.args = f"{record.getMessage()} ({times} in {now - since:.0f} s)", None
                told.created = time.time()
                super().emit(told)


def set_up(
    level: str | int = "INFO",
    json: bool = False,
    secrets: Iterable[str] = (),
    *,
    libav: bool = True,
    stream: TextIO | None = None,
) -> None:
    """Logging of this process, to ``stream`` (stderr). May be called again; ``hide`` adds secrets.

    ``level``: DEBUG, INFO, WARNING, ERROR or CRITICAL (ValueError otherwise). ``secrets``: what must never be
    shown (``Plant.secrets()``). ``libav``: its messages become records of the loggers `libav.*`; imports PyAV.
    Python's warnings and uncaught exceptions of all threads are logged too.
    """
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None:
        raise ValueError(f"the log level is DEBUG, INFO, WARNING, ERROR or CRITICAL, not '{level}'")
    RedactedRecord.redaction = Redaction(secrets)
    logging.setLogRecordFactory(RedactedRecord)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, Lines)]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(Lines(stream or sys.stderr, JsonLines() if json else TextLines()))
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if number <= logging.DEBUG else logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda gone: _log_uncaught(gone.exc_type, gone.exc_value, gone.exc_traceback)
    if libav:
        _listen_to_libav(number)


def hide(secrets: Iterable[str]) -> None:
    """From now on these must not be shown either: a reload may bring new ones, and the old may still be said."""
    RedactedRecord.redaction = Redaction({*RedactedRecord.redaction.secrets, *secrets})


def _listen_to_libav(number: int) -> None:
    import av.logging

    # libav's WARNING is chatter about every camera's stream ("max delay reached"); its errors say what is wrong.
    wanted = av.logging.INFO if number <= logging.DEBUG else av.logging.ERROR
    logging.getLogger("libav").setLevel(logging.INFO if number <= logging.DEBUG else logging.ERROR)
    av.logging.set_skip_repeated(False)  # Lines counts repeats, and does not lose the last of them
    av.logging.set_level(wanted)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt) or error is None:
        sys.__excepthook__(kind, error or kind(), traceback)
    elif not issubclass(kind, SystemExit):
        where = threading.current_thread().name
        logging.getLogger("monitor").critical(
            "%s ended thread '%s'", kind.__name__, where, exc_info=(kind, error, traceback)
        )
