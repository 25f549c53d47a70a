"""Faces as numbers: who (identity), what the face does (expression, gaze), where (pose).

A face is ``scale * (rotation @ X) + (x, y, 0)`` in pixels with, in the head frame and face units
(1 = distance of the outer eye corners of the mean face),
``X = mean + identity . z_id + expression . z_exp + residual``. Both bases are learned by
``sfumato train basis``; the residual is what they cannot explain and belongs to the person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato import contact, weights
from sfumato.errors import NoFaceError
from sfumato.facefit import (
    fill_gaps,
    measures,
    neutral_frames,
    pose_terms,
    shape_fit_weights,
    steady,
)
from sfumato.geometry import topology as topo
from sfumato.geometry.pose import Pose, compose, project
from sfumato.geometry.rotation import angles
from sfumato.geometry.similarity import similarity
from sfumato.media.arrays import save_arrays
from sfumato.motionfile import EXPRESSION_NAMES, N_EXPRESSION, Motion, MotionFrame

__all__ = [
    "EXPRESSION_NAMES",
    "N_EXPRESSION",
    "N_IDENTITY",
    "FaceBasis",
    "Latents",
    "Motion",
    "MotionFrame",
    "Pose",
]

Array = NDArray[np.floating]
Float32 = NDArray[np.float32]

N_IDENTITY = 48
FORMAT_VERSION = 1
# Standard deviation (face units) of what the bases leave unexplained, at weight 1: how strongly
# the priors hold against the landmarks. Larger than the jitter, since errors are correlated.
FIT_NOISE = 0.05
DEPTH_WEIGHT = 0.3  # MediaPipe's z is a guess
STILL_PRIOR = 1.5  # standard deviations of expression that a photograph may show (people pose)
# The same for the chosen neutral frames of a clip, named axes and the rest: lips that never close
# or a lasting smile are expression, finer differences are more likely the person.
NEUTRAL_PRIOR = (0.5, 0.05)
HUBER = 0.04  # face units
# Openings of lips and lids are seen sharper than single points and matter more: they enter a fit
# as measurements of their own, with this standard deviation in face units.
OPENING_NOISE = 0.005
BLINK_PRIOR = 4.0  # blinks are rare and large: a closed lid is five standard deviations away


@dataclass(frozen=True)
class Latents:
    """One face in one picture.

    Attributes:
        identity: (N_IDENTITY,) float32.
        expression: (N_EXPRESSION,) float32; 0 is neutral: lips closed and relaxed, eyes open.
        gaze: (2,) float32, yaw and pitch of both eyes relative to the head, radians.
        pose: Pose in the picture.
        residual: (478, 3) float32, face units in the head frame: what the bases left over.
    """

    identity: Float32
    expression: Float32
    gaze: Float32
    pose: Pose
    residual: Float32


@dataclass(frozen=True)
class Person:
    """What stays of a person while they move; shapes (478, 3) in the head frame and face units.

    Attributes:
        own: as photographed, with residual and gaze.
        own_model: the mean face with the photographed expression.
        neutral: the neutral face of this identity, without residual.
    """

    own: Array
    own_model: Array
    neutral: Array


_RIGID = list(topo.RIGID)
_NAMED = len(EXPRESSION_NAMES)
_MOVING = np.r_[np.full(2, BLINK_PRIOR), 2.0, np.ones(N_EXPRESSION - 3)]
_STILL = np.r_[np.full(2, 0.75 * BLINK_PRIOR), np.full(N_EXPRESSION - 2, STILL_PRIOR)]
_NEUTRAL = np.r_[
    np.full(_NAMED, NEUTRAL_PRIOR[0]), np.full(N_EXPRESSION - _NAMED, NEUTRAL_PRIOR[1])
]


@dataclass(frozen=True)
class FaceBasis:
    """The two learned bases. Immutable; share one object.

    Attributes:
        mean: (478, 3) neutral mean face, lips closed; face units, origin at the rigid points.
        identity: (N_IDENTITY, 478, 3), one standard deviation each; lips stay closed.
        expression: (N_EXPRESSION, 478, 3), one standard deviation each.
        pose_bias: (5, 478, 3) error of tracked landmarks by yaw, pitch, yaw^2, pitch^2,
            yaw * pitch; taken out before a fit.
        habit: (N_EXPRESSION,) median expression of a talking clip, seen from its neutral.
    """

    mean: Array
    identity: Array
    expression: Array
    pose_bias: Array
    habit: Array

    @staticmethod
    def load(path: Path | None = None) -> FaceBasis:
        """Reads a basis; without a path the one that ships with the package.

        Raises:
            InputError: Not a basis file of this version.
        """
        shapes = {
            "mean": (topo.N_POINTS, 3),
            "identity": (None, topo.N_POINTS, 3),
            "expression": (N_EXPRESSION, topo.N_POINTS, 3),
            "pose_bias": (5, topo.N_POINTS, 3),
            "habit": (N_EXPRESSION,),
        }
        stored = weights.versioned(
            path or weights.find("basis.npz"), FORMAT_VERSION, shapes, "faces", "train it anew"
        )
        return FaceBasis(**{name: array.astype(np.float64) for name, array in stored.items()})

    def save(self, path: Path) -> None:
        """Writes a file for :meth:`load`; half precision is a hundredth of a pixel."""
        save_arrays(
            path,
            {
                "format_version": np.array(FORMAT_VERSION),
                "mean": self.mean.astype(np.float32),
                "identity": self.identity.astype(np.float16),
                "expression": self.expression.astype(np.float16),
                "pose_bias": self.pose_bias.astype(np.float16),
                "habit": self.habit.astype(np.float32),
            },
            packed=True,
        )

    @cached_property
    def blink_shut(self) -> Float32:
        """(2,) values of ``blink_left`` and ``blink_right`` at which the lids just meet."""
        values = []
        for eye, rim in enumerate(self._contacts.lids):
            closing = -rim.gaps(self.expression[eye])[1:6, 1].mean()
            values.append(rim.gaps(self.mean)[1:6, 1].mean() / closing)
        return np.array(values, np.float32)

    @cached_property
    def _contacts(self) -> contact.Contacts:
        return contact.Contacts.of(self.mean)

    @cached_property
    def _rows(self) -> Array:
        """Both bases flat, (N_IDENTITY + N_EXPRESSION, 1434)."""
        both = np.concatenate([self.identity, self.expression])
        return both.reshape(len(both), -1)

    @cached_property
    def _weights(self) -> Array:
        table = shape_fit_weights()[:, None] * np.array([1.0, 1.0, DEPTH_WEIGHT])
        weights: Array = table.ravel() / FIT_NOISE**2
        return weights

    @cached_property
    def _openings(self) -> Array:
        """(3, 1434) measures of the two lid openings and the lip opening."""
        table = measures()
        return np.stack([table[n].ravel() for n in ("blink_left", "blink_right", "mouth_open")])

    @cached_property
    def _expression_solver(self) -> Array:
        """(N_EXPRESSION, 1434): shape minus neutral -> expression."""
        rows = self._rows[N_IDENTITY:]
        seen = rows @ self._openings.T
        right = rows * self._weights + seen @ self._openings / OPENING_NOISE**2
        solver: Array = np.linalg.solve(right @ rows.T + np.diag(_MOVING**-2), right)
        return solver

    def expression_of(self, moves: Array) -> Array:
        """Expression (T, N_EXPRESSION) of head-frame shapes minus the neutral (T, 478, 3)."""
        return moves.reshape(len(moves), -1) @ self._expression_solver.T

    def _solve(self, shape: Array, prior: Array, rounds: int) -> tuple[Array, Array]:
        """Identity and expression of a head-frame shape (478, 3); Huber weights, ridge.

        Args:
            shape: What to explain.
            prior: (N_EXPRESSION,) standard deviations of the expression.
            rounds: Reweightings; 1 is plain least squares.
        """
        rows, target = self._rows, (shape - self.mean).ravel()
        ridge = np.diag(np.r_[np.ones(N_IDENTITY), prior**-2])
        lips = self._openings[2] / OPENING_NOISE  # no identity has open lips
        seen = rows @ lips
        trust = np.ones(topo.N_POINTS)
        z = np.zeros(len(rows))
        for _ in range(rounds):
            weighted = rows * (self._weights * np.repeat(trust, 3))
            left = weighted @ rows.T + np.outer(seen, seen) + ridge
            z = np.linalg.solve(left, weighted @ target + seen * (lips @ target))
            error = np.linalg.norm((target - z @ rows).reshape(-1, 3)[:, :2], axis=1)
            trust = np.minimum(1, HUBER / np.maximum(error, 1e-9))
        return z[:N_IDENTITY], z[N_IDENTITY:]

    def expression_of_neutral(self, shape: Array) -> Array:
        """The move (478, 3) by which a clip's neutral frames are not neutral yet."""
        return np.tensordot(self._solve(shape, _NEUTRAL, 1)[1], self.expression, axes=1)

    def expression_of_still(self, shape: Array) -> Array:
        """The move (478, 3) by which a photographed head-frame shape is not neutral."""
        return np.tensordot(self._solve(shape, _STILL, 1)[1], self.expression, axes=1)

    def _bias(self, turns: Array) -> Array:
        return np.tensordot(pose_terms(turns), self.pose_bias, axes=1)

    def fit(self, landmarks: Array) -> Latents:
        """Latents of one photograph's landmarks (478, 3) in pixels.

        Raises:
            NoFaceError: Landmarks that are not finite or have no size.
        """
        points = np.asarray(landmarks, np.float64)
        if points.shape != (topo.N_POINTS, 3) or not np.isfinite(points).all():
            raise NoFaceError("no face: the landmarks are not 478 finite points")
        if np.linalg.norm(np.ptp(points[:, :2], axis=0)) < 1e-3:
            raise NoFaceError("no face: all landmarks lie on one point")
        model = self.mean
        for _ in range(4):
            place = similarity(model[_RIGID], points[None, _RIGID], np.ones(len(_RIGID)))
            shape = place.undo(points[None])[0]
            turn = np.array([angles(place.rotation[0])])
            z_id, z_exp = self._solve(shape - self._bias(turn)[0], _STILL, 3)
            model = self._shape(z_id, z_exp)
        pose = Pose(*(float(v) for v in np.r_[turn[0], place.shift[0, :2], place.scale[0]]))
        return self._with_residual(z_id, z_exp, pose, shape)

    def _with_residual(self, z_id: Array, z_exp: Array, pose: Pose, shape: Array) -> Latents:
        gaze = contact.measure_gaze(shape, self._contacts.iris_rest)
        residual = shape - self._shape(z_id, z_exp)
        rest = shape.copy()
        contact.place_irises(rest, gaze, self._contacts.iris_rest, np.zeros_like(shape))
        residual[topo.N_FACE :] = (shape - rest)[topo.N_FACE :]
        parts = (a.astype(np.float32) for a in (z_id, z_exp, gaze, residual))
        identity, expression, look, left = parts
        return Latents(identity, expression, look, pose, left)

    def _shape(self, z_id: Array, z_exp: Array) -> Array:
        z = np.concatenate([z_id, z_exp])
        shape: Array = self.mean + (z @ self._rows).reshape(-1, 3)
        return shape

    def head_shape(self, latents: Latents) -> Array:
        """Landmarks (478, 3) in the head frame and face units, with residual and gaze."""
        shape = self._shape(latents.identity, latents.expression) + latents.residual
        rest = self._contacts.iris_rest
        contact.place_irises(shape, latents.gaze, rest, latents.residual)
        return shape

    def landmarks(self, latents: Latents) -> Float32:
        """Landmarks (478, 3) float32 in pixels."""
        return project(self.head_shape(latents), latents.pose)

    def person(self, latents: Latents) -> Person:
        """What :meth:`drive` can be told of a face instead of finding it for every frame."""
        nobody, neutral = np.zeros(N_IDENTITY), np.zeros(N_EXPRESSION)
        return Person(
            self.head_shape(latents),
            self._shape(nobody, latents.expression),
            self._shape(latents.identity, neutral),
        )

    def drive(self, latents: Latents, frame: MotionFrame, person: Person | None = None) -> Float32:
        """Landmarks (478, 3) float32 in pixels of this person moving as ``frame`` says.

        Angles and gaze add to the photo's (a portrait that looks past us goes on doing so); x, y
        count in its face units; the scale is multiplied. The expression replaces the photo's own.
        Lips that touch and lids that close on the mean face do so here (see
        :mod:`sfumato.contact`).

        Args:
            person: from :meth:`person` of the same latents.
        """
        person = person or self.person(latents)
        own, own_model = person.own, person.own_model
        model = self.mean + (frame.expression @ self._rows[N_IDENTITY:]).reshape(-1, 3)
        shape = own + model - own_model
        rig = self._contacts
        rig.lips.impose(shape, rig.lip_gaps(model, own, own_model), 0.5)
        shapes = contact.LidShapes(self.mean, model, person.neutral, own, own_model)
        for eye, rim in enumerate(rig.lids):
            rim.impose(shape, rig.lid_gaps(eye, shapes, shape), contact.UPPER_LID_SHARE)
        contact.place_irises(shape, frame.gaze + latents.gaze, rig.iris_rest, latents.residual)
        return project(shape, compose(latents.pose, frame.pose))

    def fit_clip(self, tracks: Array, smooth: bool = True) -> tuple[Latents, Motion]:
        """The person of a clip (neutral, at the rest pose) and how they move.

        Args:
            tracks: (T, 478, 3) pixels; frames with NaN have no face and are interpolated.
            smooth: Take out jitter with :func:`steady` (not causal).

        Raises:
            NoFaceError: No frame has a face.
        """
        frames = fill_gaps(np.asarray(tracks, np.float64))
        if smooth:
            frames = steady(frames)
        neutral: Array = self.mean
        z_id: Array = np.zeros(N_IDENTITY)
        moves: Array = np.zeros((len(frames), N_EXPRESSION))
        for _ in range(3):
            model = neutral + np.tensordot(moves, self.expression, axes=1)
            place = similarity(model[:, _RIGID], frames[:, _RIGID], np.ones(len(_RIGID)))
            shapes = place.undo(frames)
            turns = np.array([angles(r) for r in place.rotation])
            straight = shapes - self._bias(turns)
            rest = np.median(straight[neutral_frames(straight)], axis=0)
            z_id, z_rest = self._solve(rest, _NEUTRAL, 2)
            neutral = rest - np.tensordot(z_rest, self.expression, axes=1)
            moves = self.expression_of(straight - neutral)
            # A few frames make a noisy neutral. The components without a name are centred on
            # what talking people do, so that a lasting difference is the person's.
            offset = np.median(moves, axis=0) - self.habit
            offset[:_NAMED] = 0
            neutral = neutral + np.tensordot(offset, self.expression, axes=1)
            moves = moves - offset
        scale, shift = place.scale, place.shift
        middle = np.median(np.c_[turns, shift[:, :2], np.log(scale)], axis=0)
        pose = Pose(*(float(v) for v in np.r_[middle[:5], np.exp(middle[5])]))
        gaze = contact.measure_gaze(shapes, self._contacts.iris_rest)
        ahead = np.median(gaze, axis=0)  # who talks looks at somebody: that is straight ahead
        gaze = gaze - ahead
        person = self._with_residual(z_id, np.zeros(N_EXPRESSION), pose, neutral)
        place_rel = np.c_[turns, shift[:, :2], np.log(scale)] - middle
        place_rel[:, 3:5] /= pose.scale
        # Interior and skin stay as they usually are: no landmark tells them.
        told = (a.astype(np.float32) for a in (place_rel, moves, gaze))
        pose_rel, expression, look = told
        motion = replace(Motion.zeros(len(frames)), pose=pose_rel, expression=expression, gaze=look)
        return replace(person, gaze=ahead.astype(np.float32)), motion

    def fit_frame(self, person: Latents, landmarks: Array) -> MotionFrame:
        """Motion of a known person in one tracked frame (478, 3): fast and causal, no smoothing.

        Args:
            person: From :meth:`fit_clip` of earlier frames, or :meth:`fit`; its pose is the rest
                pose, its gaze looks ahead.
            landmarks: Pixels of the same camera.
        """
        points = np.asarray(landmarks, np.float64)[None]
        bare = replace(person, expression=np.zeros(N_EXPRESSION, np.float32))
        neutral = self.head_shape(bare)
        moves: Array = np.zeros((1, N_EXPRESSION))
        for _ in range(2):
            model = neutral[_RIGID] + np.tensordot(moves[0], self.expression[:, _RIGID], axes=1)
            place = similarity(model, points[:, _RIGID], np.ones(len(_RIGID)))
            shape = place.undo(points)
            turn = np.array([angles(place.rotation[0])])
            moves = self.expression_of(shape - self._bias(turn) - neutral)
        gaze = contact.measure_gaze(shape[0], self._contacts.iris_rest) - person.gaze
        rest = person.pose
        moved = np.r_[turn[0], place.shift[0, :2], np.log(place.scale[0])]
        moved -= [rest.yaw, rest.pitch, rest.roll, rest.x, rest.y, np.log(rest.scale)]
        moved[3:5] /= rest.scale
        return MotionFrame(
            moved.astype(np.float32), moves[0].astype(np.float32), gaze.astype(np.float32)
        )
