"""What is wrong with a camera's picture and what to do about it, in words (pure). Maintenance, never an alert.

| state | scored | |
|---|---|---|
| unknown | no | no picture comes; the camera's status says why |
| frozen, black, covered, smeared | no | unfit: the status is degraded |
| blurred, moved | yes | scored, on a picture that is not the one meant |
| good | yes | none of those that are looked for |

Where several things are wrong the first of this order is the state, and ``faults`` has them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.flow import PICTURE_FAULTS, UNFIT_PICTURES

WORDS = {
    "frozen": (
        "the picture is frozen and is not scored until it moves",
        "look at the camera or its encoder",
    ),
    "black": (
        "the picture is black and is not scored",
        "look whether there is light, whether the camera sees infra-red, and whether its lens is free",
    ),
    "covered": (
        "most of the picture is covered and it is not scored",
        "look whether something hangs, lies or was painted over the lens",
    ),
    "smeared": (
        "most of the picture is damaged on its way (packets lost, data that cannot be decoded) and is not scored",
        "look at the network between the camera and here (transport: tcp sends again what was lost) and at its cable",
    ),
    "blurred": (
        "the picture is blurred; it is scored all the same",
        "clean the lens and look at its focus",
    ),
    "moved": (
        "the camera looks elsewhere than it did; it is scored all the same",
        "turn it back; what it shows for an hour is taken for wanted",
    ),
}
"""What is said, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureState:
    """What one camera's ``picture`` topic says; ``state`` as in the table above."""

    state: str
    faults: tuple[str, ...] = ()
    scored: bool
    reason: str
    to_do: str | None = None
    learnt: bool = False
    """Whether there is a reference yet: without one nothing is said of covered, blurred and moved."""


def picture_state(link: str, faults: Sequence[str], *, learnt: bool) -> PictureState:
    """Of a camera whose stream stands so (``CameraHealth.link``) and whose reader found ``faults``."""
    if link != "up":
        reason = "switched off in the configuration (enabled: false)" if link == "disabled" else "no picture comes"
        return PictureState(state="unknown", scored=False, reason=reason)
    found = tuple(kind for kind in PICTURE_FAULTS if kind in faults)
    if not found:
        reason = "nothing is wrong with the picture" if learnt else "the picture is being learnt"
        return PictureState(state="good", scored=True, reason=reason, learnt=learnt)
    return PictureState(
        state=found[0],
        faults=found,
        scored=not UNFIT_PICTURES & set(found),
        reason="; ".join(WORDS[kind][0] for kind in found),
        to_do="; ".join(WORDS[kind][1] for kind in found),
        learnt=learnt,
    )
