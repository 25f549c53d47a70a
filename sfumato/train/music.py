"""Music without a voice, synthesised: plucked and blown notes, chords, drums. Lips rest in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfumato.timebase import SAMPLE_RATE

Array = NDArray[np.float32]

SCALE = np.array([0, 2, 3, 5, 7, 9, 10])  # half tones


def play(seconds: float, rng: np.random.Generator) -> Array:
    """A piece of one instrument, (n,) mono at 16 kHz, with a drum or without."""
    count = int(seconds * SAMPLE_RATE)
    out = np.zeros(count)
    beat = int(rng.uniform(0.15, 0.6) * SAMPLE_RATE)
    fade = rng.uniform(0.5, 8.0) if rng.random() < 0.75 else 0.0  # plucked, or blown and bowed
    dull, low = rng.uniform(0.4, 1.8), 55.0 * 2 ** rng.uniform(0, 2.5)
    chord, drum = int(rng.integers(1, 4)), rng.random() < 0.4
    for start in range(0, count, beat):
        length = min(count - start, int(beat * rng.uniform(1.0, 3.0)))
        for _ in range(chord if rng.random() < 0.85 else 0):
            pitch = low * 2 ** ((rng.choice(SCALE) + 12 * rng.integers(0, 3)) / 12)
            out[start : start + length] += note(pitch, length, fade, dull)
        if drum:
            hit = min(length, SAMPLE_RATE // 10)
            burst = rng.standard_normal(hit) * np.exp(-np.arange(hit) / rng.uniform(100, 600))
            out[start : start + hit] += rng.uniform(0.2, 1.5) * burst
    return (0.1 * out / max(float(out.std()), 1e-6)).astype(np.float32)


def note(pitch: float, length: int, fade: float, dull: float) -> NDArray[np.floating]:
    """Harmonics that grow weaker upwards by ``dull`` and die faster the higher they are."""
    time = np.arange(length) / SAMPLE_RATE
    out = np.zeros(length)
    for k in range(1, min(16, int(7000 / pitch)) + 1):
        out += k**-dull * np.exp(-fade * k**0.5 * time) * np.sin(2 * np.pi * k * pitch * time)
    ends = np.minimum(np.minimum(time / 0.005, time[::-1] / 0.02), 1.0)
    return out * ends
