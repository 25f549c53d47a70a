"""Speech that waits for its face: nothing lost, nothing added, everything in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import numpy as np
import pytest
from paper_face import paper_avatar

from sfumato.inbox import PERIOD
from sfumato.integrations.talker import Beat, Moment, Talker
from sfumato.integrations.voice import Pcm, Resampler, Voice
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME

pytestmark = pytest.mark.unit


def tone(samples: int, rate: int, pitch: float = 220.0) -> Pcm:
    return (8000 * np.sin(2 * np.pi * pitch * np.arange(samples) / rate)).astype(np.int16)


def spoken(voice: Voice, samples: int) -> list[Pcm]:
    """What the listeners get for so many samples of one segment."""
    parts = []
    while samples > 0:
        speech = min(samples, SAMPLES_PER_FRAME)
        samples -= speech
        parts.append(voice.take(speech, ends=samples == 0).pcm)
    return parts


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_a_voice_comes_back_untouched_in_the_measure_of_frames(rate: int) -> None:
    voice, words = Voice(rate), tone(rate + 77, rate)
    heard = [voice.push(words[i : i + 333].tobytes(), rate, 1) for i in range(0, len(words), 333)]
    heard.append(voice.end())
    face = np.concatenate(heard)
    assert abs(len(face) - len(words) * SAMPLE_RATE / rate) <= 2
    parts = spoken(voice, len(face))
    assert np.array_equal(np.concatenate(parts), words)
    assert {len(part) for part in parts[:-2]} == {rate // 25}


def test_the_face_hears_the_same_at_its_own_rate() -> None:
    voice = Voice(24_000)
    face = np.concatenate([voice.push(tone(24_000, 24_000).tobytes(), 24_000, 1), voice.end()])
    wanted = tone(SAMPLE_RATE, SAMPLE_RATE) / 32768
    inner = slice(100, -100)  # filters ring at the ends
    assert np.abs(face[inner] - wanted[inner]).max() < 0.003


def test_another_rate_and_two_channels_are_mixed_and_resampled() -> None:
    voice, left = Voice(24_000), tone(44_100, 44_100)
    both = np.stack([left, np.zeros_like(left)], axis=1)
    face = np.concatenate([voice.push(both.tobytes(), 44_100, 2), voice.end()])
    out = np.concatenate(spoken(voice, len(face)))
    assert abs(len(out) - 24_000) <= 2
    inner = slice(200, 23_800)
    assert np.abs(out[inner] - tone(24_000, 24_000)[inner] / 2).max() < 60


def test_a_resampler_begins_anew_after_its_end() -> None:
    resampler, words = Resampler(24_000, SAMPLE_RATE), tone(2400, 24_000)
    first, second = (np.concatenate([resampler.push(words), resampler.flush()]) for _ in range(2))
    assert len(first) == 1600
    assert np.array_equal(first, second)


def test_marks_come_with_the_sound_before_them() -> None:
    voice = Voice(16_000)
    assert not voice.mark("nothing waits")
    voice.push(tone(1280, 16_000).tobytes(), 16_000, 1, "a")
    assert voice.mark("middle")
    voice.push(tone(1280, 16_000).tobytes(), 16_000, 1, "a")
    voice.end()
    assert voice.mark("end")
    cuts = [voice.take(640, ends=number == 3) for number in range(4)]
    assert [cut.marks for cut in cuts] == [[], ["middle"], [], ["end"]]
    assert {cut.origin for cut in cuts} == {"a"}
    assert not voice.mark("all is out")


def test_a_mark_does_not_wait_for_what_resamplers_keep() -> None:
    voice = Voice(24_000)
    face = voice.push(tone(2400, 24_000).tobytes(), 24_000, 1)
    assert len(face) < 1600  # the rest comes with later sound, or the end
    voice.mark("stalled")
    cuts = [voice.take(speech, ends=False) for speech in (640, 640, len(face) - 1280)]
    assert cuts[-1].marks == ["stalled"]


def test_the_mark_behind_the_last_word_waits_for_all_of_it() -> None:
    voice = Voice(16_000)
    voice.push(tone(650, 16_000).tobytes(), 16_000, 1)
    voice.end()
    voice.mark("stopped")
    assert voice.take(640, ends=False).marks == []
    assert voice.take(10, ends=True).marks == ["stopped"]


def test_segments_are_kept_apart() -> None:
    voice = Voice(16_000)
    first, second = tone(700, 16_000), tone(900, 16_000, 300)
    for words in (first, second):
        voice.push(words.tobytes(), 16_000, 1)
        voice.end()
    assert np.array_equal(np.concatenate(spoken(voice, 700)), first)
    assert np.array_equal(np.concatenate(spoken(voice, 900)), second)


def test_clearing_returns_what_waited() -> None:
    voice, words = Voice(16_000), tone(2000, 16_000)
    voice.push(words.tobytes(), 16_000, 1, "a")
    voice.take(640, ends=False)
    voice.mark("kept")
    (rest,) = voice.clear()
    assert np.array_equal(rest.pcm, words[640:])
    assert (rest.origin, rest.marks) == ("a", ["kept"])
    assert not voice.take(640, ends=False).full


def moments(count: int, act: Callable[[Talker, int, Moment], None]) -> list[Moment]:
    """So many moments of a talker at 24 kHz; ``act`` gets each as it is handed out."""

    async def main() -> list[Moment]:
        talker, seen = Talker(paper_avatar()[0]), []
        async with aclosing(talker.moments()) as coming:
            async for moment in coming:
                act(talker, len(seen), moment)
                seen.append(moment)
                if len(seen) == count:
                    talker.close()
        return seen

    return asyncio.run(asyncio.wait_for(main(), 20))


def test_sound_leaves_with_the_pictures_that_it_moves() -> None:
    words = tone(24_000 // 2, 24_000)

    def act(talker: Talker, number: int, moment: Moment) -> None:
        if number == 1:
            talker.push(words.tobytes(), 24_000, 1)
            talker.end()

    seen = moments(25, act)
    loud = [number for number, moment in enumerate(seen) if moment.image[32, 32, 0] > 20]
    full = [number for number, moment in enumerate(seen) if len(moment.sound.pcm)]
    assert loud == full
    assert full == list(range(full[0], full[0] + 13))
    assert [number for number, moment in enumerate(seen) if moment.ends] == [full[-1]]
    assert np.array_equal(np.concatenate([moment.sound.pcm for moment in seen]), words)


def test_an_interruption_takes_the_words_out_of_the_moment_at_hand() -> None:
    after: list[Moment] = []

    def act(talker: Talker, number: int, moment: Moment) -> None:
        if number == 1:
            talker.push(tone(24_000, 24_000).tobytes(), 24_000, 1)
            talker.mark("lost")
        if len(moment.sound.pcm) and not after:
            after.append(moment)
            assert talker.interrupt() == ["lost"]
            assert not talker.busy
            talker.push(tone(2400, 24_000, 500).tobytes(), 24_000, 1)
            talker.end()

    seen = moments(25, act)
    assert not len(after[0].sound.pcm)
    said = np.concatenate([moment.sound.pcm for moment in seen])
    assert np.array_equal(said, tone(2400, 24_000, 500))


def test_another_origin_is_another_segment() -> None:
    def act(talker: Talker, number: int, moment: Moment) -> None:
        if number == 1:
            for origin in ("a", "b"):
                talker.push(tone(1000, 24_000).tobytes(), 24_000, 1, origin)
            talker.end()
            talker.end()  # twice is once

    seen = moments(16, act)
    assert [m.sound.origin for m in seen if len(m.sound.pcm)] == ["a", "a", "b", "b"]
    assert [m.sound.origin for m in seen if m.ends] == ["a", "b"]


def test_drained_waits_for_the_last_word_and_for_no_dead_face() -> None:
    async def main() -> list[int]:
        talker, counts = Talker(paper_avatar()[0]), []
        talker.push(tone(4800, 24_000).tobytes(), 24_000, 1)
        talker.end()
        waiting = asyncio.create_task(talker.drained())
        async with aclosing(talker.moments()) as coming:
            async for moment in coming:
                counts.append(len(moment.sound.pcm))
                await asyncio.sleep(0)
                if waiting.done():
                    break
        talker.push(tone(4800, 24_000).tobytes(), 24_000, 1)
        await talker.drained()
        return counts

    assert sum(asyncio.run(asyncio.wait_for(main(), 20))) == 4800


class Time:
    """A clock that sleep moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def leaves(time: Time, frames: list[tuple[float, bool]]) -> list[float]:
    """When frames leave, in beats; of each: when it is there, and whether it speaks."""

    async def main() -> list[float]:
        beat, left = Beat(time), []
        for ready, speaks in frames:
            time.now = max(time.now, ready * PERIOD)
            await beat.wait(speaks)
            left.append(round(time.now / PERIOD, 3))
            beat.done()
        return left

    return asyncio.run(main())


def test_uneven_frames_leave_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(0.0, False), (1.4, False), (1.6, False), (3.9, False), (4.0, False)]
    assert leaves(Time(monkeypatch), frames) == [1, 2, 3, 4, 5]


def test_running_speech_leaves_a_beat_early(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(0.0, False), *[(0.0, True)] * 4, *[(0.0, False)] * 2]
    assert leaves(Time(monkeypatch), frames) == [1, 2, 2, 3, 4, 6, 7]


def test_no_time_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(0.0, False), (4.0, False), (4.0, False), (5.0, False)]
    assert leaves(Time(monkeypatch), frames) == [1, 4, 5, 6]
