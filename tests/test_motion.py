"""Motion: any cut of the sound gives the same frames, seeds repeat, silence rests, people live."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
import pytest

from sfumato.controls import Key, MotionOptions, Timeline
from sfumato.eval.motion_life import turning
from sfumato.eval.motion_lips import lips
from sfumato.latent import FaceBasis, Motion
from sfumato.media.audio import AudioReader
from sfumato.motion import MotionGenerator, MotionStream
from sfumato.motionfile import N_EXPRESSION
from sfumato.timebase import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

pytestmark = pytest.mark.unit

ARRAYS = ("pose", "expression", "gaze", "breath")


@pytest.fixture(scope="module")
def generator() -> MotionGenerator:
    return MotionGenerator.load()


def _voice(seconds: float) -> np.ndarray:
    """A buzz in syllables with two formants that wander."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = np.cumsum(110 + 15 * np.sin(2 * np.pi * 0.6 * t)) / SAMPLE_RATE
    sound = np.zeros_like(t)
    for harmonic in range(1, 30):
        hz = 110.0 * harmonic
        first = 500 + 200 * np.sin(2 * np.pi * 1.3 * t)
        loud = np.exp(-(((hz - first) / 150) ** 2)) + 0.5 * np.exp(-(((hz - 1500) / 250) ** 2))
        sound += loud * np.sin(2 * np.pi * harmonic * phase)
    syllables = np.clip(1.3 * np.sin(2 * np.pi * 2.3 * t), 0, 1)
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.1 * sound * syllables + 1e-4 * noise).astype(np.float32)


def _speak(generator: MotionGenerator, sound: np.ndarray, seed: int = 3, **options) -> Motion:
    stream = MotionStream(generator, seed, MotionOptions(**options))
    return Motion.concat([stream.push(sound), stream.flush()])


def _same(a: Motion, b: Motion) -> bool:
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ARRAYS)


@pytest.mark.parametrize("chunk", [160, 641, 5000])
def test_streaming_equals_offline(generator: MotionGenerator, chunk: int) -> None:
    sound = _voice(2.0)
    stream = MotionStream(generator, 3)
    parts = [stream.push(sound[i : i + chunk]) for i in range(0, len(sound), chunk)]
    assert _same(Motion.concat([*parts, stream.flush()]), _speak(generator, sound))


@pytest.mark.parametrize("samples", [0, 1, 639, 640, 641, 16_000])
def test_one_frame_for_every_40_ms(generator: MotionGenerator, samples: int) -> None:
    made = _speak(generator, np.zeros(samples, np.float32))
    assert len(made) == -(-samples // SAMPLES_PER_FRAME)


def test_look_ahead_is_as_declared_and_at_most_100_ms(generator: MotionGenerator) -> None:
    stream = MotionStream(generator)
    assert stream.latency_frames * 1000 / FPS <= 100
    needed = (stream.latency_frames + 1) * SAMPLES_PER_FRAME
    assert len(stream.push(np.zeros(needed - 1, np.float32))) == 0
    assert len(stream.push(np.zeros(1, np.float32))) == 1


def test_the_future_beyond_the_latency_changes_nothing(generator: MotionGenerator) -> None:
    sound = _voice(2.0)
    other = sound.copy()
    other[SAMPLE_RATE:] = 0.0
    sure = FPS - generator.latency_frames
    assert _same(_speak(generator, sound)[:sure], _speak(generator, other)[:sure])


def test_seeds_repeat_and_differ(generator: MotionGenerator) -> None:
    sound = _voice(2.0)
    assert _same(_speak(generator, sound, 5), _speak(generator, sound, 5))
    assert not _same(_speak(generator, sound, 5), _speak(generator, sound, 6))


def test_memory_is_flat(generator: MotionGenerator) -> None:
    stream = MotionStream(generator)
    sizes = []
    for _ in range(6):
        stream.push(_voice(1.0))
        state = stream.state
        sizes.append(state.hops.size + state.encoder.size + state.generator.attention.size)
    assert len(set(sizes[1:])) == 1


def test_lips_move_with_the_voice_and_rest_in_silence(generator: MotionGenerator) -> None:
    basis = FaceBasis.load()
    spoken = lips(_speak(generator, _voice(4.0)), basis)[0]
    silent = lips(_speak(generator, np.zeros(4 * SAMPLE_RATE, np.float32)), basis)[0]
    assert spoken.std() > 0.01
    assert silent[5:].max() < 0.03
    assert silent[5:].std() < 0.005


def test_a_mood_moves_the_mouth_and_neither_opens_nor_widens_it(generator: MotionGenerator) -> None:
    basis = FaceBasis.load()
    own = generator.generator
    heard = np.zeros(256 + N_EXPRESSION, np.float32)
    still = np.zeros(N_EXPRESSION - 2, np.float32)
    mood = np.random.default_rng(0).standard_normal((50, len(still))).astype(np.float32)
    faces = np.array([own.face(heard, still, row) for row in (still, *mood)])
    expression = np.pad(faces, ((0, 0), (2, 0)))
    points = basis.mean + np.einsum("tk,kpc->tpc", expression, basis.expression)
    gaps = np.stack([points[:, low, 1] - points[:, up, 1] for up, low in ((13, 14), (81, 178))])
    width = points[:, 308, 0] - points[:, 78, 0]
    corners = points[:, [78, 308], 1]
    assert np.abs(gaps - gaps[:, :1]).max() < 2e-3  # face units, of 9 cm
    assert np.abs(width - width[0]).max() < 2e-3
    assert corners.std(axis=0).min() > 3e-3
    grimace = own.face(heard, still, 100 * mood[0]) - faces[0]
    assert np.abs(grimace).max() < 1.5  # standard deviations of people who talk


def test_loudness_hardly_matters(generator: MotionGenerator) -> None:
    sound = _voice(6.0)
    loud = _speak(generator, sound * 2.0).expression[75:, 2]
    quiet = _speak(generator, sound * 0.5).expression[75:, 2]
    assert np.corrcoef(loud, quiet)[0, 1] > 0.9


def test_options(generator: MotionGenerator) -> None:
    sound = _voice(2.0)
    assert np.allclose(_speak(generator, sound, head=0.0).pose, 0.0)
    looked = _speak(generator, sound, gaze=(0.3, 0.0)).gaze - _speak(generator, sound).gaze
    assert np.allclose(looked[:, 0], 0.3, atol=1e-5)
    nearer = _speak(generator, sound, distance=0.8).pose - _speak(generator, sound).pose
    assert np.allclose(nearer[:, 5], np.log(1.25), atol=1e-5) and np.allclose(nearer[:, :5], 0)


def test_a_timeline_in_any_chunks(generator: MotionGenerator) -> None:
    sound = _voice(2.0)
    keys = (Key(0.4, {"distance": (1.0,)}), Key(1.2, {"distance": (0.9,), "head": (0.0,)}))
    line = Timeline(keys, MotionOptions(gaze=(0.2, 0.0)))
    whole = MotionStream(generator, 3, line)
    offline = Motion.concat([whole.push(sound), whole.flush()])
    stream = MotionStream(generator, 3, line)
    parts = [stream.push(sound[i : i + 777]) for i in range(0, len(sound), 777)]
    assert _same(Motion.concat([*parts, stream.flush()]), offline)
    still = _speak(generator, sound, head=0.0, gaze=(0.2, 0.0))
    log = offline.pose[:, 5] - still.pose[:, 5]
    np.testing.assert_allclose(log[:10], 0, atol=1e-6)
    np.testing.assert_allclose(log[20], -np.log(0.95), atol=1e-5)
    np.testing.assert_allclose(log[30:], -np.log(0.9), atol=1e-5)
    np.testing.assert_allclose(offline.gaze, still.gaze, atol=1e-6)


@pytest.fixture(scope="module")
def minute(generator: MotionGenerator) -> Motion:
    """The built-in speech, again and again for a minute."""
    speech = files("sfumato.data").joinpath("demo/speech.ogg")
    with as_file(speech) as path, AudioReader(path) as reader:
        sound = np.concatenate(list(reader))
    return _speak(generator, np.tile(sound, 6)[: 60 * SAMPLE_RATE])


def test_as_lively_as_people(minute: Motion) -> None:
    measured = turning(minute)
    assert 0.2 < measured["delta_p"] < 0.9
    assert 0.5 < measured["yaw_spread"] < 12
    shut = minute.expression[:, 0] / FaceBasis.load().blink_shut[0]
    assert 8 < (np.diff((shut > 0.6).astype(int)) == 1).sum() < 50


def test_blinks_shut_the_lids_and_are_short(minute: Motion) -> None:
    shut = FaceBasis.load().blink_shut[0]
    lids = minute.expression[:, 0] / shut
    assert lids.max() > 0.95
    assert (lids > 0.6).mean() < 0.25


def test_heads_neither_drift_nor_jump(minute: Motion) -> None:
    turns = minute.pose[:, :3]
    assert np.abs(turns).max() < np.radians(40)
    assert np.abs(np.diff(turns, axis=0)).max() < np.radians(8)
    assert np.abs(turns.mean(axis=0)).max() < np.radians(8)
    assert 0.0 <= minute.breath.min() <= minute.breath.max() <= 1.0


def test_eyes_turn_back_the_heads_turns_and_rest_between_saccades(minute: Motion) -> None:
    head, eyes = minute.pose[:, 0], minute.gaze[:, 0]
    assert np.corrcoef(head, eyes)[0, 1] < -0.2
    glance = np.abs(np.diff(eyes + 0.8 * head))
    assert (glance < np.radians(0.3)).mean() > 0.6


def test_pose_and_gaze_go_on_in_silence_and_lips_rest(generator: MotionGenerator) -> None:
    noise = np.random.default_rng(0).standard_normal(20 * SAMPLE_RATE) * 10 ** (-66 / 20)
    idle = _speak(generator, noise.astype(np.float32))
    assert lips(idle, FaceBasis.load())[0].max() < 0.03
    assert np.degrees(idle.pose[:, :3].std(axis=0)).max() > 0.2
