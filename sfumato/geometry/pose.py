"""Where a head is: weak perspective from head coordinates to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry.rotation import matrix

Array = NDArray[np.floating]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Pose:
    """Where the head is: radians, pixels of its origin, pixels per face unit."""

    yaw: float
    pitch: float
    roll: float
    x: float
    y: float
    scale: float


def project(shape: Array, pose: Pose) -> Float32:
    """Head-frame shape (478, 3) to pixels (478, 3) float32 under weak perspective."""
    turned = shape @ matrix(pose.yaw, pose.pitch, pose.roll).T
    placed = pose.scale * turned + np.array([pose.x, pose.y, 0.0])
    result: Float32 = placed.astype(np.float32)
    return result


def compose(rest: Pose, relative: Array) -> Pose:
    """The rest pose moved by (6,) yaw, pitch, roll, x, y (face units), log scale."""
    yaw, pitch, roll, x, y, grow = (float(v) for v in relative)
    return Pose(
        rest.yaw + yaw,
        rest.pitch + pitch,
        rest.roll + roll,
        rest.x + x * rest.scale,
        rest.y + y * rest.scale,
        rest.scale * float(np.exp(grow)),
    )
