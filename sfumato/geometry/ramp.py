"""The cubic step that lets things begin and end softly."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.floating)


def smoothstep(value: NDArray[Number]) -> NDArray[Number]:
    """0 below 0, 1 above 1, and smooth between, ``3 t^2 - 2 t^3``."""
    t = np.clip(value, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), value.dtype)


def step(value: float) -> float:
    """The same of one number."""
    t = min(max(value, 0.0), 1.0)
    return t * t * (3 - 2 * t)
