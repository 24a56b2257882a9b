"""What is wrong with a picture, and what only looks like it; every kind with its confusers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ingest import sight
from monitor.ingest.figures import figures_of
from monitor.ingest.sight import KINDS, Patience, Sight
from tests.monitor.ingest.rooms import Grey, blurred, covered, lit, moved, room

AFTER_S = dict.fromkeys(KINDS, 10.0)
CHANCE = np.random.default_rng(7)


def seen(picture: Grey, noise: float = 2.0) -> Grey:
    """As a camera with noise sees it."""
    return np.clip(picture + CHANCE.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


class Camera:
    """A second a look, at 224 x 224."""

    def __init__(self, after_s: dict[str, float | None] | None = None, scene: Grey | None = None) -> None:
        self.sight = Sight(AFTER_S if after_s is None else after_s)
        self.scene = room(seed=3, height_px=224, width_px=224) if scene is None else scene
        self.now_s = 0.0
        self.show(lambda scene: scene, sight.LEARN_LOOKS + 5)

    def show(self, change: Callable[[Grey], Grey], looks: int, noise: float = 2.0) -> list[str | None]:
        """What each look forbids to score."""
        answers = []
        for _ in range(looks):
            self.now_s += 1.0
            luma = seen(change(self.scene), noise)
            answers.append(self.sight.see(np.repeat(luma[:, :, None], 3, axis=2), self.now_s))
        return answers


FAULTS = [
    ("black", lambda one: lit(one, 0.02), "black"),
    ("a black night with noise", lambda one: np.full_like(one, 6), "black"),
    ("a hand over the lens", lambda one: covered(one, 1), "covered"),
    ("a white bag over five sixths", lambda one: covered(one, 2, 0.85, 190.0), "covered"),
    ("out of focus", lambda one: blurred(one, 3), "blurred"),
    ("moved by 5 %", lambda one: moved(one, 11, 11), "moved"),
    ("moved by a fifth", lambda one: moved(one, 45, 0), "moved"),
]


@pytest.mark.parametrize(("change", "kind"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_fault_is_a_state_after_its_time_and_not_before_and_ends(change: Callable[[Grey], Grey], kind: str) -> None:
    camera = Camera()
    answers = camera.show(change, 9)
    assert camera.sight.faults == ()
    answers += camera.show(change, 3)
    assert camera.sight.faults == (kind,)
    # A hand over the lens must not become an alarm: not one such picture is scored.
    assert set(answers) == {kind if kind in ("black", "covered") else None}
    assert camera.show(lambda one: one, 4)[-1] is None
    assert camera.sight.faults == (kind,), "one good moment is no end"
    camera.show(lambda one: one, 2)
    assert camera.sight.faults == ()


CONFUSERS: list[tuple[str, Callable[[Grey], Grey], float]] = [
    ("half the lights go out", lambda one: lit(one, 0.5), 2.0),
    ("a dusk with much noise", lambda one: lit(one, 0.3), 5.0),
    ("all lights on", lambda one: lit(one, 1.5), 2.0),
    ("night vision: bright is dark", lambda one: (255 - one).astype(np.uint8), 2.0),
    ("half of the view is covered", lambda one: covered(one, 4, 0.4), 2.0),
    ("a lens that shakes by a pixel", lambda one: moved(one, 1, 0), 2.0),
    ("somebody stands close by", lambda one: _with(one, 60, 80), 2.0),
]


def _with(one: Grey, left: int, wide: int) -> Grey:
    out = one.copy()
    out[40:, left : left + wide] = 60
    return out


@pytest.mark.parametrize(("change", "noise"), [row[1:] for row in CONFUSERS], ids=[row[0] for row in CONFUSERS])
def test_what_only_looks_like_a_fault_is_none(change: Callable[[Grey], Grey], noise: float) -> None:
    camera = Camera()
    assert camera.show(change, 60, noise) == [None] * 60
    assert camera.sight.faults == ()


def test_a_short_fault_is_not_said_but_not_scored_either() -> None:
    camera = Camera()
    assert camera.show(lambda one: covered(one, 1), 5) == ["covered"] * 5
    camera.show(lambda one: one, 60)
    assert camera.sight.faults == ()


def test_what_is_switched_off_is_neither_said_nor_kept_from_scoring() -> None:
    camera = Camera({**AFTER_S, "covered": None, "blurred": None, "moved": None})
    assert camera.show(lambda one: covered(one, 1), 30) == [None] * 30
    assert camera.sight.faults == ()
    assert not Sight(dict.fromkeys(KINDS)).watches


def test_a_ball_in_an_empty_room_is_no_reference() -> None:
    """What only passes is not missed when it is gone."""
    camera = Camera(scene=np.full((224, 224), 60, np.uint8))
    for step in range(60):
        top, left = 13 * step % 170, 29 * step % 170

        def ball(one: Grey, top: int = top, left: int = left) -> Grey:
            out = one.copy()
            out[top : top + 40, left : left + 40] = 230
            return out

        assert camera.show(ball, 1) == [None]
    assert camera.sight.faults == ()


def test_a_view_that_stays_for_an_hour_is_learnt_and_the_former_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "ADOPT_S", 60.0)
    camera = Camera()

    def elsewhere(one: Grey) -> Grey:
        return moved(one, 90, 0)

    camera.show(elsewhere, 30)
    assert camera.sight.faults == ("moved",)
    camera.show(elsewhere, 60)
    assert camera.sight.faults == ()
    for change in (lambda one: one, elsewhere) * 3:
        camera.show(change, 30)
        assert camera.sight.faults == ()


def test_a_painted_area_says_nothing() -> None:
    """A border between what is seen and what is ignored never moves: it must not hold a view."""
    ignored = np.zeros((224, 224), np.bool_)
    ignored[:, :120] = True
    scene = room(seed=3, height_px=224, width_px=224)

    def painted(one: Grey) -> npt_picture:
        luma = seen(one)
        luma[ignored] = 0
        return np.repeat(luma[:, :, None], 3, axis=2)

    one = Sight(AFTER_S)
    for second in range(40):
        one.see(painted(scene), float(second), ignored)
    assert one.faults == ()
    for second in range(40, 60):
        one.see(painted(moved(scene, 40, 10)), float(second), ignored)
    assert one.faults == ("moved",)


npt_picture = np.ndarray


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    gain=st.floats(0.4, 1.4),
    noise=st.floats(0.0, 4.0),
    shape=st.sampled_from([(56, 56), (112, 160), (172, 172), (224, 224), (256, 320)]),
)
def test_light_alone_changes_no_edge_of_any_room(seed: int, gain: float, noise: float, shape: tuple[int, int]) -> None:
    scene = room(seed=seed, height_px=shape[0], width_px=shape[1])
    camera = Camera(scene=scene)
    assert camera.show(lambda one: lit(one, gain), 3, noise) == [None] * 3


@settings(max_examples=100, deadline=None)
@given(turns=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=80), after_s=st.floats(1, 30))
def test_a_state_takes_its_time_both_ways(turns: list[tuple[float, bool]], after_s: float) -> None:
    patience = Patience(after_s)
    shown_s = hidden_s = 0.0
    for step_s, shows in turns:
        before = patience.lasts
        patience.turn(step_s, shows=shows)
        shown_s = shown_s + step_s if shows else shown_s
        hidden_s = 0.0 if shows else hidden_s + step_s
        if patience.lasts and not before:
            assert shows and shown_s >= after_s - 1e-6
        if before and not patience.lasts:
            assert not shows and hidden_s <= sum(step for step, _ in turns)
        if not shows and hidden_s >= after_s / 2 + 1e-6:
            assert not patience.lasts


def test_figures_are_numbers_for_any_picture() -> None:
    for picture in (np.zeros((56, 57, 3), np.uint8), np.full((300, 56, 3), 255, np.uint8)):
        figures = figures_of(picture)
        assert np.isfinite([figures.mean, figures.spread, figures.brightest, figures.sharpness]).all()
        assert np.isfinite(figures.edges).all() and np.isfinite(figures.layout).all()
