"""What a visitor asks of a video, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sfumato.avatar import check_size
from sfumato.controls import MotionOptions
from sfumato.errors import InputError

_MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class VideoOptions:
    """How a video shall be.

    Attributes:
        size: side of the moving square in pixels.
        seed: of everything that chance decides.
        full_frame: keep the whole photo around the moving head.
        motion: how the face moves.
    """

    size: int
    seed: int = 0
    full_frame: bool = False
    motion: MotionOptions = MotionOptions()

    @staticmethod
    def from_json(text: str, size: int) -> VideoOptions:
        """Options from the text of a JSON object; empty is none.

        Args:
            size: what holds when it is left out.

        Raises:
            InputError: Not an object, an unknown option or a value out of range.
        """
        try:
            wishes: Any = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError):
            raise InputError("options are no JSON") from None
        if not isinstance(wishes, dict):
            raise InputError('options are a JSON object, like {"emotion": {"happy": 0.8}}')
        size = _number(wishes.pop("size", size), "size")
        seed = _number(wishes.pop("seed", 0), "seed")
        full_frame = wishes.pop("full_frame", False)
        check_size(size)
        if not 0 <= seed <= _MOST_SEED:
            raise InputError(f"seed is {seed}: choose a number from 0 to {_MOST_SEED}")
        if not isinstance(full_frame, bool):
            raise InputError("full_frame is true or false")
        return VideoOptions(size, seed, full_frame, MotionOptions.from_json(wishes))


def _number(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{name} is {json.dumps(value)[:40]}, not a whole number")
    return value
