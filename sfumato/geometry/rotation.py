"""Head rotations. Axes: x right, y down, z away from the viewer (image axes made 3D).

Angles are radians: ``yaw`` > 0 turns the nose to the right of the image, ``pitch`` > 0 tips it
down, ``roll`` > 0 turns the head clockwise in the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def matrix(yaw: float, pitch: float, roll: float) -> FloatArray:
    """Rotation matrix, shape (3, 3), ``Rz(roll) @ Ry(-yaw) @ Rx(pitch)``; acts on columns."""
    cy, sy = np.cos(yaw), np.sin(yaw)
    cp, sp = np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_z = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cy, 0.0, -sy], [0.0, 1.0, 0.0], [sy, 0.0, cy]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    whole: FloatArray = about_z @ about_y @ about_x
    return whole


def angles(rotation: FloatArray) -> tuple[float, float, float]:
    """Inverse of :func:`matrix` for |yaw| < pi / 2: ``(yaw, pitch, roll)`` in radians."""
    yaw = float(np.arcsin(np.clip(rotation[2, 0], -1.0, 1.0)))
    pitch = float(np.arctan2(rotation[2, 1], rotation[2, 2]))
    roll = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return yaw, pitch, roll
