"""A bounded slice of `make fuzz`: another seed than that of the long run, so that each tries something new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fuzz.media import Account, batch, fuzz
from tests.fuzz.mutation import KINDS, recordings


@pytest.mark.slow
def test_every_recording_is_read_whole_before_it_is_damaged(tmp_path: Path) -> None:
    account = Account()
    batch(recordings(tmp_path), account, tmp_path)
    assert account.outcomes == {"whole": len(KINDS)}
    assert account.segments == len(KINDS)


@pytest.mark.slow
def test_damaged_recordings_end_with_a_sentence_and_no_reader_is_lost_unnoticed() -> None:
    result = fuzz(1000, seed=2, seconds=45)
    assert result["problems"] == [], json.dumps(result, indent=1)
    assert result["files"] >= 100
    assert result["outcomes"]["unreadable"] > 0
    assert result["segments"] > 0
    assert not any("could not be opened (" in fault for fault in result["faults"]), result["faults"]
