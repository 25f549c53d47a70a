"""What `sfumato bench live` computes from what a visitor saw."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("websockets", reason="needs the extra: server")

from sfumato.eval import bench_live  # noqa: E402
from sfumato.eval.live_client import BLOCK, Arrival, Visit, Visitor  # noqa: E402
from sfumato.protocol import Packet, to_pcm  # noqa: E402
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME  # noqa: E402

pytestmark = pytest.mark.unit

N = SAMPLES_PER_FRAME


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def test_the_delay_runs_from_the_last_sample_that_was_sent() -> None:
    visitor = Visitor("ws://nowhere")
    sound = noise(6 * N)
    visitor._sent += to_pcm(sound)
    visitor._times = [100.0 + 0.02 * k for k in range(len(sound) // BLOCK)]
    for start in (0, N, 3 * N + 100):  # in the middle of a block, and what a server left out
        packet = Packet(0, True, False, sound[start : start + N], b"")
        arrival = Arrival(200.0, 0, True, True)
        visitor._place(arrival, packet)
        assert arrival.place == start
        assert arrival.delay == pytest.approx(200.0 - visitor._times[(start + N - 1) // BLOCK])
    stranger = Arrival(200.0, 0, True, True)
    visitor._place(stranger, Packet(0, True, False, noise(N)[::-1].copy(), b""))
    assert stranger.delay is None


@pytest.mark.parametrize("late", [-480, 0, 640])
def test_the_offset_of_a_recording(late: int) -> None:
    sound = noise(8 * SAMPLE_RATE)
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(6 * FPS)]
    visit = Visit(0.0)
    for number, picture in enumerate(pictures):  # the recording begins a second into the speech
        place = SAMPLE_RATE + number * N
        visit.arrivals.append(Arrival(0.0, number, True, True, picture, place, 0.1))
    heard = np.roll(sound[SAMPLE_RATE : 7 * SAMPLE_RATE], late)
    for part in (0.25, 0.8):
        found = bench_live._offset(visit, sound, heard, pictures, part)
        assert found == pytest.approx(late / SAMPLE_RATE)


def test_a_photo_that_nobody_has_seen_differs_in_one_pixel(photo: object) -> None:
    from pathlib import Path

    from sfumato.media.image import decode_image, load_image

    path = Path(str(photo))
    made = decode_image(bench_live._unseen(path))
    assert (made != load_image(path)).any(axis=2).sum() == 1


def test_waiting_ends_in_time() -> None:
    import asyncio

    async def main() -> None:
        visitor = Visitor("ws://nowhere")
        begin = time.monotonic()
        assert not await visitor.until(lambda v: v.arrivals, 0.1)
        assert time.monotonic() - begin < 5
        visitor.visit.closed = "full"
        assert not await visitor.until(lambda v: v.arrivals, 60)

    asyncio.run(main())
