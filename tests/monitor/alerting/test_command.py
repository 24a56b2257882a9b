"""What a command topic's bytes may be: anything. What is obeyed: little."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerting.command import LARGEST_BYTES, Command, Refused, answer_payload, judge
from monitor.alerting.contract import Topics, iso, schema
from monitor.config.plant import COMMANDS

from .support import NOON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NEAR = st.fixed_dictionaries(
    {},
    optional={
        "schema_version": st.just(1) | JSON,
        "id": st.text() | JSON,
        "command": st.sampled_from(COMMANDS) | JSON,
        "at": st.sampled_from([iso(NOON), "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]) | JSON,
        "for_s": st.sampled_from([60, 86_400, 10**400, float("nan")]) | JSON,
        "reason": st.text() | JSON,
        "who": st.text() | JSON,
        "other": JSON,
    },
)


def judged(payload: bytes, **more: Any) -> Command | Refused:
    return judge(payload, **{"camera": "gate", "retained": False, "allowed": COMMANDS, "now_wall_s": NOON} | more)


def said(**more: Any) -> bytes:
    return json.dumps({"schema_version": 1, "id": "c1", "command": "arm"} | more).encode()


def check(payload: bytes) -> None:
    """Refused in a sentence, or a command that its schema knows too; either can be answered."""
    one = judged(payload)
    if isinstance(one, Command):
        jsonschema.validate(json.loads(payload), schema("command"))
    else:
        assert one.reason
        assert "\n" not in one.reason
    if one.id is not None:
        answer = answer_payload(
            "works",
            "gate",
            id=one.id,
            command=one.command,
            done=isinstance(one, Command),
            reason=one.reason or "done",
            who=one.who,
            at_wall_s=NOON,
        )
        jsonschema.validate(answer | {"published_at": iso(NOON)}, schema("answer"))
        json.dumps(answer, ensure_ascii=False).encode()


@given(st.binary(max_size=200) | st.sampled_from([b"[" * 4000, b"{" * 4000, b"1" * 4096, b"\xff\xfe", b""]))
def test_any_bytes_are_refused_or_a_command(payload: bytes) -> None:
    check(payload)


@given(JSON | NEAR)
def test_any_json_is_refused_or_a_command(what: Any) -> None:
    check(json.dumps(what).encode())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"schema_version": 2}, "schema_version must be 1"),
        ({"schema_version": True}, "schema_version must be 1"),
        ({"id": ""}, "id must be 1 to 64"),
        ({"id": "a\nb"}, "id must be 1 to 64"),
        ({"command": "reboot"}, "expected a command of: disarm, arm"),
        ({"shell": "x"}, "1 unknown keys"),
        ({"command": "disarm", "for_s": 60}, "disarm needs a reason"),
        ({"command": "disarm", "reason": "welding"}, "disarm needs for_s"),
        ({"command": "disarm", "reason": "  ", "for_s": 60}, "disarm needs a reason"),
        ({"command": "disarm", "reason": "welding", "for_s": 86_401}, "for_s must be 1 to 86400"),
        ({"command": "disarm", "reason": "welding", "for_s": float("nan")}, "for_s must be 1 to 86400"),
        ({"at": iso(NOON - 61)}, "said 61 s ago"),
        ({"at": iso(NOON + 61)}, "said 61 s ahead"),
        ({"at": "2026-03-01T12:00:00"}, "a time with its zone"),
        ({"who": "x" * 65}, "who must be 1 to 64"),
    ],
)
def test_what_is_refused_and_the_sentence(more: dict[str, Any], words: str) -> None:
    one = judged(said(**more))
    assert isinstance(one, Refused)
    assert words in one.reason
    assert one.id == (None if "id" in more else "c1")


def test_what_the_topic_and_the_config_refuse() -> None:
    assert "retain" in refusal(judged(said(), retained=True))
    assert "no such camera" in refusal(judged(said(), camera=None))
    assert "arm is not among mqtt.commands" in refusal(judged(said(), allowed=["disarm"]))
    assert "at most 4096 bytes" in refusal(judged(b" " * (LARGEST_BYTES + 1)))


def refusal(one: Command | Refused) -> str:
    assert isinstance(one, Refused)
    return one.reason


def test_what_is_obeyed() -> None:
    assert judged(said(at=iso(NOON - 60))) == Command(id="c1", camera="gate", command="arm")
    assert judged(said(command="disarm", for_s=86_400, reason=" welding ", who="anna")) == Command(
        id="c1", camera="gate", command="disarm", for_s=86_400.0, reason="welding", who="anna"
    )


def test_an_answer_goes_beside_its_command() -> None:
    topics = Topics("vad", "plant 7")
    assert topics.commands == "vad/plant 7/cameras/+/command"
    assert topics.answer(topics.camera("command", "command")) == "vad/plant 7/cameras/command/answer"
