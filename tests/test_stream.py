"""Streaming and offline are one path: frames depend on the sound, not on how it was cut."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest
from media_samples import write_wav

from sfumato.avatar import Avatar, Studio
from sfumato.crew import Crew
from sfumato.latent import MotionFrame
from sfumato.render.frame import Rendered
from sfumato.render.renderer import Renderer
from sfumato.stream import Frame, Stream
from sfumato.timebase import SAMPLES_PER_FRAME, frames_for

pytestmark = pytest.mark.unit


def sound(samples: int) -> np.ndarray:
    """Bursts of a buzzing tone, as loud as speech."""
    t = np.arange(samples) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 140 * t)) * (np.sin(2 * np.pi * 2.5 * t) > 0)
    return (0.1 * buzz).astype(np.float32)


def spoken(avatar: Avatar, parts: Iterator[np.ndarray], seed: int = 0) -> list[Frame]:
    stream = avatar.stream(seed=seed)
    frames = [f for part in parts for f in stream.push(part)]
    return frames + stream.flush()


def cut(samples: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    start, turn = 0, 0
    while start < len(samples):
        yield samples[start : start + sizes[turn % len(sizes)]]
        start += sizes[turn % len(sizes)]
        turn += 1


def same(one: list[Frame], two: list[Frame]) -> bool:
    return len(one) == len(two) and all(
        np.array_equal(a.image, b.image) and np.array_equal(a.samples, b.samples)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("sizes", [[640], [1, 7, 1009, 31], [333, 4801]])
def test_cutting_the_sound_changes_nothing(avatar: Avatar, sizes: list[int]) -> None:
    samples = sound(11_111)
    whole = spoken(avatar, iter([samples]))
    assert same(spoken(avatar, cut(samples, sizes)), whole)
    assert len(whole) == frames_for(len(samples))
    assert [f.index for f in whole] == list(range(len(whole)))


def test_more_cores_draw_the_same_frames(avatar: Avatar) -> None:
    """One frame at a time, as live, where a helper draws parts of it; and several at once."""
    samples = sound(9000)
    few = spoken(avatar, iter([samples]))
    stream = Stream(avatar.renderer, Studio(1).generator, crew=Crew(2))
    live = [f for part in cut(samples, [640]) for f in stream.push(part)]
    assert same([*live, *stream.flush()], few)
    many = list(Stream(avatar.renderer, Studio(1).generator, crew=Crew(3)).run([samples]))
    assert same(many, few)


def test_a_single_frame_has_help_and_many_have_none(avatar: Avatar, monkeypatch) -> None:
    helpers = []
    render = Renderer.render

    def noted(
        self: Renderer, frame: MotionFrame, helper: Executor | None = None, *, plain: bool = False
    ) -> Rendered:
        helpers.append(helper)
        return render(self, frame, helper, plain=plain)

    monkeypatch.setattr(Renderer, "render", noted)
    stream = Stream(avatar.renderer, Studio(1).generator, crew=Crew(2))
    for part in cut(sound(640 * 5), [640]):
        stream.push(part)
    assert helpers and all(helpers)
    helpers.clear()
    stream.push(sound(640 * 4))
    assert len(helpers) == 4 and not any(helpers)
    alone = Stream(avatar.renderer, Studio(1).generator)
    for part in cut(sound(640 * 5), [640]):
        alone.push(part)
    assert len(helpers) > 4 and not any(helpers)


def test_frames_carry_their_own_sound(avatar: Avatar) -> None:
    samples = sound(2000)
    heard = np.concatenate([f.samples for f in spoken(avatar, iter([samples]))])
    assert np.array_equal(heard[:2000], samples)
    assert not heard[2000:].any()


def test_later_sound_never_changes_frames_that_are_out(avatar: Avatar) -> None:
    samples = sound(16_000)
    stream = avatar.stream()
    early = stream.push(samples[:9600])
    other = avatar.stream()
    alike = other.push(np.concatenate([samples[:9600], np.zeros(6400, np.float32)]))
    assert len(early) >= 9600 // SAMPLES_PER_FRAME - stream.latency_frames
    assert same(early, alike[: len(early)])


def test_samples_that_are_no_numbers_do_no_harm(avatar: Avatar) -> None:
    clean = sound(6400)
    clean[[700, 701, 702, 703]] = 0, 1, -1, 1
    given = clean.copy()
    given[[700, 701, 702, 703]] = np.nan, np.inf, -np.inf, 3
    frames = spoken(avatar, cut(given, [640]))
    assert same(frames, spoken(avatar, cut(clean, [640])))
    assert np.isnan(given[700])  # the caller's array is the caller's


def test_two_streams_of_one_avatar_do_not_disturb_each_other(avatar: Avatar) -> None:
    samples = sound(8000)
    alone = spoken(avatar, iter([samples]), seed=3)
    one, two = avatar.stream(seed=3), avatar.stream(seed=4)
    frames = []
    for part in cut(samples, [900]):
        frames += one.push(part)
        two.push(part[::-1].copy())
    frames += one.flush()
    assert same(frames, alone)


def test_seeds_move_the_head_differently(studio: Studio, tmp_path: Path) -> None:
    write_wav(tmp_path / "buzz.wav", sound(32_000)[:, None], 16_000)
    one, same_one, other = (studio.motion(tmp_path / "buzz.wav", seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.pose, same_one.pose)
    assert np.array_equal(one.expression, same_one.expression)
    assert np.abs(one.pose - other.pose).max() > 0.01
