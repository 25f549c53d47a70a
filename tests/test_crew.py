"""Processes that help to draw: the same pictures, and nothing lost with one of them."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import astronaut_face
import numpy as np
import pytest
from astronaut_face import moved

import sfumato.crew
import sfumato.helper as module
from sfumato.crew import Crew
from sfumato.helper import Helper
from sfumato.latent import MotionFrame
from sfumato.render.decoder import Decoder
from sfumato.render.light import Light
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

pytestmark = pytest.mark.unit

_DIES_AT_ONCE = (sys.executable, "-c", "")
_DIES_WHEN_ASKED = (
    sys.executable,
    "-c",
    "import sys; sys.stdout.write(chr(1)); sys.stdout.flush(); sys.stdin.buffer.read(1)",
)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(
        astronaut_face.portrait(),
        astronaut_face.basis(),
        Slide.load(),
        Light.load(),
        Decoder.load(),
    )


@pytest.fixture(scope="module")
def frames() -> list[MotionFrame]:
    portrait = astronaut_face.portrait()
    return [moved(portrait, yaw=4 * n - 10, lips=0.5 * n) for n in range(6)]


@pytest.fixture(scope="module")
def pictures(renderer: Renderer, frames: list[MotionFrame]) -> list[np.ndarray]:
    return [renderer.render(frame).image for frame in frames]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that a test starts; all of them must have ended by its end."""
    found: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def noted(*args, **options) -> subprocess.Popen[bytes]:
        found.append(start(*args, **options))
        return found[-1]

    monkeypatch.setattr(module.subprocess, "Popen", noted)
    yield found
    assert all(process.poll() is not None for process in found)


def test_a_helper_draws_the_same_pixels(
    renderer: Renderer, frames: list[MotionFrame], pictures: list[np.ndarray], started: list
) -> None:
    helper = Helper()
    explicit = Renderer(renderer.portrait, astronaut_face.basis())
    for frame, expected in zip(frames[:2], pictures, strict=False):
        assert (helper.painted(renderer, frame) == expected).all()
        assert (helper.painted(explicit, frame) == explicit.render(frame).image).all()
    helper.close()
    assert [process.returncode for process in started] == [0]
    assert (helper.painted(renderer, frames[2]) == pictures[2]).all()  # drawn here


def test_a_frame_that_comes_alone_is_drawn_by_a_helper_that_knows_the_portrait(
    renderer: Renderer,
    frames: list[MotionFrame],
    pictures: list[np.ndarray],
    started: list,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = Crew(2, helpers=True)
    (helper,) = crew._helpers
    assert crew.processes() == [started[0].pid]
    helper._up.result(30)
    assert not helper.knows(renderer)
    assert (crew.draw_one(renderer, frames[0]) == pictures[0]).all()  # here; it learns meanwhile
    with helper._one_at_a_time:
        assert helper.knows(renderer)
        assert (crew.draw_one(renderer, frames[1]) == pictures[1]).all()  # here, as it is busy
    here: list[object] = []
    monkeypatch.setattr(Renderer, "render", lambda *given: here.append(given))
    for frame, picture in zip(frames, pictures, strict=True):
        assert (crew.draw_one(renderer, frame) == picture).all()
    assert not here
    plain = crew.draw_one(renderer, frames[0], plain=True)
    assert not here
    monkeypatch.undo()
    assert (plain == renderer.render(frames[0], plain=True).image).all()
    crew.close()


def test_a_helper_forgets_portraits_that_nobody_has_any_more(
    renderer: Renderer, frames: list[MotionFrame], pictures: list[np.ndarray], started: list
) -> None:
    helper = Helper()
    for _ in range(2):
        other = Renderer(renderer.portrait, astronaut_face.basis())
        expected = other.render(frames[0]).image
        assert (helper.painted(other, frames[0]) == expected).all()
        del other
        gc.collect()
        assert len(helper._gone) == 1
        assert (helper.painted(renderer, frames[0]) == pictures[0]).all()
        assert not helper._gone
    helper.close()
    assert [process.returncode for process in started] == [0]


def test_a_crew_with_helpers_keeps_the_order(
    renderer: Renderer, frames: list[MotionFrame], pictures: list[np.ndarray], started: list
) -> None:
    crew = Crew(2, helpers=True)
    for _ in range(3):  # with a helper that is not up yet, and with one that is
        found = list(crew.draw(renderer, frames))
        assert all((a == b).all() for a, b in zip(found, pictures, strict=True))
    crew.close()
    assert len(started) == 1


@pytest.mark.parametrize("command", [_DIES_AT_ONCE, _DIES_WHEN_ASKED, ("/nowhere/python",)])
def test_without_its_helper_a_crew_draws_all_the_same(
    command: tuple[str, ...],
    renderer: Renderer,
    frames: list[MotionFrame],
    pictures: list[np.ndarray],
    started: list,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_COMMAND", command)
    crew = Crew(2, helpers=True)
    for _ in range(2):
        found = list(crew.draw(renderer, frames))
        assert all((a == b).all() for a, b in zip(found, pictures, strict=True))
    crew.close()


def test_a_helper_that_is_lost_is_started_again_after_a_while(
    renderer: Renderer,
    frames: list[MotionFrame],
    pictures: list[np.ndarray],
    started: list,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crew = Crew(2, helpers=True)
    started[0].kill()
    started[0].wait()
    for frame, picture in zip(frames[:2], pictures, strict=False):
        crew._helpers[0].drawn_now(renderer, frame, False)  # notices it
        assert (crew.draw_one(renderer, frame) == picture).all()
    assert len(started) == 1
    monkeypatch.setattr(sfumato.crew, "_PAUSE", 0.0)
    assert (crew.draw_one(renderer, frames[2]) == pictures[2]).all()
    assert crew.processes() == [started[1].pid]
    found = list(crew.draw(renderer, frames))
    assert all((a == b).all() for a, b in zip(found, pictures, strict=True))
    crew.close()
    crew._helpers[0].drawn_now(renderer, frames[0], False)
    assert (crew.draw_one(renderer, frames[0]) == pictures[0]).all()
    assert len(started) == 2


def test_who_forgets_a_crew_ends_its_helpers(started: list) -> None:
    crew = Crew(3, helpers=True)
    assert len(started) == 2
    del crew
    assert all(process.wait(10) == 0 for process in started)
    assert Crew(1, helpers=True).threads == 1 and len(started) == 2


def test_a_packed_program_is_not_started_again(
    started: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sfumato.crew, "_PACKED", True)
    assert Crew(2, helpers=True).threads == 2 and not started
