"""The sync expert in use: who is in step scores high, lags are found, lengths are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfumato import weights
from sfumato.errors import InputError
from sfumato.eval import sync
from sfumato.latent import Motion
from sfumato.media.audio import AudioReader
from sfumato.motion import MotionGenerator, MotionStream

pytestmark = pytest.mark.unit


def vectors(count: int, late: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of sound, and of motion that comes ``late`` frames after it."""
    rng = np.random.default_rng(0)
    smooth = np.stack(
        [np.convolve(r, np.ones(3), "same") for r in rng.standard_normal((24, count))]
    )
    said = smooth.T
    seen = np.roll(said, late, axis=0) + noise * rng.standard_normal(said.shape)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (seen, said)]
    return unit[0], unit[1]


def test_in_step_beats_out_of_step() -> None:
    good, bad = sync.judged(*vectors(120)), sync.judged(*vectors(120, 8))
    assert good.lag == 0 and good.confidence > 0.3 and good.distance < -0.2
    assert bad.confidence < 0.1 < good.confidence


@pytest.mark.parametrize("late", [-6, 3, 11])
def test_lag_is_that_of_the_motion(late: int) -> None:
    assert sync.judged(*vectors(150, late)).lag == late


def test_accuracy_from_chance_to_sure() -> None:
    sure = sync.accuracy([vectors(100), vectors(60)])
    assert sure["accuracy"] == 1.0 == sure["found"]
    blind = sync.accuracy([vectors(100, noise=1e3) for _ in range(3)])
    assert 0.1 < blind["accuracy"] < 0.9 and blind["found"] < 1.0
    assert sync.accuracy([]) == {}


def test_short_clips_are_one_window() -> None:
    trials = list(sync.trial_windows(*vectors(14)))
    assert trials == [(1.0, 1.0)]


def test_sound_is_turned_by_whole_frames() -> None:
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    plain, turned = sync.sound_of(samples), sync.sound_of(samples, 3)
    assert plain.shape == (100, 64)
    np.testing.assert_array_equal(turned[12:], plain[:-12])


@pytest.fixture(scope="module")
def expert() -> sync.SyncExpert:
    return sync.SyncExpert.load()


def test_the_shipped_expert_hears_that_speech_is_out_of_step(expert: sync.SyncExpert) -> None:
    with weights.find("demo/speech.ogg").open("rb") as handle:
        path = Path(handle.name)
    with AudioReader(path) as reader:
        samples = np.concatenate(list(reader))[: 8 * 16_000]
    stream = MotionStream(MotionGenerator.load())
    motion = Motion.concat([stream.push(samples), stream.flush()])
    good = expert.scores(motion, sync.sound_of(samples))
    bad = expert.scores(motion, sync.sound_of(samples, 12))
    assert good.confidence > bad.confidence + 0.03
    assert abs(good.lag) <= 2


def test_too_short_for_a_verdict(expert: sync.SyncExpert) -> None:
    with pytest.raises(InputError, match="too short"):
        expert.scores(Motion.zeros(10), np.zeros((40, 64), np.float32))


def test_answers_do_not_depend_on_what_is_far(expert: sync.SyncExpert) -> None:
    rng = np.random.default_rng(1)
    faces = rng.standard_normal((60, 40)).astype(np.float32)
    motion = replace(Motion.zeros(60), expression=faces)
    sound = rng.standard_normal((240, 64)).astype(np.float32)
    whole, heard = expert.vectors(motion, sound)
    part, said = expert.vectors(motion[:40], sound[:160])
    assert len(whole) == 60 - 2 * sync.MARGIN
    np.testing.assert_allclose(part, whole[: len(part)], atol=1e-4)
    np.testing.assert_allclose(said, heard[: len(said)], atol=1e-4)
