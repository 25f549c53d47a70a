"""Changes of voice, room, microphone and background, made on log-mel spectrograms.

Working on cached spectrograms instead of waves makes augmentation nearly free: powers of
independent sounds add, a microphone is a curve over the bands, a voice tract is a stretch of the
frequency axis. All functions take and return (hops, N_MELS) decibel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from sfumato.speech import FLOOR_DB, N_MELS, loudness_db

Array = NDArray[np.float32]


def resample(values: Array, length: int) -> Array:
    """Linear interpolation along the first axis to ``length`` rows, ends on ends."""
    where = np.linspace(0.0, len(values) - 1.0, length)
    low = np.minimum(where.astype(int), max(len(values) - 2, 0))
    share = (where - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    high = np.minimum(low + 1, len(values) - 1)
    return np.asarray(values[low] * (1.0 - share) + values[high] * share, np.float32)


def stretch_bands(mel: Array, factor: float) -> Array:
    """Moves all formants and the pitch up (factor > 1) or down, as another throat would."""
    where = np.clip(np.arange(N_MELS) / factor, 0, N_MELS - 1.001)
    low = where.astype(int)
    share = (where - low).astype(np.float32)
    return np.asarray(mel[:, low] * (1 - share) + mel[:, low + 1] * share, np.float32)


def microphone(mel: Array, rng: np.random.Generator) -> Array:
    """A smooth random curve over the bands; one in eight is a telephone."""
    knots = rng.normal(0.0, 4.0, 6)
    curve = np.interp(np.linspace(0, 5, N_MELS), np.arange(6), knots)
    if rng.random() < 0.12:
        low, high = rng.integers(4, 9), rng.integers(42, 50)
        curve[:low] -= 35.0
        curve[high:] -= 35.0
    return np.maximum(mel + curve.astype(np.float32), FLOOR_DB)


def room(mel: Array, rng: np.random.Generator) -> Array:
    """Late reverberation: an exponential tail on the power of every band."""
    seconds = rng.uniform(0.15, 0.9)  # to -60 dB
    keep = 10.0 ** (-0.06 / seconds)  # power that stays after one hop
    power = 10.0 ** (mel / 10.0)
    tail = lfilter([0.0, 1.0 - keep], [1.0, -keep], power, axis=0) * 10 ** rng.uniform(-1.2, 0.0)
    return (10.0 * np.log10(power + tail + 1e-12)).astype(np.float32)


def background(hops: int, rng: np.random.Generator) -> Array:
    """Noise or something like music, around 0 dB: (hops, N_MELS)."""
    if rng.random() < 0.6:
        curve = np.interp(np.linspace(0, 5, N_MELS), np.arange(6), rng.normal(0, 8, 6))
        swing = np.interp(np.linspace(0, 8, hops), np.arange(9), rng.normal(0, 4, 9))
        return (curve + swing[:, None] + rng.gumbel(0, 2.0, (hops, N_MELS))).astype(np.float32)
    return _music(hops, rng)


def _music(hops: int, rng: np.random.Generator) -> Array:
    """Chords of harmonic combs that change with a beat, and a drum."""
    beat = int(rng.integers(20, 60))
    bands = np.arange(N_MELS, dtype=np.float32)
    centres = 700.0 * (10.0 ** (np.linspace(36.0 + 44.0, 2800.0, N_MELS) / 2595.0) - 1.0)
    out = np.full((hops, N_MELS), -60.0, np.float32)
    for start in range(0, hops, beat):
        length = min(beat, hops - start)
        decay = -np.arange(length) * rng.uniform(0.0, 0.4)
        for _ in range(int(rng.integers(1, 4))):
            pitch = 110.0 * 2.0 ** (rng.integers(0, 30) / 12.0)
            harmonic = np.abs((centres / pitch + 0.5) % 1.0 - 0.5) * pitch / (0.06 * centres + 30)
            comb = -8.0 * np.minimum(harmonic, 3.0) - 0.25 * bands + rng.normal(0, 3)
            note = comb[None] + decay[:, None]
            out[start : start + length] = np.maximum(out[start : start + length], note)
        if rng.random() < 0.6:
            drum = -1.5 * np.arange(length)[:, None] - rng.uniform(-0.3, 0.3) * bands
            out[start : start + length] = np.maximum(out[start : start + length], drum)
    return out


def mix(mel: Array, other: Array, below: float) -> Array:
    """Adds ``other`` so that its loudness lies ``below`` decibel under the louder part of mel."""
    speech = float(np.quantile(loudness_db(mel), 0.9))
    shift = speech - below - float(loudness_db(other).max())
    power = 10.0 ** (mel / 10.0) + 10.0 ** ((other + shift) / 10.0)
    return np.asarray(10.0 * np.log10(power), np.float32)


def disturb(mel: Array, babble: Array | None, rng: np.random.Generator) -> Array:
    """A random mixture of all changes that keep the timing."""
    if rng.random() < 0.7:
        mel = stretch_bands(mel, float(np.exp(rng.normal(0.0, 0.07))))
    if rng.random() < 0.6:
        mel = microphone(mel, rng)
    if rng.random() < 0.3:
        mel = room(mel, rng)
    if rng.random() < 0.5:
        mel = mix(mel, background(len(mel), rng), rng.uniform(3.0, 35.0))
    if babble is not None and rng.random() < 0.15:
        mel = mix(mel, resample(babble, len(mel)), rng.uniform(8.0, 25.0))
    return np.maximum(mel + np.float32(rng.uniform(-14.0, 8.0)), FLOOR_DB)
