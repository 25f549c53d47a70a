"""Speech features: streaming equals offline, causal, blind to gain, silent in silence."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.speech import HOP, N_MELS, SpeechState, features
from sfumato.timebase import SAMPLE_RATE

pytestmark = pytest.mark.unit


def _voice(seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz with syllables: enough like speech for features."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t)
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)) * 0.1
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, 1)
    return (buzz * syllables + 1e-4 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 37, 160, 640, 4001])
def test_any_cut_gives_the_same_features(chunk: int) -> None:
    sound = _voice(0.5 if chunk == 1 else 2.0)
    _, whole = features(SpeechState.start(), sound)
    state, parts = SpeechState.start(), []
    for start in range(0, len(sound), chunk):
        state, part = features(state, sound[start : start + chunk])
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_causal_and_one_row_a_hop() -> None:
    sound = _voice(1.0)
    _, short = features(SpeechState.start(), sound[: 52 * HOP])
    _, long = features(SpeechState.start(), sound)
    assert short.shape == (52, N_MELS)
    np.testing.assert_array_equal(long[:52], short)


def test_gain_goes_away() -> None:
    sound = _voice(6.0)
    loud = features(SpeechState.start(), sound * 3.0)[1][200:]
    quiet = features(SpeechState.start(), sound * 0.75)[1][200:]
    heard = loud > -1.0
    assert np.abs(loud - quiet)[heard].mean() < 0.15


def test_silence_is_low_and_finite() -> None:
    _, out = features(SpeechState.start(), np.zeros(3 * SAMPLE_RATE, np.float32))
    assert np.isfinite(out).all()
    assert out.max() <= -1.0


def test_a_click_does_not_deafen() -> None:
    sound = _voice(4.0)
    click = sound.copy()
    click[SAMPLE_RATE : SAMPLE_RATE + 80] = 1.0
    gap = features(SpeechState.start(), sound)[1] - features(SpeechState.start(), click)[1]
    assert np.abs(gap[150:]).mean() < 0.3
