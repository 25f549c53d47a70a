"""Frames drawn ahead by threads: the order, the pictures and the errors of a single one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import astronaut_face
import numpy as np
import pytest
from astronaut_face import moved

from sfumato.avatar import Avatar, Studio
from sfumato.crew import AHEAD, Crew
from sfumato.render.renderer import Renderer
from sfumato.stream import Stream

pytestmark = pytest.mark.unit


class Counting:
    """Stands in for a renderer: its pictures are numbers, and late ones are ready first."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken
        self.drawn: list[int] = []

    def render(self, number: int) -> SimpleNamespace:
        time.sleep(0.004 * (3 - number % 4))
        self.drawn.append(number)
        if number == self.broken:
            raise ZeroDivisionError(f"frame {number}")
        return SimpleNamespace(image=number)


@pytest.fixture(autouse=True)
def _no_hanging_threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_frames_keep_their_order(threads: int) -> None:
    assert list(Crew(threads).draw(Counting(), range(20))) == list(range(20))
    assert list(Crew(threads).draw(Counting(), ())) == []
    assert list(Crew(threads).draw(Counting(), range(1))) == [0]


@pytest.mark.parametrize("threads", [1, 3])
def test_only_some_frames_are_drawn_ahead(threads: int) -> None:
    """However long the video: memory stays the same."""
    taken = []

    def moments() -> Iterator[int]:
        for number in range(60):
            taken.append(number)
            yield number

    for done, _ in enumerate(Crew(threads).draw(Counting(), moments()), 1):
        assert len(taken) <= done + AHEAD * threads


@pytest.mark.parametrize("threads", [1, 3])
def test_what_goes_wrong_in_a_thread_comes_out(threads: int) -> None:
    renderer, seen = Counting(broken=7), []
    with pytest.raises(ZeroDivisionError, match="frame 7"):
        for number in Crew(threads).draw(renderer, range(1000)):
            seen.append(number)
    assert seen == list(range(7))
    assert len(renderer.drawn) <= 8 + AHEAD * threads


def test_what_goes_wrong_in_the_motion_comes_out() -> None:
    def moments() -> Iterator[int]:
        yield from range(5)
        raise OSError("the recording is broken")

    with pytest.raises(OSError, match="broken"):
        list(Crew(2).draw(Counting(), moments()))


@pytest.mark.parametrize("threads", [1, 3])
def test_who_stops_looking_stops_the_drawing(threads: int) -> None:
    renderer = Counting()
    pictures = Crew(threads).draw(renderer, range(1000))
    assert [next(pictures) for _ in range(3)] == [0, 1, 2]
    pictures.close()
    drawn = len(renderer.drawn)
    assert drawn <= 3 + AHEAD * threads  # those in hand are drawn where closing comes late
    time.sleep(0.03)
    assert len(renderer.drawn) == drawn


def test_threads_draw_the_same_pictures() -> None:
    portrait = astronaut_face.portrait()
    renderer = Renderer(portrait, astronaut_face.basis())
    frames = [moved(portrait, yaw=5 * n - 10, lips=n, lids=n) for n in range(5)]
    alone = [renderer.render(frame).image for frame in frames]
    for threads in (1, 3):
        together = list(Crew(threads).draw(renderer, frames))
        assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_a_whole_recording_gives_the_frames_of_its_parts(avatar: Avatar, studio: Studio) -> None:
    rng = np.random.default_rng(0)
    parts = [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (700, 3001, 2, 1400)]
    renderer = Renderer(avatar.portrait, studio.basis)
    live = Stream(renderer, studio.generator)
    expected = [f for part in parts for f in live.push(part)] + live.flush()
    found = list(Stream(renderer, studio.generator, crew=Crew(3)).run(parts))
    assert [f.index for f in found] == list(range(len(expected)))
    for one, two in zip(found, expected, strict=True):
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.samples, two.samples)
