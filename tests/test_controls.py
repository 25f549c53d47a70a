"""Controls: what a file says is what comes at a time; what is wrong is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sfumato.controls import Key, MotionOptions, Timeline
from sfumato.errors import InputError

pytestmark = pytest.mark.unit


def _file(folder: Path, *keys: object, **header: object) -> Path:
    path = folder / "line.json"
    content = {"format": "sfumato timeline", "format_version": 1, "keys": list(keys)} | header
    path.write_text(json.dumps(content), encoding="utf8")
    return path


def test_every_option_goes_its_own_way(tmp_path: Path) -> None:
    line = Timeline.load(
        _file(
            tmp_path,
            {"time": 1, "gaze": [10, 0], "distance": 1.2},
            {"time": 2, "head": 0.5},
            {"time": 3, "gaze": [-10, 20]},
        ),
        MotionOptions(expressiveness=1.5),
    )
    early, middle, late = (line.at(t) for t in (0.0, 2.0, 9.0))
    assert early.gaze == (math.radians(10), 0) and middle.gaze == pytest.approx(
        (0, math.radians(10))
    )
    assert late.gaze == (math.radians(-10), math.radians(20))
    assert {o.distance for o in (early, middle, late)} == {1.2}
    assert {o.head for o in (early, middle, late)} == {0.5}
    assert {o.expressiveness for o in (early, middle, late)} == {1.5}


def test_two_keys_at_one_time_are_a_cut() -> None:
    keys = tuple(Key(t, {"head": (v,)}) for t, v in ((0, 1.0), (1, 1.0), (1, 0.0)))
    line = Timeline(keys)
    assert line.at(0.999).head == 1.0 and line.at(1.0).head == 0.0 and line.at(5).head == 0.0


def test_a_constant_is_the_same_at_all_times() -> None:
    options = MotionOptions(distance=0.9)
    assert options.at(0) is options is options.at(1e6)
    assert Timeline((), options).at(3.0) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expressiveness": 3.0}, "expressiveness is 3: choose a number from 0 to 2"),
        ({"distance": 2.0}, "distance is 2: choose a number from 0.8 to 1.25"),
        ({"head": float("nan")}, "head is nan"),
        ({"gaze": (0.1,)}, "gaze has 1 numbers: give two angles"),
        ({"emotion": "happy"}, 'emotion is "happy": give strengths'),
        ({"gaze": (0.0, 1.0)}, r"gaze is \(0, 57\) degrees: eyes turn at most 34"),
        ({"gaze": (float("nan"), 0)}, r"gaze is \(nan, 0\) degrees"),
        ({"gaze": (0.1, float("-inf"))}, r"gaze is \(6, -inf\) degrees"),
    ],
)
def test_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MotionOptions(**options)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"distance": 1}, 'key 1 has no "time" in seconds'),
        ({"time": 0, "mood": 1}, 'unknown option "mood"; known: expressiveness, head, gaze'),
        ({"time": 0, "gaze": 5}, r'"gaze" is 5, not \[yaw, pitch\] in degrees'),
        ({"time": 0, "head": [1, 2]}, '"head" is .1, 2., not a number'),
        ({"time": 0, "head": True}, "not a number"),
        ({"time": 0, "distance": 9}, "distance is 9"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, key: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Timeline.load(_file(tmp_path, key))
    assert "line.json" in str(caught.value)


def test_what_is_no_timeline(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none.json", "cannot read"),
        (_file(tmp_path, format="something"), "not a timeline"),
    ):
        with pytest.raises(InputError, match=message):
            Timeline.load(path)
    with pytest.raises(InputError, match="format_version is 7"):
        Timeline.load(_file(tmp_path, format_version=7))
    with pytest.raises(InputError, match="sort the keys"):
        Timeline.load(_file(tmp_path, {"time": 2, "head": 1}, {"time": 1, "head": 1}))
    (tmp_path / "line.json").write_text("{", encoding="utf8")
    with pytest.raises(InputError, match="is not JSON"):
        Timeline.load(tmp_path / "line.json")
