"""Can the camera still see what it is there to see? Its pictures against a slowly learnt reference of its own.

Pure but for NumPy: no clock, no libav. Each picture that is looked at either shows a fault or does not
(``Look.shows``); ``Patience`` makes a lasting state of it. The kinds:

* ``black``: no part of the picture is bright.
* ``covered``: where the reference has edges there are none any more, nor is the layout of light and dark the same.
* ``blurred``: the layout is the reference's, but fine detail has gone.
* ``moved``: there are edges as before, but not where the reference has them.

The first two are unfit to be scored: such a segment is invalid at once, so that no hand over the lens becomes an
alarm; the maintenance message waits for ``after_s``. The other two are scored on. What
needs no reference is told elsewhere: ``frozen`` by freeze.py, ``smeared`` by what the decoder says (cutter.py).

The reference is the mean of a camera's first pictures, and follows slowly while nothing is wrong. A view that stays for
``ADOPT_S`` is taken for wanted and learnt beside the former ones, ``VIEWS`` at most: positions of a PTZ camera, lamps
and night. References live as long as the reader of the camera: a restart learns anew, and does not see what was moved
meanwhile. The thresholds come from tests/bench/picture_health.py, chosen on some scenes and measured on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from monitor.flow import UNFIT_PICTURES, Floats, Pictures
from monitor.ingest.figures import BLOCKS, CELLS, Figures, figures_of

KINDS = ("black", "covered", "blurred", "moved")
"""The worst first."""

LEARN_LOOKS = 20
"""A reference is the mean of so many pictures before anything is compared to it."""
FOLLOW = 1 / 600
"""How far it goes with each picture then: halfway in some seven minutes."""
ADOPT_S = 3600.0
VIEWS = 4
LONGEST_STEP_S = 3.0
"""Between two looks; a hole in the stream is no evidence of anything."""

BLACK_BELOW = 30.0
STRUCTURE = 0.02
"""Mean edge of a block of the reference (ln brightness) that makes it one to be compared."""
STEADY = 0.5
"""Share of a block's edges that must always have been the same."""
LEAST_BLOCKS = 8
"""With fewer a camera looks at nothing that could be missed: it is not said to be covered or moved."""
AGREES = 0.45
"""Correlation of a block's edges with the reference's."""
FLAT = 0.4
"""Share of the reference's edges below which a block has none."""
COVERED_FLAT, COVERED_HELD, COVERED_LAYOUT, COVERED_EDGES = 0.52, 0.45, 0.8, 0.6
MOVED_HELD = 0.4
MOVED_FLAT = 0.5
BLURRED_BY = 0.7
BLURRED_LAYOUT = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One picture against the reference; the shares are None while there is none to compare it with."""

    shows: frozenset[str]
    held: float | None = None
    """Share of the reference's blocks whose edges are where they were."""
    flat: float | None = None
    """Share of them that have lost their edges."""
    edges: float | None = None
    """All edges there are, as a share of the reference's."""
    layout: float | None = None
    """Correlation of light and dark, block by block."""
    softer: float | None = None
    """ln of how much fine detail was lost."""


class View:
    """A learnt reference: the running mean of one view's figures."""

    def __init__(self) -> None:
        self.looks = 0
        self._edges: Floats = np.zeros((2, CELLS, CELLS), np.float32)
        self._energy: Floats = np.zeros((BLOCKS, BLOCKS), np.float32)
        self._layout: Floats = np.zeros((BLOCKS, BLOCKS), np.float32)
        self._sharpness = 0.0

    @property
    def learnt(self) -> bool:
        return self.looks >= LEARN_LOOKS

    def learn(self, figures: Figures) -> None:
        self.looks += 1
        share = max(1 / self.looks, FOLLOW)
        self._edges += share * (figures.edges - self._edges)
        self._energy += share * (_size(_by_block(figures.edges)) ** 2 - self._energy)
        self._layout += share * (figures.layout - self._layout)
        self._sharpness += share * (figures.sharpness - self._sharpness)

    def compare(self, figures: Figures) -> Look:
        mine, seen = _by_block(self._edges), _by_block(figures.edges)
        size_mine, size_seen = _size(mine), _size(seen)
        # What only passed by is in the mean too, but is little of what was seen there.
        compared = (size_mine > STRUCTURE) & (size_mine > STEADY * np.sqrt(self._energy))
        held = flat = None
        if np.count_nonzero(compared) >= LEAST_BLOCKS:
            agree = (mine * seen).mean(-1) / (size_mine * size_seen + 1e-6)
            held = float(np.mean(agree[compared] > AGREES))
            flat = float(np.mean(size_seen[compared] < FLAT * size_mine[compared]))
        return Look(
            shows=frozenset(),
            held=held,
            flat=flat,
            edges=float(size_seen.mean() / (size_mine.mean() + 1e-6)),
            layout=_correlation(self._layout, figures.layout),
            softer=self._sharpness - figures.sharpness,
        )


class Sight:
    """Of one camera; one thread. ``after_s``: how long each kind must show before it is a state, None: not looked
    for."""

    def __init__(self, after_s: Mapping[str, float | None]) -> None:
        self._patience = {kind: Patience(limit_s) for kind in KINDS if (limit_s := after_s.get(kind)) is not None}
        self._views = [View()]
        self._new: View | None = None
        self._new_s = 0.0
        self._looked_s: float | None = None

    @property
    def watches(self) -> bool:
        return bool(self._patience)

    @property
    def learnt(self) -> bool:
        return self._views[0].learnt

    @property
    def faults(self) -> tuple[str, ...]:
        """The states that last, the worst first."""
        return tuple(kind for kind, patience in self._patience.items() if patience.lasts)

    def forget_time(self) -> None:
        """The stream was opened anew: what lies between says nothing, the reference stays."""
        self._looked_s = None

    def see(
        self,
        picture: Pictures,
        captured_s: float,
        ignored: npt.NDArray[np.bool_] | None = None,
    ) -> str | None:
        """Why a segment that shows this picture must not be scored (one of ``UNFIT_PICTURES``), or None."""
        look = self.look(figures_of(picture, ignored), captured_s)
        return next((kind for kind in KINDS if kind in UNFIT_PICTURES and kind in look.shows), None)

    def look(self, figures: Figures, captured_s: float) -> Look:
        step_s = 0.0 if self._looked_s is None else min(max(captured_s - self._looked_s, 0.0), LONGEST_STEP_S)
        self._looked_s = captured_s
        look = self._judge(figures, step_s)
        look = replace(look, shows=look.shows & frozenset(self._patience))
        for kind, patience in self._patience.items():
            patience.turn(step_s, shows=kind in look.shows)
        return look

    def _judge(self, figures: Figures, step_s: float) -> Look:
        if figures.brightest < BLACK_BELOW:
            return Look(shows=frozenset({"black"}))
        first = self._views[0]
        if not first.learnt:
            first.learn(figures)
            return Look(shows=frozenset())
        views = [(view, view.compare(figures)) for view in self._views]
        view, look = max(views, key=lambda one: one[1].held if one[1].held is not None else one[1].layout or 0.0)
        shows = shown_by(look)
        if not shows:
            view.learn(figures)
            self._new = None
        elif "moved" in shows:
            self._consider(figures, step_s)
        return replace(look, shows=shows)

    def _consider(self, figures: Figures, step_s: float) -> None:
        """Learns what is seen in place of the known views, and makes it one of them when it stays."""
        if self._new is None or (self._new.learnt and "moved" in shown_by(self._new.compare(figures))):
            self._new, self._new_s = View(), 0.0
        self._new.learn(figures)
        self._new_s += step_s
        if self._new_s >= ADOPT_S:
            self._views = [self._new, *self._views][:VIEWS]
            self._new = None


class Patience:
    """Makes a state of what single pictures, or segments, show: it lasts when it was seen for ``after_s`` on balance,
    and ends when it was not for half as long (those that do not show it count twice)."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._shown_s = 0.0
        self.lasts = False

    def turn(self, step_s: float, *, shows: bool) -> None:
        self._shown_s = min(max(self._shown_s + (step_s if shows else -2 * step_s), 0.0), self._after_s)
        if self._shown_s >= self._after_s:
            self.lasts = True
        elif self._shown_s == 0.0 and not shows:
            self.lasts = False


def shown_by(look: Look) -> frozenset[str]:
    """The kinds that one comparison speaks for. A picture that is covered is not also blurred or moved."""
    held, flat = look.held, look.flat
    layout, softer = look.layout or 0.0, look.softer or 0.0
    if held is not None and flat is not None:
        bare = look.edges is not None and look.edges < COVERED_EDGES  # else it is another place, and a plain one
        if flat > COVERED_FLAT and held < COVERED_HELD and layout < COVERED_LAYOUT and bare:
            return frozenset({"covered"})
        if held < MOVED_HELD and flat < MOVED_FLAT and softer < BLURRED_BY:
            return frozenset({"moved"})
    if softer > BLURRED_BY and layout > BLURRED_LAYOUT:
        return frozenset({"blurred"})
    return frozenset()


def _by_block(edges: Floats) -> Floats:
    """(2, 56, 56) → (8, 8, 2 · 49)."""
    side = CELLS // BLOCKS
    blocks = edges.reshape(2, BLOCKS, side, BLOCKS, side).transpose(1, 3, 0, 2, 4)
    return blocks.reshape(BLOCKS, BLOCKS, -1)


def _size(blocks: Floats) -> Floats:
    size: Floats = np.sqrt(np.einsum("yxk,yxk->yx", blocks, blocks) / blocks.shape[-1])
    return size


def _correlation(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (np.sqrt((one * one).sum() * (other * other).sum()) + 1e-6))
