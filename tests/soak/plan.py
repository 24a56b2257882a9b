"""Which fault happens when: drawn from a seed, before anything starts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

CALM_S = 20.0
"""So long after a fault (a back-off, a bag to learn, a queue to empty) times are not called those of calm."""
WARM_UP_S = 45.0
"""Before the first fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: from ``at_s`` (seconds from the soak's start) for ``lasts_s``; ``which``: a number that its kind reads
    as a server, a process or a camera."""

    kind: str
    at_s: float
    lasts_s: float
    which: int

    @property
    def over_s(self) -> float:
        return self.at_s + self.lasts_s


LASTS_S = {
    "server stopped": (5.0, 15.0),
    "server killed": (1.0, 15.0),
    "reader killed": (0.0, 0.0),
    "reader stopped": (12.0, 12.0),
    "broker restarted": (2.0, 20.0),
    "broker killed": (2.0, 20.0),
    "broker stopped": (5.0, 15.0),
    "packets lost": (5.0, 15.0),
    "evidence disk full": (5.0, 15.0),
    "config reloaded": (2.0, 4.0),
    "config with a mistake": (2.0, 4.0),
}
"""How long each kind lasts, least and most. A stopped reader is ended by the monitor after 10 s."""


def planned(seed: int, seconds: float, kinds: Sequence[str]) -> list[Fault]:
    """Every kind once in a round, in an order drawn anew; no two at once, for then nobody could say which did what.

    The last minute is left calm: it is compared with the first.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    at_s = WARM_UP_S
    while True:
        for kind in chance.sample(sorted(kinds), len(kinds)):
            fault = Fault(kind=kind, at_s=at_s, lasts_s=chance.uniform(*LASTS_S[kind]), which=chance.randrange(1000))
            if fault.over_s > seconds - max(CALM_S, seconds / 20):
                return faults
            faults.append(fault)
            at_s = fault.over_s + chance.uniform(10.0, 50.0)


def is_calm(at_s: float, faults: Sequence[Fault]) -> bool:
    return not any(fault.at_s <= at_s < fault.over_s + CALM_S for fault in faults)
