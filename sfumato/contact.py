"""Contact of lips and lids, and where the irises sit: what linear bases cannot promise.

Everything here is in the head frame and in face units. A basis moves lips and lids of the mean
face; on another face the same move would leave the mouth ajar or the eye half shut. So the gaps
that the *basis* shows are imposed on the person: lips that touch there touch here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology as topo

Array = NDArray[np.floating]

# Distance from the centre of the eyeball to the iris, face units (24 mm balls, 90 mm between the
# outer corners); gaze angles in radians follow from it.
EYEBALL_RADIUS = 0.13
GAZE_LIMIT = (0.6, 0.4)  # radians, yaw and pitch: beyond, the iris leaves the opening
# Lids whose gap is below this share of the neutral one count as closed: the landmarks of tracked
# closed eyes never quite meet.
LID_CLOSED = 0.08
UPPER_LID_SHARE = 0.85

_LIPS = tuple(zip(topo.INNER_LIPS_UPPER[1:-1], topo.INNER_LIPS_LOWER[1:-1], strict=True))
_LIDS = (
    tuple(zip(topo.LEFT_EYE_UPPER[1:-1], topo.LEFT_EYE_LOWER[1:-1], strict=True)),
    tuple(zip(topo.RIGHT_EYE_UPPER[1:-1], topo.RIGHT_EYE_LOWER[1:-1], strict=True)),
)
_EYES = ((33, 133, topo.LEFT_IRIS), (263, 362, topo.RIGHT_IRIS))


@dataclass(frozen=True)
class Rim:
    """Pairs of points that can touch, and how the skin around follows them.

    Attributes:
        upper: (P,) indices of the upper row.
        lower: (P,) indices of the matching lower row.
        pull_upper: (478, P) share by which each point follows the upper point of each pair.
        pull_lower: (478, P) the same for the lower row.
    """

    upper: NDArray[np.intp]
    lower: NDArray[np.intp]
    pull_upper: Array
    pull_lower: Array

    def gaps(self, shape: Array) -> Array:
        """Lower minus upper point (P, 3) of a shape (478, 3)."""
        gap: Array = shape[self.lower] - shape[self.upper]
        return gap

    def impose(self, shape: Array, gaps: Array, upper_share: float) -> None:
        """Moves the points of ``shape`` in place until its gaps are ``gaps`` (P, 3)."""
        error = gaps - self.gaps(shape)
        shape -= upper_share * (self.pull_upper @ error)
        shape += (1 - upper_share) * (self.pull_lower @ error)


def make_rim(
    mean: Array, pairs: tuple[tuple[int, int], ...], ends: tuple[int, int], reach: float
) -> Rim:
    """Rim of ``pairs`` on the mean face; skin within about ``reach`` (face units) follows."""
    upper = np.array([p[0] for p in pairs])
    lower = np.array([p[1] for p in pairs])
    middle = mean[list(ends), 1].mean()
    pulls = []
    for row, other, sign in ((upper, lower, -1.0), (lower, upper, 1.0)):
        apart = mean[: topo.N_FACE, None, :2] - mean[None, row, :2]
        near = np.exp(-0.5 * (apart[..., 0] / 0.05) ** 2)
        near = near / np.maximum(near.sum(axis=1, keepdims=True), 1e-6)
        rim_y = near @ mean[row, 1]
        inside = (mean[: topo.N_FACE, 0] - mean[ends[0], 0]) * (
            mean[: topo.N_FACE, 0] - mean[ends[1], 0]
        ) < 0
        beyond = sign * (mean[: topo.N_FACE, 1] - rim_y)
        side = (beyond > 0) & (sign * (mean[: topo.N_FACE, 1] - middle) > -0.02) & inside
        pull = np.zeros((topo.N_POINTS, len(pairs)))
        pull[: topo.N_FACE] = near * (np.exp(-((beyond / reach) ** 2)) * side)[:, None]
        pull[other] = 0
        pull[row] = np.eye(len(pairs))
        pull[list(ends)] = 0
        pulls.append(pull)
    return Rim(upper, lower, pulls[0], pulls[1])


@dataclass(frozen=True)
class Contacts:
    """The three rims of the face and the resting irises of the mean face."""

    lips: Rim
    lids: tuple[Rim, Rim]
    iris_rest: Array  # (2, 5, 3) iris points relative to the middle of the eye corners

    @staticmethod
    def of(mean: Array) -> Contacts:
        """Built on the mean face (478, 3)."""
        lids = tuple(
            make_rim(mean, pairs, (eye[0], eye[1]), 0.05)
            for pairs, eye in zip(_LIDS, _EYES, strict=True)
        )
        rest = np.stack([mean[list(iris)] - mean[[a, b]].mean(axis=0) for a, b, iris in _EYES])
        return Contacts(make_rim(mean, _LIPS, (78, 308), 0.08), (lids[0], lids[1]), rest)

    def lip_gaps(self, model: Array, own: Array, own_model: Array) -> Array:
        """Gaps (P, 3) for this person's lips.

        Args:
            model: The basis' shape with the wanted expression (no identity).
            own: This person's shape as photographed.
            own_model: The basis' shape with the photographed expression.
        """
        gap = self.lips.gaps(model)
        seen, known = self.lips.gaps(own)[:, 1], self.lips.gaps(own_model)[:, 1]
        # Only an open mouth tells how wide this person's opens; closed lips tell noise.
        trust = np.clip(known / 0.08, 0, 1)
        factor = 1 + trust * (np.clip(seen / np.maximum(known, 0.01), 0.6, 1.7) - 1)
        open_ = np.maximum(gap[:, 1], 0)
        fade = open_ / (open_ + 0.01)
        return np.stack([gap[:, 0] * fade, open_ * factor, gap[:, 2] * fade], axis=1)

    def lid_gaps(self, eye: int, shapes: LidShapes, target: Array) -> Array:
        """Gaps (P, 3) for this person's lids: the neutral opening times the model's openness."""
        rim = self.lids[eye]
        neutral = rim.gaps(shapes.mean)[:, 1]

        def openness(model: Array) -> Array:
            share = rim.gaps(model)[:, 1] / neutral
            opened: Array = np.maximum(share - LID_CLOSED, 0) / (1 - LID_CLOSED)
            return opened

        usual = np.maximum(rim.gaps(shapes.person)[:, 1], 0.3 * neutral)
        own = openness(shapes.own_model)
        seen = rim.gaps(shapes.own)[:, 1] / np.maximum(own * usual, 1e-3)
        trust = np.clip((own - 0.25) / 0.35, 0, 1)
        factor = trust * np.clip(seen, 0.5, 1.8) + (1 - trust)
        share = openness(shapes.model)
        gap: Array = rim.gaps(target) * np.minimum(1, share / 0.3)[:, None]
        gap[:, 1] = share * factor * usual
        return gap


@dataclass(frozen=True)
class LidShapes:
    """Shapes (478, 3) that tell how far this person's lids open.

    Attributes:
        mean: The mean face.
        model: The mean face with the wanted expression.
        person: The neutral face of this identity, without residual.
        own: This person as photographed.
        own_model: The mean face with the photographed expression.
    """

    mean: Array
    model: Array
    person: Array
    own: Array
    own_model: Array


def eye_middles(shapes: Array) -> Array:
    """Middles of the eye corners (..., 2, 3) of shapes (..., 478, 3): image-left eye first."""
    return np.stack([shapes[..., [a, b], :].mean(axis=-2) for a, b, _ in _EYES], axis=-2)


def gaze_offset(gaze: Array) -> Array:
    """How far the irises move (..., 3) for gaze (..., 2) in radians, face units.

    Yaw > 0 moves them to the right of the image, pitch > 0 down, as the head's angles.
    """
    yaw = np.clip(gaze[..., 0], -GAZE_LIMIT[0], GAZE_LIMIT[0])
    pitch = np.clip(gaze[..., 1], -GAZE_LIMIT[1], GAZE_LIMIT[1])
    x = np.sin(yaw) * np.cos(pitch)
    z = 1 - np.cos(yaw) * np.cos(pitch)
    offset: Array = EYEBALL_RADIUS * np.stack([x, np.sin(pitch), z], axis=-1)
    return offset


def measure_gaze(shapes: Array, iris_rest: Array) -> Array:
    """Gaze (..., 2) in radians, both eyes averaged, from head-frame shapes (..., 478, 3)."""
    centres = shapes[..., [topo.LEFT_IRIS[0], topo.RIGHT_IRIS[0]], :]
    moved = (centres - eye_middles(shapes) - iris_rest[:, 0]).mean(axis=-2) / EYEBALL_RADIUS
    pitch = np.arcsin(np.clip(moved[..., 1], -0.9, 0.9))
    yaw = np.arcsin(np.clip(moved[..., 0] / np.cos(pitch), -0.9, 0.9))
    limit = np.array(GAZE_LIMIT)
    gaze: Array = np.clip(np.stack([yaw, pitch], axis=-1), -limit, limit)
    return gaze


def place_irises(shape: Array, gaze: Array, iris_rest: Array, residual: Array) -> None:
    """Writes the irises of ``shape`` in place: middle of the eye, rest, gaze, own residual."""
    middles = eye_middles(shape)
    for eye, (_, _, iris) in enumerate(_EYES):
        points = list(iris)
        shape[points] = middles[eye] + iris_rest[eye] + gaze_offset(gaze) + residual[points]
