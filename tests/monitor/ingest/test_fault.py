"""An error of libav becomes a sentence that a person can act on, whatever its number."""

from __future__ import annotations

import errno

import av.error
import pytest

from monitor.ingest.fault import fault_of


@pytest.mark.parametrize(
    ("number", "opening", "sentence"),
    [
        (errno.ENOMEM, True, "a.mp4 asks for more memory than there is: is it damaged?"),
        (errno.ENOMEM, False, "a.mp4 asks for more memory than there is: is it damaged?"),
        (errno.EAGAIN, False, "a.mp4 gave no more data: is it whole?"),
        (errno.EHOSTUNREACH, True, "there is no route to a.mp4"),
        (
            errno.EINVAL,
            True,
            "a.mp4 is no stream: a single picture, or a list of other addresses; name the video itself",
        ),
        (errno.EIO, True, "a.mp4 broke off before a video could be recognised"),
    ],
)
def test_an_errors_number_is_told_in_words(number: int, opening: bool, sentence: str) -> None:
    assert fault_of(av.error.FFmpegError(number, "secret"), "a.mp4", 5.0, opening=opening).sentence == sentence
