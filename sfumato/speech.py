"""Streaming speech features: a log-mel spectrogram that never looks at the whole file.

Four hops of 10 ms make one video frame. A hop's spectrum ends where the hop ends, so features of
frame ``i`` need exactly the samples up to ``(i + 1) * SAMPLES_PER_FRAME`` and nothing later. The
loudness of the recording is taken out by a slow causal level (fast up, 1 dB a second down), so a
quiet and a loud recording of the same words look alike, and silence still looks silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sfumato.timebase import SAMPLE_RATE, SAMPLES_PER_FRAME, exact_div

Array = NDArray[np.float32]

N_MELS = 64
HOP = 160
HOPS_PER_FRAME = exact_div(SAMPLES_PER_FRAME, HOP)
_WINDOW = 400
_FFT = 512
_LOW_HZ, _HIGH_HZ = 60.0, 7600.0
FLOOR_DB = -100.0
_POWER_SCALE = np.float32((4.0 / _WINDOW) ** 2)  # a full-scale sine through a Hann window

SILENT_FEATURE = -2.0  # what digital silence gives

LEVEL_START_DB = -34.0
LEVEL_FLOOR_DB = -54.0
LEVEL_UP_DB = 1.5  # a hop; a click of 20 ms must not push the level up far
LEVEL_DOWN_DB = 0.01  # a hop: 1 dB a second


def _mel_of(hz: NDArray[np.floating]) -> NDArray[np.floating]:
    """O'Shaughnessy's mel scale."""
    mel: NDArray[np.floating] = 2595.0 * np.log10(1.0 + hz / 700.0)
    return mel


@lru_cache(maxsize=1)
def _filters() -> tuple[Array, Array]:
    """Analysis window (_WINDOW,) and triangular mel filters (_FFT // 2 + 1, N_MELS)."""
    low, high = _mel_of(np.array([_LOW_HZ, _HIGH_HZ]))
    edges = np.linspace(low, high, N_MELS + 2)
    bins = _mel_of(np.fft.rfftfreq(_FFT, 1.0 / SAMPLE_RATE))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bank = np.maximum(0.0, np.minimum(rising, falling))
    # Filters at the bottom are narrower than a bin: without this some would be empty.
    bank[np.argmin(np.abs(bins - edges[1:-1]), axis=0), np.arange(N_MELS)] += 0.05
    bank /= bank.sum(axis=0)
    return np.hanning(_WINDOW + 1)[:-1].astype(np.float32), bank.astype(np.float32)


def mel_db(samples: NDArray[np.floating]) -> Array:
    """Log-mel power of whole hops.

    Args:
        samples: mono, [-1, 1], 16 kHz, ``_WINDOW - HOP`` samples of history and ``n`` hops.

    Returns:
        (n, N_MELS) decibel; a full-scale sine peaks near 0, the floor is ``FLOOR_DB``.
    """
    window, bank = _filters()
    hops = max((len(samples) - _WINDOW) // HOP + 1, 0)
    out = np.empty((hops, N_MELS), np.float32)
    # The hops of one frame at a time: results must not depend on how many arrive together, and
    # vectorised kernels round differently for different sizes.
    for start in range(0, hops, HOPS_PER_FRAME):
        count = min(HOPS_PER_FRAME, hops - start)
        pieces = np.zeros((HOPS_PER_FRAME, _WINDOW), np.float32)
        for i in range(count):
            at = (start + i) * HOP
            pieces[i] = samples[at : at + _WINDOW]
        spectrum = np.fft.rfft(pieces * window, _FFT)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ bank
        out[start : start + count] = 10.0 * np.log10(power[:count] * _POWER_SCALE + 1e-12)
    return np.asarray(np.maximum(out, FLOOR_DB), np.float32)


def loudness_db(mel: Array) -> Array:
    """Loudness of hops, (..., N_MELS) decibel -> (...): the mean power over the mel bands."""
    return np.asarray(10.0 * np.log10(np.mean(10.0 ** (mel / 10.0), axis=-1)), np.float32)


def follow_level(level: Array | np.float32, loudness: Array) -> Array:
    """The running level after one more hop; both (...,) decibel."""
    target = np.maximum(loudness, level - LEVEL_DOWN_DB)
    level = np.maximum(np.minimum(target, level + LEVEL_UP_DB), LEVEL_FLOOR_DB)
    return np.asarray(level, np.float32)


def normalise(mel: Array, level: Array) -> Array:
    """Features from mel (..., N_MELS) decibel and level (...) decibel: about [-2, 2]."""
    scaled = (mel - level[..., None] + 15.0) / 20.0
    return np.asarray(np.clip(scaled, SILENT_FEATURE, 2.5), np.float32)


@dataclass(frozen=True)
class SpeechState:
    """What the features remember: samples, less than a frame and a window; the level in decibel."""

    samples: Array
    level: np.float32

    @staticmethod
    def start() -> SpeechState:
        return SpeechState(np.zeros(_WINDOW - HOP, np.float32), np.float32(LEVEL_START_DB))


def features(state: SpeechState, samples: Array) -> tuple[SpeechState, Array]:
    """Features of the frames that ``samples`` complete.

    Args:
        state: from :meth:`SpeechState.start` or the last call.
        samples: (n,) float32 mono 16 kHz, any n.

    Returns:
        The next state and (n * HOPS_PER_FRAME, N_MELS) float32; identical for any cut of the same
        sound.
    """
    held = np.concatenate([state.samples, np.asarray(samples, np.float32)])
    frames = (len(held) - (_WINDOW - HOP)) // (HOPS_PER_FRAME * HOP)
    hops = frames * HOPS_PER_FRAME
    if frames <= 0:
        return SpeechState(held, state.level), np.zeros((0, N_MELS), np.float32)
    mel = mel_db(held[: _WINDOW - HOP + hops * HOP])
    levels = loudness_db(mel)
    level = state.level
    for i, loud in enumerate(levels):
        levels[i] = level = np.float32(follow_level(level, loud))
    return SpeechState(held[hops * HOP :].copy(), level), normalise(mel, levels)
