"""What gives way when a machine is too slow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sfumato.pace import Pace, Quality
from sfumato.timebase import FPS

pytestmark = pytest.mark.unit


def told(pace: Pace, seconds: float) -> Pace:
    """A frame whose picture takes so long, where it gets one."""
    return (pace.drawn(seconds) if pace.fresh else pace).after()


def run(pace: Pace, cost: float, frames: int) -> tuple[Pace, list[Quality]]:
    """A machine on which a full picture takes ``cost`` of a frame's time."""
    seen = []
    for _ in range(frames):
        share = cost if pace.quality < Quality.PLAIN else cost / 2.5
        pace = told(pace, share / FPS)
        seen.append(pace.quality)
    return pace, seen


def test_a_fast_machine_shows_all() -> None:
    _, seen = run(Pace(), 0.8, 40 * FPS)
    assert set(seen) == {Quality.FULL}


def test_one_slow_moment_changes_nothing() -> None:
    pace, _ = run(Pace(), 0.6, 5 * FPS)
    pace = told(pace, 100 / FPS)
    assert run(pace, 0.6, 5 * FPS)[0].quality == Quality.FULL


def test_first_the_rate_gives_way_then_the_networks() -> None:
    _, seen = run(Pace(), 1.4, 20 * FPS)
    assert set(seen) == {Quality.FULL, Quality.HALF_RATE}
    _, seen = run(Pace(), 2.6, 6 * FPS)
    assert list(dict.fromkeys(seen)) == [Quality.FULL, Quality.HALF_RATE, Quality.PLAIN]
    assert seen[-1] == Quality.PLAIN


def test_half_the_rate_draws_every_second_frame() -> None:
    pace = Pace(Quality.HALF_RATE)
    fresh = []
    for _ in range(10):
        fresh.append(pace.fresh)
        pace = told(pace, 1 / FPS)
    assert fresh == [True, False] * 5


def test_what_was_given_up_comes_back() -> None:
    slow, _ = run(Pace(), 2.6, 6 * FPS)
    assert slow.quality == Quality.PLAIN
    quick, seen = run(slow, 0.4, 60 * FPS)
    assert quick.quality == Quality.FULL
    assert Quality.HALF_RATE in seen


def test_a_machine_that_is_fast_enough_again_gets_all_back() -> None:
    """A frame may take most of its time for long; less than that must be reached from below."""
    slow, _ = run(Pace(), 1.3, 5 * FPS)
    assert slow.quality == Quality.HALF_RATE
    again, seen = run(slow, 0.7, 60 * FPS)
    assert again.quality == Quality.FULL
    assert Quality.PLAIN not in seen


def test_frames_without_a_picture_do_not_keep_the_rate_down() -> None:
    """With four fifths of a frame's time for a picture a machine shows all."""
    pace = Pace(Quality.HALF_RATE)
    for _ in range(10 * FPS):
        pace = told(pace, 0.8 / FPS)
    assert pace.quality == Quality.FULL


def test_two_pictures_at_a_time_may_take_longer() -> None:
    _, seen = run(Pace(lanes=2), 1.4, 20 * FPS)
    assert set(seen) == {Quality.FULL}
    pace, seen = run(Pace(lanes=2), 1.7, 5 * FPS)
    assert pace.quality == Quality.HALF_RATE and pace.lanes == 2
    assert run(pace, 1.2, 20 * FPS)[0].quality == Quality.HALF_RATE  # one at a time
    assert run(pace, 1.0, 20 * FPS)[0].quality == Quality.FULL


def test_room_that_turns_out_to_be_none_is_tried_ever_less_often() -> None:
    """Two pictures beside each other may take longer each: a try shows what no rule can know."""
    pace, ups = Pace(), []
    for frame in range(300 * FPS):
        cost = 1.0 if pace.quality == Quality.FULL else 0.8
        before = pace.quality
        pace = told(pace, cost / FPS)
        if pace.quality < before:
            ups.append(frame / FPS)
    assert 2 <= len(ups) <= 5
    assert all(late > 1.5 * early for early, late in itertools.pairwise(np.diff(ups)))


def test_quality_does_not_flap() -> None:
    pace, _ = run(Pace(), 1.2, 10 * FPS)
    assert pace.quality == Quality.HALF_RATE
    _, seen = run(pace, 1.2, 120 * FPS)
    assert set(seen) == {Quality.HALF_RATE}
