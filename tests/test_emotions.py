"""Emotions: lips still close and lids still shut under each of them; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfumato.contact import Contacts
from sfumato.controls import Key, MotionOptions, Timeline
from sfumato.emotions import EMOTIONS, Emotions, offset
from sfumato.errors import InputError
from sfumato.latent import N_EXPRESSION, FaceBasis

pytestmark = pytest.mark.unit

BASIS = FaceBasis.load()
RIGS = Contacts.of(BASIS.mean)


def _moves(expression: np.ndarray) -> np.ndarray:
    return np.tensordot(expression, BASIS.expression, axes=1)


def test_neutral_is_nothing_and_the_others_are_something() -> None:
    assert not offset({"neutral": 1.0}).any() and not offset({}).any()
    lengths = [float(np.linalg.norm(offset({name: 1.0}))) for name in EMOTIONS[1:]]
    assert all(1.0 < length < 12.0 for length in lengths)


def test_an_offset_is_one_value_and_mixes_evenly() -> None:
    mixed = offset({"happy": 0.4, "surprised": 0.6})
    assert mixed.shape == (N_EXPRESSION,) and mixed.dtype == np.float32
    parts = 0.4 * offset({"happy": 1.0}) + 0.6 * offset({"surprised": 1.0})
    np.testing.assert_allclose(mixed, parts, atol=1e-5)
    np.testing.assert_array_equal(mixed, offset({"surprised": 0.6, "happy": 0.4}))


@pytest.mark.parametrize("name", EMOTIONS)
def test_lips_stay_as_far_apart_as_speech_says(name: str) -> None:
    opened = RIGS.lips.gaps(_moves(offset({name: 1.0})))[:, 1]
    assert np.abs(opened).max() < 0.005  # face units: half a millimetre


@pytest.mark.parametrize("name", EMOTIONS)
def test_a_blink_shuts_the_lids(name: str) -> None:
    blink = np.zeros(N_EXPRESSION, np.float32)
    blink[:2] = BASIS.blink_shut
    for rim in RIGS.lids:
        shut = rim.gaps(BASIS.mean + _moves(blink + offset({name: 1.0}, lids=1.0)))[1:6, 1].mean()
        assert abs(shut) < 0.01


def test_both_sides_feel_alike_except_in_contempt() -> None:
    from sfumato.geometry import topology as topo

    left, right = topo.MOUTH_CORNERS
    for name in EMOTIONS[1:]:
        rise = _moves(offset({name: 1.0}))[:, 1]
        uneven = abs(rise[left] - rise[right])
        assert uneven > 0.03 if name == "contemptuous" else uneven < 0.01


def test_options_keep_pairs_that_nobody_can_change() -> None:
    given = {"sad": 0.25, "happy": 0.5, "angry": 0.0}
    options = MotionOptions(emotion=given)
    given["happy"] = 1.0
    assert options.emotion == (("happy", 0.5), ("sad", 0.25))
    assert MotionOptions(emotion=options.emotion) == options
    hash(options)


@pytest.mark.parametrize(
    ("emotion", "message"),
    [
        ({"glad": 0.5}, 'unknown emotion "glad"; known: neutral, happy, sad'),
        ({"happy": 1.5}, "emotion happy is 1.5: choose a strength from 0 to 1"),
        ({"happy": float("nan")}, "emotion happy is nan"),
        ({"happy": 0.7, "sad": 0.7}, "add up to 1.4: at most 1 together"),
    ],
)
def test_wrong_emotions(emotion: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MotionOptions(emotion=emotion)


def test_a_timeline_goes_evenly_from_one_feeling_to_another(tmp_path: Path) -> None:
    keys = [{"time": 1, "emotion": {"happy": 0.8}}, {"time": 3, "emotion": {"sad": 1.0}}]
    path = tmp_path / "line.json"
    path.write_text(
        json.dumps({"format": "sfumato timeline", "format_version": 1, "keys": keys}), "utf8"
    )
    line = Timeline.load(path)
    assert dict(line.at(0).emotion) == {"happy": 0.8}
    assert dict(line.at(2).emotion) == pytest.approx({"happy": 0.4, "sad": 0.5})
    assert dict(line.at(9).emotion) == {"sad": 1.0}
    steps = [offset(line.at(1 + t / 25).emotion) for t in range(51)]
    assert np.abs(np.diff(steps, axis=0)).max() < 0.25  # a fortieth of the way a frame


@pytest.mark.parametrize("wrong", ["happy", {"happy": "much"}, {"glad": 1}, [1.0], {"sad": 2}])
def test_a_wrong_key_is_named(tmp_path: Path, wrong: object) -> None:
    path = tmp_path / "line.json"
    keys = [{"time": 0, "emotion": wrong}]
    path.write_text(
        json.dumps({"format": "sfumato timeline", "format_version": 1, "keys": keys}), "utf8"
    )
    with pytest.raises(InputError, match="emotion"):
        Timeline.load(path)


def test_a_key_in_python_holds_all_strengths() -> None:
    strengths = tuple(float(name == "angry") for name in EMOTIONS)
    assert Timeline((Key(0.0, {"emotion": strengths}),)).at(1.0).emotion == (("angry", 1.0),)


def test_a_table_comes_back_and_another_is_refused(tmp_path: Path) -> None:
    table = Emotions.load()
    table.save(tmp_path / "own.npz")
    np.testing.assert_array_equal(Emotions.load(tmp_path / "own.npz").offsets, table.offsets)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="says nothing of emotions"):
        Emotions.load(tmp_path / "bad.npz")
    Emotions(table.offsets[:, :5], table.shut).save(tmp_path / "old.npz")
    with pytest.raises(InputError, match="another version"):
        Emotions.load(tmp_path / "old.npz")


def test_a_feeling_is_added_to_speech_and_repeats() -> None:
    from sfumato.motion import MotionGenerator, MotionStream

    def speak(felt: dict[str, float]) -> np.ndarray:
        stream = MotionStream(MotionGenerator.load(), 3, MotionOptions(emotion=felt))
        noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
        parts = [stream.push(0.1 * noise), stream.flush()]
        return np.concatenate([part.expression for part in parts])

    plain, felt = speak({}), speak({"surprised": 0.5})
    np.testing.assert_array_equal(felt, speak({"surprised": 0.5}))
    added = offset({"surprised": 0.5})
    np.testing.assert_allclose(
        (felt - plain)[:, 2:], np.tile(added[2:], (len(plain), 1)), atol=1e-4
    )
