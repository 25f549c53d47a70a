"""When sound is taken: a microphone's as it comes, a sentence at an even rate, else silence."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.inbox import GRACE, MOST_BEHIND, PERIOD, Inbox, Piece
from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME

pytestmark = pytest.mark.unit

N = SAMPLES_PER_FRAME


class Time:
    """A clock and the condition of an inbox in one: who waits moves the time on.

    ``plan`` holds what shall happen meanwhile: (time, what to do).
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.plan: list[tuple[float, object]] = []

    def __call__(self) -> float:
        return self.now

    def __enter__(self) -> Time:
        return self

    def __exit__(self, *failure: object) -> None: ...

    def notify(self) -> None: ...

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        if self.plan and self.plan[0][0] <= until:
            when, act = self.plan.pop(0)
            self.now = max(self.now, when)
            act()  # type: ignore[operator]
        else:
            self.now = until


def inbox() -> tuple[Inbox, Time]:
    time = Time()
    box = Inbox(time)
    box._changed = time  # type: ignore[assignment]
    return box, time


def sound(count: int, start: int = 1) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.float32)


def take(box: Inbox) -> Piece:
    piece = box.take()
    assert piece is not None
    return piece


def test_what_was_pushed_is_the_callers_to_change() -> None:
    box, _ = inbox()
    samples = sound(640)
    box.push(samples, realtime=True)
    samples[:] = 0
    np.testing.assert_array_equal(take(box).samples, sound(640))
    with pytest.raises(InputError, match=r"\(640, 1\): give \(n,\)"):
        box.push(sound(640)[:, None], realtime=True)


def test_silence_comes_at_an_even_rate() -> None:
    box, time = inbox()
    times = []
    for _ in range(5):
        piece = take(box)
        times.append(time.now)
        assert piece.speech == 0
        assert not piece.samples.any()
    assert np.allclose(np.diff(times), PERIOD)


def test_a_sentence_is_spoken_at_an_even_rate_and_whole() -> None:
    box, time = inbox()
    take(box)
    box.push(sound(3 * N + 100), realtime=False)
    box.end()
    pieces, times = [], []
    for _ in range(5):
        pieces.append(take(box))
        times.append(time.now)
    assert [p.speech for p in pieces] == [N, N, N, 100, 0]
    assert [p.ends for p in pieces] == [False, False, False, True, False]
    heard = np.concatenate([p.samples[: p.speech] for p in pieces])
    assert np.array_equal(heard, sound(3 * N + 100))
    assert times[0] == 100.0  # who begins to speak is not kept waiting
    assert np.allclose(np.diff(times), PERIOD)


def test_an_end_that_falls_on_a_frame_makes_no_frame_of_its_own() -> None:
    box, _ = inbox()
    box.push(sound(2 * N), realtime=False)
    box.end()
    assert [(p.speech, p.ends) for p in (take(box), take(box), take(box))] == [
        (N, False),
        (N, True),
        (0, False),
    ]


def test_two_segments_never_share_a_frame() -> None:
    box, _ = inbox()
    box.push(sound(10), realtime=False)
    box.end()
    box.push(sound(N, 50), realtime=False)
    box.end()
    first, second = take(box), take(box)
    assert (first.speech, first.ends) == (10, True)
    assert (second.speech, second.ends) == (N, True)
    assert second.samples[0] == 50


def test_a_microphone_is_its_own_clock() -> None:
    box, time = inbox()
    take(box)
    begin = time.now
    arrivals = [begin + 0.013 + 0.02 * k for k in range(20)]
    time.plan = [
        (when, lambda k=k: box.push(sound(N // 2, 1000 * k), realtime=True))
        for k, when in enumerate(arrivals)
    ]
    for number in range(1, 10):
        assert take(box).speech == N
        assert time.now == pytest.approx(arrivals[2 * number - 1])


def test_late_sound_is_waited_for_and_then_silence_takes_its_place() -> None:
    box, time = inbox()
    box.push(sound(N), realtime=True)
    take(box)
    begin = time.now
    time.plan = [(begin + PERIOD + 0.5 * GRACE, lambda: box.push(sound(N, 7), realtime=True))]
    assert take(box).samples[0] == 7
    assert take(box).speech == 0
    assert time.now == pytest.approx(begin + PERIOD + 0.5 * GRACE + PERIOD + GRACE)


def test_a_rest_that_never_fills_a_frame_is_spoken_all_the_same() -> None:
    box, _ = inbox()
    box.push(sound(100), realtime=True)
    assert [take(box).speech for _ in range(2)] == [100, 0]


def test_what_a_microphone_said_long_ago_is_left_out() -> None:
    box, _ = inbox()
    box.push(sound(SAMPLE_RATE), realtime=True)
    piece = take(box)
    assert box.skipped == SAMPLE_RATE - N
    assert piece.samples[0] == SAMPLE_RATE - N + 1
    assert box.seconds == 0
    box.push(sound(round(0.9 * MOST_BEHIND * SAMPLE_RATE)), realtime=True)
    assert box.skipped == SAMPLE_RATE - N


def test_a_microphone_drops_no_speech_that_was_made_beforehand() -> None:
    box, _ = inbox()
    speech = sound(5 * SAMPLE_RATE)
    box.push(speech, realtime=False)
    box.end()
    for start in range(0, SAMPLE_RATE, N // 2):  # a second, in blocks of 20 ms
        box.push(sound(N // 2, -1 - start), realtime=True)
        waits = box.seconds - 5.0
        assert 0 < waits <= MOST_BEHIND
    assert box.skipped == SAMPLE_RATE - round(waits * SAMPLE_RATE)
    pieces = [take(box) for _ in range(len(speech) // N)]
    assert np.array_equal(np.concatenate([p.samples for p in pieces]), speech)
    assert [p.ends for p in pieces] == [False] * (len(pieces) - 1) + [True]
    assert take(box).samples[0] < 0
    box.clear()
    box.push(sound(round(MOST_BEHIND * SAMPLE_RATE)), realtime=True)
    assert box.seconds == MOST_BEHIND  # what was cleared is not counted


def test_what_waits_decides_when_a_frame_is_taken() -> None:
    box, time = inbox()
    take(box)
    begin = time.now
    box.push(sound(2 * N), realtime=False)
    box.push(sound(2 * N), realtime=True)
    times = [(take(box), time.now - begin)[1] for _ in range(4)]
    # Speech at an even rate though a microphone came last; then that, which waited, at once.
    assert times == pytest.approx([0, PERIOD, PERIOD, PERIOD])
    box.push(sound(2 * N), realtime=True)
    box.push(sound(2 * N), realtime=False)
    times = [(take(box), time.now - begin)[1] for _ in range(4)]
    assert times == pytest.approx([PERIOD, PERIOD, 2 * PERIOD, 3 * PERIOD])


def test_an_end_is_told_though_its_sound_was_left_out() -> None:
    box, _ = inbox()
    box.push(sound(N), realtime=True)
    box.end()
    box.push(sound(SAMPLE_RATE), realtime=True)
    assert [(p.speech, p.ends) for p in (take(box), take(box), take(box))] == [
        (0, True),
        (N, False),
        (0, False),
    ]


def test_crumbs_of_both_kinds_are_put_together_and_no_speech_is_lost() -> None:
    box, _ = inbox()
    for sample in sound(SAMPLE_RATE):
        box.push(np.array([sample]), realtime=False)
        box.push(np.array([-1.0]), realtime=True)
    assert len(box._chunks) <= 60
    heard = np.concatenate([take(box).samples for _ in range(60)])
    assert np.array_equal(heard[heard > 0], sound(SAMPLE_RATE))
    assert box._live == box.seconds == 0


def test_clearing_forgets_sound_and_marks() -> None:
    box, _ = inbox()
    box.push(sound(5 * N), realtime=False)
    box.end()
    take(box)
    box.clear()
    assert box.seconds == 0
    piece = take(box)
    assert (piece.speech, piece.ends) == (0, False)


def test_a_pause_of_the_taker_is_not_made_up_for() -> None:
    box, time = inbox()
    box.push(sound(20 * N), realtime=False)
    take(box)
    time.now += 1.0
    times = []
    for _ in range(4):
        take(box)
        times.append(time.now)
    assert np.allclose(np.diff(times), PERIOD)


def test_closing_ends_the_waiting() -> None:
    box, _ = inbox()
    box.close()
    assert box.take() is None


def test_crumbs_are_put_together() -> None:
    box, _ = inbox()
    whole = sound(3 * N)
    for sample in np.split(whole, len(whole)):
        box.push(sample, realtime=False)
    box.push(sound(0), realtime=False)
    assert len(box._chunks) <= 4
    pieces = [take(box) for _ in range(3)]
    np.testing.assert_array_equal(np.concatenate([p.samples for p in pieces]), whole)
    assert [p.speech for p in pieces] == [N, N, N]


def test_ends_without_end_fill_no_memory() -> None:
    box, _ = inbox()
    for _ in range(3000):
        box.push(sound(1), realtime=False)
        box.end()
    assert len(box._chunks) < 2010
    assert take(box).ends
    box.clear()
    box.push(sound(10), realtime=False)
    box.end()
    assert take(box).ends and not take(box).ends
