"""Frames keep an even time on the wire; a stop is a gap in it, not a delay of all that follows."""

from __future__ import annotations

import pytest

from sfumato.server.timeline import Timeline
from sfumato.timebase import FPS

pytestmark = pytest.mark.unit


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_uneven_frames_stay_in_step() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    for index in range(500):
        clock.now = 100 + index / FPS + (0.03 if index % 3 == 0 else 0.0)
        assert timeline.place(index) == index


def test_a_stop_becomes_a_gap() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    for index in range(50):
        clock.now += 1 / FPS
        timeline.place(index)
    clock.now += 0.8
    places = []
    for index in range(50, 100):
        clock.now += 1 / FPS
        places.append(timeline.place(index))
    assert places[0] == 50 + round(0.8 * FPS)
    assert places == list(range(places[0], places[0] + 50))


def test_a_slow_microphone_leaves_no_gaps() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    for index in range(60 * FPS):
        clock.now += 1.0005 / FPS
        assert timeline.place(index) == index
