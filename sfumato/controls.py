"""How the motion shall be: constant, or keyframed over time."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sfumato.emotions import EMOTIONS, Weights, checked
from sfumato.errors import InputError

FORMAT_VERSION = 1
EASE = 0.3  # seconds in which a live face goes over to other options
_GAZE = 0.6  # radians that eyes turn at most
_FACTOR = (0.0, 2.0)
_DISTANCE = (0.8, 1.25)  # a neck bears no more: the shoulders hardly follow


def check_seed(seed: int) -> None:
    """Raises :class:`InputError` for a seed that chance cannot begin with."""
    if seed < 0:
        raise InputError(f"seed is {seed}: choose a whole number from 0")


@dataclass(frozen=True)
class MotionOptions:
    """How the motion shall be at one time.

    Attributes:
        expressiveness: factor on the face's motion, 0 to 2.
        head: factor on the head's motion, 0 to 2.
        gaze: where the eyes rest relative to the resting head, yaw and pitch in radians, up to 0.6.
            A photo whose head is turned away but whose eyes meet the viewer wants its own here.
        distance: of the head from the viewer, over that in the photo, 0.8 to 1.25.
        emotion: strengths by name, like ``{"happy": 0.8}``, together 1 at most; kept as pairs.

    Raises:
        InputError: A value out of its range, or an unknown emotion.
    """

    expressiveness: float = 1.0
    head: float = 1.0
    gaze: tuple[float, float] = (0.0, 0.0)
    distance: float = 1.0
    emotion: Weights = ()

    def __post_init__(self) -> None:
        for name, (low, high) in (
            ("expressiveness", _FACTOR),
            ("head", _FACTOR),
            ("distance", _DISTANCE),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value:g}: choose a number from {low:g} to {high:g}")
        if len(self.gaze) != 2:
            raise InputError(f"gaze has {len(self.gaze)} numbers: give two angles, yaw and pitch")
        if isinstance(self.emotion, str):
            raise InputError(
                f'emotion is "{self.emotion}": give strengths, {{"{self.emotion}": 1.0}}'
            )
        if not all(abs(angle) <= _GAZE for angle in self.gaze):
            degrees = ", ".join(f"{math.degrees(angle):.0f}" for angle in self.gaze)
            most = round(math.degrees(_GAZE))
            raise InputError(f"gaze is ({degrees}) degrees: eyes turn at most {most}")
        object.__setattr__(self, "emotion", checked(self.emotion))  # nobody can change it later

    @staticmethod
    def from_json(content: Any, base: MotionOptions | None = None) -> MotionOptions:
        """Options from a JSON object with the units of a timeline's key, see docs/motion.md.

        Args:
            content: option -> value; gaze in degrees, emotion as strengths by name.
            base: what holds for options that are left out.

        Raises:
            InputError: Not an object, an unknown option or a value out of range.
        """
        if not isinstance(content, dict):
            raise InputError('options are a JSON object, like {"emotion": {"happy": 0.8}}')
        return replace(base or MotionOptions(), **_options(_read("options", content)))

    def to_json(self) -> dict[str, Any]:
        """The reverse of :meth:`from_json`."""
        return {
            "expressiveness": self.expressiveness,
            "head": self.head,
            "gaze": [round(math.degrees(angle), 2) for angle in self.gaze],
            "distance": self.distance,
            "emotion": dict(self.emotion),
        }

    def at(self, seconds: float) -> MotionOptions:
        """The same at all times; so that constants serve where a :class:`Timeline` does."""
        del seconds
        return self


@dataclass(frozen=True)
class Key:
    """Values of some options at a time.

    Attributes:
        time: seconds from the first sample.
        values: option -> its numbers: gaze in radians, emotion as the strengths of ``EMOTIONS``,
            one number for all others.
    """

    time: float
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Timeline:
    """Options that change over time.

    Each option goes its own way: from key to key that names it at an even rate, constant before its
    first and after its last. What no key names stays as ``base`` says.

    Attributes:
        keys: in the order of their times.
        base: constant options.

    Raises:
        InputError: Keys out of order, or a value out of its range.
    """

    keys: tuple[Key, ...]
    base: MotionOptions = MotionOptions()

    def __post_init__(self) -> None:
        for before, after in zip(self.keys, self.keys[1:], strict=False):
            if after.time < before.time:
                raise InputError(
                    f"timeline: {after.time:g} s stands after {before.time:g} s: sort the keys"
                )
        for key in self.keys:
            self.at(key.time)  # ranges are checked where the options are made

    @staticmethod
    def load(path: str | Path, base: MotionOptions | None = None) -> Timeline:
        """Reads a JSON file, see docs/motion.md.

        Raises:
            InputError: No such file, not a timeline, an unknown option or a value out of range.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf8"))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{path} is not JSON: {error}") from error
        try:
            return Timeline(_keys(content), base or MotionOptions())
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def at(self, seconds: float) -> MotionOptions:
        """The options at a time."""
        named = ((name, self._numbers(name, seconds)) for name in _NAMES)
        changed = {name: numbers for name, numbers in named if numbers is not None}
        return replace(self.base, **_options(changed))

    def _numbers(self, name: str, seconds: float) -> tuple[float, ...] | None:
        keys = [key for key in self.keys if name in key.values]
        if not keys:
            return None
        place = bisect_right([key.time for key in keys], seconds)
        before, after = keys[max(place - 1, 0)], keys[min(place, len(keys) - 1)]
        gap = after.time - before.time
        share = min(max((seconds - before.time) / gap, 0.0), 1.0) if gap > 0 else 0.0
        return tuple(
            a + (b - a) * share
            for a, b in zip(before.values[name], after.values[name], strict=True)
        )


_NAMES = tuple(f.name for f in fields(MotionOptions))


def glide(before: MotionOptions, after: MotionOptions, start: float, seconds: float) -> Timeline:
    """From one way of moving to another, beginning at ``start`` (seconds of the stream)."""
    return Timeline((Key(start, _values(before)), Key(start + seconds, _values(after))))


def _values(options: MotionOptions) -> dict[str, tuple[float, ...]]:
    """All options as the numbers of a key."""
    felt = dict(options.emotion)
    values = {name: getattr(options, name) for name in _NAMES if name != "emotion"}
    numbers = {k: v if isinstance(v, tuple) else (float(v),) for k, v in values.items()}
    return numbers | {"emotion": tuple(felt.get(name, 0.0) for name in EMOTIONS)}


def _options(values: Mapping[str, tuple[float, ...]]) -> dict[str, Any]:
    """What :class:`MotionOptions` takes, of the numbers of a key."""
    options: dict[str, Any] = {k: v[0] if len(v) == 1 else v for k, v in values.items()}
    if "emotion" in values:
        options["emotion"] = tuple(zip(EMOTIONS, values["emotion"], strict=True))
    return options


def _keys(content: Any) -> tuple[Key, ...]:
    if not isinstance(content, dict) or content.get("format") != "sfumato timeline":
        raise InputError('not a timeline: it begins with {"format": "sfumato timeline", ...}')
    if content.get("format_version") != FORMAT_VERSION:
        version = content.get("format_version")
        raise InputError(f"format_version is {version}, this program reads {FORMAT_VERSION}")
    keys = content.get("keys")
    if not isinstance(keys, list):
        raise InputError('"keys" is missing: a list of {"time": seconds, option: value}')
    return tuple(_key(number, key) for number, key in enumerate(keys, 1))


def _key(number: int, key: Any) -> Key:
    if not isinstance(key, dict) or not _is_number(key.get("time")):
        raise InputError(f'key {number} has no "time" in seconds')
    wishes = {name: value for name, value in key.items() if name != "time"}
    return Key(float(key["time"]), _read(f"key {number}", wishes))


def _read(where: str, wishes: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    """The numbers of options as JSON has them; angles become radians."""
    values: dict[str, tuple[float, ...]] = {}
    for name, value in wishes.items():
        if name not in _NAMES:
            raise InputError(f'{where}: unknown option "{name}"; known: {", ".join(_NAMES)}')
        if name == "emotion":
            values[name] = _strengths(where, value)
            continue
        pair = name == "gaze"
        numbers = value if isinstance(value, list) else [value]
        if not all(map(_is_number, numbers)) or len(numbers) != 1 + pair:
            wanted = "[yaw, pitch] in degrees" if pair else "a number"
            raise InputError(f'{where}: "{name}" is {json.dumps(value)}, not {wanted}')
        values[name] = tuple(math.radians(n) if pair else float(n) for n in numbers)
    return values


def _strengths(where: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, dict) or not all(map(_is_number, value.values())):
        wanted = '{"name": strength}, like {"happy": 0.8}'
        raise InputError(f'{where}: "emotion" is {json.dumps(value)}, not {wanted}')
    known = dict(checked(value))
    return tuple(known.get(name, 0.0) for name in EMOTIONS)


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
