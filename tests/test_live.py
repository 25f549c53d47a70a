"""A live face: sound in, frames out at an even rate, silence without end, interruption."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import numpy as np
import pytest
from paper_face import PaperAvatar, paper_avatar

from sfumato.avatar import Avatar, Studio
from sfumato.controls import MotionOptions, glide
from sfumato.live import LiveFrame, LiveSession
from sfumato.pace import Pace, Quality
from sfumato.render.badge import marked
from sfumato.stream import Cue, Frame
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

pytestmark = pytest.mark.unit

N = SAMPLES_PER_FRAME


def sound(samples: int) -> np.ndarray:
    t = np.arange(samples) / SAMPLE_RATE
    return (0.1 * np.sign(np.sin(2 * np.pi * 140 * t))).astype(np.float32)


def watch(
    avatar: Avatar, count: int, act: Callable[[LiveSession, LiveFrame], None], **options: Any
) -> list[LiveFrame]:
    """So many frames of a session; ``act`` is called with every frame that comes."""

    async def main() -> list[LiveFrame]:
        frames = []
        async with LiveSession(avatar, **options) as session:
            async for frame in session:
                frames.append(frame)
                act(session, frame)
                if len(frames) == count:
                    session.close()
        return frames

    return run(main())


def when_drawn(paper: PaperAvatar, act: Callable[[Cue, bool], object]) -> None:
    """``act`` is called with every frame of its last session that is drawn, and whether plainly."""
    draw = paper.last.draw

    def drawn(cue: Cue, *, plain: bool = False) -> Frame:
        act(cue, plain)
        return draw(cue)

    paper.last.draw = drawn  # type: ignore[method-assign]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def test_speech_comes_out_whole_marked_and_with_its_pictures(avatar: Avatar) -> None:
    words = sound(5 * N + 200)

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if frame.index == 2:
            session.push(words)
            session.end_segment()

    frames = watch(avatar, 16, act)
    assert [f.index for f in frames] == list(range(16))
    spoken = [f for f in frames if f.speech]
    heard = np.concatenate([f.samples[: f.speech] for f in spoken])
    assert np.array_equal(heard, words)
    assert [f.ends for f in spoken] == [False] * 5 + [True]
    assert all(f.delay is not None and f.delay > 0 for f in spoken)
    assert not any(f.samples.any() for f in frames if not f.speech)
    assert all(f.image.shape == (256, 256, 3) for f in frames)


def test_it_draws_what_a_stream_draws(avatar: Avatar) -> None:
    words = sound(8 * N)
    live = watch(avatar, 10, lambda session, frame: None, seed=3)
    begun: list[bool] = []

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if not begun:
            begun.append(True)
            session.push(words)

    spoken = watch(avatar, 14, act, seed=3)
    first = next(f.index for f in spoken if f.speech)
    stream = avatar.stream(seed=3)
    silence = np.zeros((first + stream.latency_frames) * N, np.float32)
    # The session begins with frames of silence that it never shows: the stream's look-ahead.
    expected = stream.push(np.concatenate([silence[: first * N], words, silence]))
    for frame in spoken[: first + 8]:
        assert np.array_equal(frame.image, marked(expected[frame.index].image))
    assert np.array_equal(live[0].image, spoken[0].image)


def test_interruption_drops_what_waits_and_shuts_the_lips(avatar: Avatar) -> None:
    at: list[int] = []

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if frame.index == 0:
            session.push(sound(SAMPLE_RATE * 5))
        if frame.speech and not at and frame.index > 8:
            at.append(frame.index)
            session.interrupt()
            assert session.waiting == 0

    frames = watch(avatar, 24, act)
    assert at
    after = [f for f in frames if f.index > at[0]]
    assert not any(f.speech or f.samples.any() for f in after)


def test_motion_comes_to_rest_after_an_interruption(studio: Studio) -> None:
    from sfumato.motion import MotionStream

    stream = MotionStream(studio.generator, 0)
    stream.push(sound(SAMPLE_RATE))
    before = stream.state
    stream.interrupt()
    motion = stream.push(np.zeros(10 * N, np.float32))
    assert stream.state.frames == before.frames + 10
    assert stream.state.samples == before.samples + 10 * N
    calm = MotionStream(studio.generator, 0)
    calm.push(np.zeros(2 * SAMPLE_RATE, np.float32))
    rest = calm.push(np.zeros(10 * N, np.float32)).expression[:, 2:4]
    assert np.abs(motion.expression[4:, 2:4] - rest.mean(axis=0)).max() < 0.4
    steps = np.abs(np.diff(motion.expression[:, 2])).max()
    assert steps < np.abs(before.shown[0] - rest[0, 0]) + 0.5


def test_face_and_options_change_while_it_runs(avatar: Avatar, studio: Studio, photo: Any) -> None:
    other = studio.avatar(photo, size=264)

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if frame.index == 3:
            session.show(other)
            session.steer(MotionOptions(distance=0.85), seconds=0.1)
            assert session.options.distance == 1.0
        if frame.index == 11:
            assert session.options.distance == pytest.approx(0.85)

    frames = watch(avatar, 14, act)
    assert {f.image.shape for f in frames} == {(256, 256, 3)}
    pictures = np.array([f.image for f in frames], np.float32)
    jump = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    assert max(jump[4:]) > 3 * max(jump[:3])


@pytest.mark.parametrize("at", [3, 4])
def test_a_frame_names_the_photo_that_it_shows(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    first, (second, paper) = paper_avatar()[0], paper_avatar()
    paper.digest = "another"
    monkeypatch.setattr("sfumato.live.Pace", lambda lanes: Pace(Quality.HALF_RATE))

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if frame.index == at:
            session.show(second)

    frames = watch(first, 12, act)
    photos = [f.photo for f in frames]
    change = photos.index("another")
    assert photos == ["paper"] * change + ["another"] * (12 - change)
    assert change > at and frames[change].fresh  # a picture that is shown again is of the old one
    assert {f.fresh for f in frames} == {True, False}


def test_what_is_left_out_of_a_microphone_is_told() -> None:
    async def main() -> float:
        async with LiveSession(paper_avatar()[0]) as session:
            assert session.skipped == 0
            session.push(sound(SAMPLE_RATE), realtime=True)
            return session.skipped

    assert run(main()) == pytest.approx(1 - 1 / FPS)


def test_a_slow_taker_loses_nothing(avatar: Avatar) -> None:
    words = sound(6 * N)

    async def main() -> list[LiveFrame]:
        frames = []
        async with LiveSession(avatar) as session:
            session.push(words)
            async for frame in session:
                frames.append(frame)
                await asyncio.sleep(0.1)
                if len(frames) == 9:
                    session.close()
        return frames

    heard = np.concatenate([f.samples[: f.speech] for f in run(main())])
    assert np.array_equal(heard, words)


def test_a_failure_reaches_who_takes_the_frames(avatar: Avatar) -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise ValueError("a pipe burst")

    def act(session: LiveSession, frame: LiveFrame) -> None:
        session._stream.hear = broken  # type: ignore[method-assign]

    with pytest.raises(ValueError, match="a pipe burst"):
        watch(avatar, 50, act)


def test_a_failure_to_draw_reaches_them_as_well() -> None:
    def broken(*_: object, **__: object) -> NoReturn:
        raise ValueError("no paint")

    face, paper = paper_avatar()

    def act(session: LiveSession, frame: LiveFrame) -> None:
        paper.last.draw = broken  # type: ignore[method-assign]

    with pytest.raises(ValueError, match="no paint"):
        watch(face, 50, act)


def test_a_machine_that_is_too_slow_says_so_and_draws_plainly() -> None:
    told: list[Quality] = []
    face, paper = paper_avatar()
    plainly: list[bool] = []

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if frame.index == 0:
            when_drawn(paper, lambda cue, plain: plainly.append(plain))
            session._pace = Pace(Quality.FULL, 2, busy=1.0, frames=10 * FPS)
        if frame.index == 4:
            session._pace = Pace(Quality.HALF_RATE, 2, busy=1.0, frames=10 * FPS)

    watch(face, 12, act, on_quality=told.append)
    assert told == [Quality.HALF_RATE, Quality.PLAIN]
    assert plainly[0] is False and plainly[-1] is True
    assert plainly == sorted(plainly)


def test_repeated_frames_cost_no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.live.Pace", lambda lanes: Pace(Quality.HALF_RATE))
    face, paper = paper_avatar()
    drawn: list[int] = []

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if frame.index == 0:
            when_drawn(paper, lambda cue, plain: drawn.append(cue.index))
            session.push(np.linspace(0, 1, 8 * N, dtype=np.float32))

    frames = watch(face, 16, act)
    assert [f.index for f in frames] == list(range(16))
    assert [f.fresh for f in frames] == [True, False] * 8
    assert all(index % 2 == 0 for index in drawn)
    for shown, again in zip(frames[::2], frames[1::2], strict=True):
        assert again.image is shown.image
    heard = np.concatenate([f.samples[: f.speech] for f in frames])
    assert np.array_equal(heard, np.linspace(0, 1, 8 * N, dtype=np.float32))


def test_slow_pictures_come_in_their_order_two_at_a_time() -> None:
    face, paper = paper_avatar()
    running: list[int] = []
    together: list[int] = []

    def slowly(cue: Cue, plain: bool) -> None:
        running.append(cue.index)
        together.append(len(running))
        time.sleep(0.09 if cue.index % 2 else 0.05)
        running.remove(cue.index)

    def act(session: LiveSession, frame: LiveFrame) -> None:
        if frame.index == 0:
            when_drawn(paper, slowly)

    frames = watch(face, 12, act)
    assert [f.index for f in frames] == list(range(12))
    assert max(together) == 2


def test_the_mark_is_seen_on_light_and_dark() -> None:
    for level in (0, 120, 255):
        plain = np.full((512, 512, 3), level, np.uint8)
        seen = marked(plain)
        changed = np.argwhere((seen != plain).any(axis=2))
        assert np.ptp(changed[:, 1]) > 60
        part = seen[480:505, 8:160].astype(int)
        assert part.max() - part.min() > 100
        assert (plain == level).all()


def test_a_glide_goes_from_one_to_the_other() -> None:
    before = MotionOptions(gaze=(0.2, 0), emotion={"happy": 0.5})
    after = MotionOptions(distance=0.9, emotion={"sad": 1})
    way = glide(before, after, 2.0, 0.4)
    middle = way.at(2.2)
    assert middle.gaze[0] == pytest.approx(0.1)
    assert middle.distance == pytest.approx(0.95)
    felt = dict(middle.emotion)
    assert (felt["happy"], felt["sad"]) == (pytest.approx(0.25), pytest.approx(0.5))
    assert way.at(9).to_json() == after.to_json()


def test_options_travel_as_json() -> None:
    options = MotionOptions(1.2, 0.5, (0.1, -0.2), 0.9, {"happy": 0.4})
    again = MotionOptions.from_json(options.to_json())
    assert again.to_json() == options.to_json()
    changed = MotionOptions.from_json({"head": 2}, options)
    assert (changed.head, changed.distance) == (2, 0.9)
