"""How far points of a face are apart: the unit that sizes are told in, and what is open.

Landmarks are (..., 478, D) of any unit. With D = 2 distances are those in the picture, with D = 3
those in space, which a turn of the head does not shorten: the caller slices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology

Floats = NDArray[np.floating]


def apart(landmarks: Floats, pair: tuple[int, int]) -> Floats:
    """Distance (...) of two of the points."""
    return np.asarray(
        np.linalg.norm(landmarks[..., pair[0], :] - landmarks[..., pair[1], :], axis=-1)
    )


def eye_distance(landmarks: Floats) -> Floats:
    """Of the outer corners of the eyes, (...): on the mean face it is the face unit."""
    return apart(landmarks, topology.OUTER_CORNERS)


def lip_opening(landmarks: Floats) -> Floats:
    """Of the inner lips in their middle, (...)."""
    return apart(landmarks, topology.LIP_MIDDLES)


def lip_width(landmarks: Floats) -> Floats:
    """Of the inner lips from corner to corner, (...)."""
    return apart(landmarks, topology.LIP_CORNERS)


def lid_openings(landmarks: Floats) -> Floats:
    """Of the lids in their middle, (..., 2): the eye on the left of the image first."""
    return np.stack([apart(landmarks, pair) for pair in topology.LID_MIDDLES], axis=-1)
