"""What goes wrong with streams, in sentences without credentials."""

from __future__ import annotations

import errno

import av.error

NOT_VIDEO = "no video can be read from {shown}: is it one, and is it whole?"


class StreamFault(Exception):  # noqa: N818 - a fault of the stream, named by the house's word for it
    """An expected fault of a stream. ``reason`` is a word for counting, ``sentence`` says what is wrong and
    what to do."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


def unanswered(shown: str, limit_s: float) -> StreamFault:
    return StreamFault("timeout", f"{shown} did not answer within {limit_s:g} s")


def stalled(shown: str, limit_s: float) -> StreamFault:
    return StreamFault("stall", f"no data from {shown} for {limit_s:g} s")


def fault_of(error: BaseException, shown: str, limit_s: float, *, opening: bool) -> StreamFault:
    """The sentence for an error of libav; its own text holds the address with the password, so none of it is
    used."""
    if isinstance(error, av.error.ExitError | av.error.TimeoutError | TimeoutError):
        return unanswered(shown, limit_s) if opening else stalled(shown, limit_s)
    for kinds, reason, sentence in _SENTENCES:
        if isinstance(error, kinds):
            return StreamFault(reason, sentence.format(shown=shown))
    number = getattr(error, "errno", None)
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return StreamFault("unreachable", f"there is no route to {shown}")
    if number == errno.ENOMEM:
        return StreamFault("not_video", f"{shown} asks for more memory than there is: is it damaged?")
    if number == errno.EAGAIN:
        return StreamFault("network", f"{shown} gave no more data: is it whole?")
    if number == errno.EINVAL and opening:
        # What libav says of a format that LISTS (source.py) refuses.
        sentence = "{shown} is no stream: a single picture, or a list of other addresses; name the video itself"
        return StreamFault("not_video", sentence.format(shown=shown))
    if number == errno.EIO and opening:
        return StreamFault("not_video", f"{shown} broke off before a video could be recognised")
    if number == errno.EIO and shown.startswith("http"):
        return StreamFault(
            "network", f"{shown} broke off (a recording over http needs a server that can send parts of a file)"
        )
    name = type(error).__name__
    doing = "could not be opened" if opening else "broke off"
    return StreamFault("network", f"{shown} {doing} ({name}{'' if number is None else f', error {number}'})")


_SENTENCES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (av.error.ConnectionRefusedError,),
        "refused",
        "{shown} refused the connection: is the camera on, is the port right?",
    ),
    (
        (av.error.HTTPUnauthorizedError,),
        "unauthorized",
        "{shown} refused the user name or password (401): check the camera's credentials",
    ),
    ((av.error.HTTPForbiddenError,), "forbidden", "{shown} forbids access to this stream (403)"),
    (
        (av.error.HTTPNotFoundError,),
        "not_found",
        "{shown} has no stream of that path (404): check the path in the url",
    ),
    ((av.error.HTTPTooManyRequestsError,), "busy", "{shown} has too many viewers or requests (429)"),
    (
        (av.error.HTTPClientError,),
        "rejected",
        "{shown} rejected the request (4xx): check path and transport of the camera",
    ),
    ((av.error.HTTPServerError,), "server", "{shown} reported an error of its own (5xx)"),
    ((av.error.InvalidDataError,), "not_video", NOT_VIDEO),
    ((av.error.EOFError,), "ended", "{shown} ended"),
    ((av.error.ProtocolNotFoundError,), "unsupported", "{shown} uses a protocol that is not allowed here"),
    (
        (av.error.DecoderNotFoundError, av.error.PatchWelcomeError),
        "unsupported_codec",
        "{shown} sends a video codec that cannot be decoded here",
    ),
    ((av.error.FileNotFoundError,), "missing_file", "{shown} does not exist"),
    ((av.error.PermissionError,), "permission", "{shown} may not be read by this user"),
    (
        (av.error.ConnectionResetError, av.error.BrokenPipeError, av.error.ConnectionAbortedError),
        "reset",
        "{shown} closed the connection",
    ),
)
