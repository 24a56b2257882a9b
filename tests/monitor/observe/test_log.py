"""Logs: formats, repeats, and no secret by any way."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import av
import av.logging
import pytest

from monitor.config import StreamUrl
from monitor.observe.log import JsonLines, Lines, Redaction, TextLines, set_up
from tests.conftest import ROOT, free_port

SECRET = "hunter22"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers, hooks = root.level, list(root.handlers), (sys.excepthook, threading.excepthook)
    factory = logging.getLogRecordFactory()
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)
    logging.setLogRecordFactory(factory)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = hooks
    av.logging.set_level(None)
    av.logging.set_skip_repeated(True)


@pytest.fixture(params=[False, True], ids=["text", "json"])
def lines(request: pytest.FixtureRequest) -> Callable[[], str]:
    stream = io.StringIO()
    set_up("DEBUG", request.param, [SECRET, "ab", "pä ss"], stream=stream)
    return stream.getvalue


def test_a_line_of_text_has_time_level_logger_and_message() -> None:
    stream = io.StringIO()
    set_up("INFO", stream=stream)
    logging.getLogger("monitor.app").info("camera '%s': found", "gate")
    logging.getLogger("monitor.app").debug("not said")
    time, _, rest = stream.getvalue().partition(" ")
    assert rest == "INFO monitor.app: camera 'gate': found\n"
    assert len(time) == len("2026-03-01T06:30:00.000Z")


def test_a_line_of_json_has_what_extra_gave() -> None:
    stream = io.StringIO()
    set_up("INFO", json=True, stream=stream)
    logging.getLogger("monitor.app").warning("lost", extra={"camera": "gate", "attempt": 3})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "logger": "monitor.app",
        "message": "lost",
        "thread": "MainThread",
        "camera": "gate",
        "attempt": 3,
    }


def nested() -> None:
    try:
        raise OSError(f"cannot open rtsp://admin:other@host/a with {SECRET}")
    except OSError as error:
        raise RuntimeError("rtsp://admin:p%40ss@host/b") from error


@pytest.mark.parametrize(
    "say",
    [
        lambda log: log.error("password hunter22"),
        lambda log: log.error("password %s", SECRET),
        lambda log: log.error("%(url)s", {"url": "rtsp://admin:other@host/a", "more": SECRET}),
        lambda log: log.error("open %s", "rtsp://admin:other@host/a"),
        lambda log: log.error("open rtsp://%s:%s@host/a", "admin", "other"),
        lambda log: log.error("open %r", {"url": "rtsp://admin:o@ther@host/a?pwd=other"}),
        lambda log: log.error("get http://host/v?user=admin&password=other&x=1"),
        lambda log: log.error(ValueError("rtsp://admin:other@host")),
        lambda log: log.error("wrong %d %s", SECRET, "rtsp://admin:other@host"),
        lambda log: log.error("fine", extra={"url": "rtsp://admin:other@host", "word": SECRET}),
        lambda log: log.error("login %s", StreamUrl("rtsp://admin:other@host/a")),
        lambda log: log.error("two ab words, p%C3%A4%20ss and pä ss"),
        lambda log: av.logging.log(av.logging.ERROR, "rtsp", "rtsp://admin:other@host/a said hunter22"),
    ],
)
def test_no_secret_is_in_a_message(
    lines: Callable[[], str], caplog: pytest.LogCaptureFixture, say: Callable[[logging.Logger], None]
) -> None:
    say(logging.getLogger("monitor.test"))
    assert lines().count("\n") == 1
    for shown in (lines(), caplog.text, str([(record.msg, record.args) for record in caplog.records])):
        for secret in (SECRET, "other", "o@ther", " ab ", "%C3%A4", "pä ss"):
            assert secret not in shown
    assert "***" in lines() or lines().endswith("monitor.test: fine\n")


def test_no_secret_is_in_a_traceback_of_any_handler(lines: Callable[[], str]) -> None:
    elsewhere = io.StringIO()
    handler = logging.StreamHandler(elsewhere)
    logging.getLogger("monitor.test").addHandler(handler)
    try:
        nested()
    except RuntimeError:
        logging.getLogger("monitor.test").exception("failed", stack_info=True)
    logging.getLogger("monitor.test").removeHandler(handler)
    for shown in (lines(), elsewhere.getvalue()):
        assert "RuntimeError: rtsp://***@host/b" in shown
        assert "cannot open rtsp://***@host/a with ***" in shown
        assert SECRET not in shown
        assert "Traceback" in shown


def test_what_libav_says_of_an_address_is_logged_without_its_credentials(lines: Callable[[], str]) -> None:
    address = f"http://admin:{SECRET}@127.0.0.1:{free_port()}/a"
    with pytest.raises(OSError, match="refused") as raised:
        av.open(address, timeout=2)
    logging.getLogger("monitor.test").error("camera 'gate': %s", raised.value)
    assert SECRET not in lines()
    assert "http://***@127.0.0.1" in lines()
    av.logging.log(av.logging.ERROR, "h264", "error while decoding MB 3 4")
    assert "libav.h264" in lines()


def test_a_message_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    set_up("INFO", stream=stream)
    logging.getLogger("monitor").info("label %s", "a\n2026-03-01T00:00:00.000Z INFO monitor: all is well")
    assert [line[:5] for line in stream.getvalue().split("\n")][1:] == ["    2", ""]


def test_repeats_are_one_line_that_counts_them() -> None:
    now = [100.0]
    stream = io.StringIO()
    handler = Lines(stream, logging.Formatter("%(message)s"), window_s=30, clock=lambda: now[0])

    def say(text: str) -> None:
        handler.handle(logging.LogRecord("monitor", logging.ERROR, "", 0, text, None, None))

    for _ in range(4):
        say("decode error")
        now[0] += 1
    say("camera lost")
    now[0] = 131.0
    say("decode error")
    now[0] = 140.0
    say("decode error")
    handler.close()
    assert stream.getvalue().split("\n") == [
        "decode error",
        "camera lost",
        "decode error (3 more times in 31 s)",
        "decode error",
        "decode error (once more in 9 s)",
        "",
    ]


def test_different_messages_do_not_pile_up_in_memory() -> None:
    stream = io.StringIO()
    handler = Lines(stream, TextLines(), clock=lambda: 0.0)
    for number in range(2000):
        handler.handle(logging.LogRecord("monitor", logging.ERROR, "", 0, f"message {number}", None, None))
    assert len(handler._seen) <= 500
    assert stream.getvalue().count("\n") == 2000


def test_a_second_set_up_replaces_the_first_and_its_secrets() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up("INFO", secrets=["onetwo"], stream=first)
    set_up("WARNING", json=True, secrets=["threefour"], stream=second)
    logging.getLogger("monitor").warning("onetwo threefour")
    logging.getLogger("monitor").info("not said")
    assert first.getvalue() == ""
    assert [json.loads(line)["message"] for line in second.getvalue().splitlines()] == ["onetwo ***"]


def test_an_unknown_level_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="the log level is DEBUG, INFO, WARNING, ERROR or CRITICAL, not 'loud'"):
        set_up("loud")


def test_warnings_of_python_are_logged_without_secrets(lines: Callable[[], str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("rtsp://admin:other@host is old", DeprecationWarning, stacklevel=1)
    assert "rtsp://***@host is old" in lines()
    assert "py.warnings" in lines()


@pytest.mark.parametrize("where", ["main", "thread"])
def test_an_uncaught_exception_ends_the_process_and_is_logged_without_secrets(where: str) -> None:
    script = (
        "import threading\nfrom monitor.observe.log import set_up\nset_up('INFO', True, ['hunter22'], libav=False)\n"
        "def fail():\n    raise RuntimeError('rtsp://admin:other@host hunter22')\n"
    )
    script += "fail()\n" if where == "main" else "threading.Thread(target=fail, name='scorer').start()\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if where == "main" else 0)
    line = json.loads(done.stderr)
    thread = "MainThread" if where == "main" else "scorer"
    assert line["message"] == f"RuntimeError ended thread '{thread}'"
    assert line["exception"].endswith("RuntimeError: rtsp://***@host ***")
    assert "other" not in done.stderr
    assert "hunter22" not in done.stderr


def test_a_short_secret_is_hidden_where_it_stands_alone() -> None:
    redact = Redaction(["ab", "", "a/b c"])
    assert redact("ab table (ab) a/b c a/b%20c a%2Fb%20c") == "*** table (***) *** *** ***"


def test_json_lines_stay_one_line() -> None:
    record = logging.LogRecord("monitor", logging.ERROR, "", 0, "a\nb", None, None)
    assert "\n" not in JsonLines().format(record)
