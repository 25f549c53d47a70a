"""Batches for the motion generator: takes mirrored, sped up, cut into rows; their past with errors.

At work the generator's past is what it made itself, so the past that it learns from is disturbed,
and it must find back to what people do. It is told how much: not told, it learned to distrust its
past, and heads hardly moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import InputError
from sfumato.latent import FaceBasis
from sfumato.models.motion import N_DRAWN, N_FACE, N_KINDS, N_PAST, N_POSE
from sfumato.train.augment import resample
from sfumato.train.motion_clips import (
    VERSIONS,
    Take,
    ages,
    mirrored_face,
    own_motion,
)

Array = NDArray[np.float32]

ROWS = ((48, 40), (20, 100))  # rows and frames of a batch, in turn
FILLED = 0.6  # share of a row that a take has to fill
POSE_FLIP = np.array([-1, 1, -1, -1, 1, 1], np.float32)
EYES_FLIP = np.array([-1, 1], np.float32)
NO_SOUND = 0.1  # share of rows that hear nothing (classifier-free guidance)
NO_STYLE = 0.15
NO_SILENCE = 0.6  # share of the rows of silent clips that hear nothing, not even silence
MOST_ERROR = 0.2  # of the past, in usual sizes


@dataclass(frozen=True)
class Spread:
    """Usual sizes: pose, speed (6,), own motion of the face (N_FACE,), glance (2,)."""

    pose: Array
    speed: Array
    own: Array
    glance: Array

    @staticmethod
    def of(takes: Sequence[Take]) -> Spread:
        """Measured on real takes."""
        real = [t for t in takes if t.style[0] > 0]
        synced = [t for t in real if t.synced]

        def size(parts: list[Array]) -> Array:
            return np.maximum(np.concatenate(parts).std(axis=0), 1e-4).astype(np.float32)

        return Spread(
            size([np.clip(t.pose[t.good], -0.5, 0.5) for t in real]),
            size([t.speed[t.good] for t in real]),
            size([own_motion(t, 0)[0][t.good] for t in synced]),
            size([t.glance[t.good] for t in real]),
        )


class Batcher:
    """Draws batches of takes.

    Args:
        takes: to learn from.
        spread: usual sizes.
        basis: for the mirror.
        augment: False for checking.
    """

    def __init__(
        self, takes: Sequence[Take], spread: Spread, basis: FaceBasis, augment: bool = True
    ) -> None:
        self.takes, self.spread, self.augment = list(takes), spread, augment
        self.flip = mirrored_face(basis)
        self.rows = []  # rows, frames and chances of the takes; short clips fill no long rows
        for count, frames in ROWS:
            weights = np.array([t.weight * (len(t) >= FILLED * frames) for t in takes])
            if weights.sum() > 0:
                self.rows.append((count, frames, weights / weights.sum()))
        if not self.rows:
            shortest = FILLED * min(frames for _, frames in ROWS)
            raise InputError(f"no clip has {shortest:.0f} good frames in a row: give longer clips")

    def batch(self, rng: np.random.Generator) -> dict[str, Array]:
        """past, heard, style, drawn, mask (of drawn), events, seen (of events); rows first."""
        count, frames, chances = self.rows[int(rng.integers(len(self.rows)))]
        rows = [
            self._row(self.takes[rng.choice(len(self.takes), p=chances)], frames, rng)
            for _ in range(count)
        ]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, take: Take, frames: int, rng: np.random.Generator) -> dict[str, Array]:
        version = int(rng.integers(VERSIONS)) if self.augment else 0
        if self.augment and rng.random() < 0.5:
            take = faster(take, float(rng.uniform(0.9, 1.12)))
        own, mean = own_motion(take, version)
        start = int(rng.integers(0, max(len(take) - frames, 0) + 1))
        part = slice(start, min(start + frames, len(take)))
        error = float(rng.uniform(0, MOST_ERROR)) if self.augment else 0.0
        mirror = self.augment and rng.random() < 0.5
        row = self._arrays(take, own, mean, mirror)
        past = row.pop("past")
        past = past + error * rng.standard_normal(past.shape).astype(np.float32)
        row = {"past": past} | row
        row["heard"] = self._heard(take, version, rng, mirror)
        row = {k: _padded(v[part], frames) for k, v in row.items()}
        style = take.style.copy()
        if self.augment and rng.random() < NO_STYLE:
            style[N_KINDS:] = 0.0
        style[-1] = error
        return row | {"style": style}

    def _heard(self, take: Take, version: int, rng: np.random.Generator, mirror: bool) -> Array:
        leave_out = NO_SOUND if take.synced else NO_SILENCE
        heard = take.heard[version].astype(np.float32)
        if self.augment and rng.random() < leave_out:
            return np.zeros_like(heard)
        if mirror:
            first = heard.shape[1] - N_FACE - 2
            heard[:, first : first + N_FACE] = heard[:, first : first + N_FACE] @ self.flip
        return heard

    def _arrays(self, take: Take, own: Array, mean: Array, mirror: bool) -> dict[str, Array]:
        pose, speed, glance, landing = take.pose, take.speed, take.glance, take.landing
        if mirror:
            pose, speed = pose * POSE_FLIP, speed * POSE_FLIP
            glance, landing = glance * EYES_FLIP, landing * EYES_FLIP
            own, mean = own @ self.flip, mean @ self.flip
        spread, good = self.spread, take.good.astype(np.float32)[:, None]
        pose, speed = pose / spread.pose, speed / spread.speed
        own, mean = own / spread.own, mean / spread.own
        glance, landing = glance / spread.glance, landing / spread.glance
        recent = np.stack([ages(take.blinks), ages(take.saccades)], axis=1)
        past = [before(a) for a in (pose, speed, before(speed), own, mean, glance)]
        both = good * before(good)
        mask = [
            np.repeat(both, N_POSE, axis=1),
            np.repeat(good * float(take.synced), N_FACE, axis=1),
            np.repeat(good, 2, axis=1),
        ]
        drawn = np.concatenate([speed, own, landing], axis=1)
        mask_rows = np.concatenate(mask, axis=1) * (np.abs(drawn).max(axis=1, keepdims=True) < 12)
        out = {
            "past": np.concatenate([*past, recent], axis=1),
            "drawn": drawn,
            "mask": mask_rows,
            "events": np.stack([take.blinks, take.saccades], axis=1),
            "seen": good,
        }
        assert out["past"].shape[1] == N_PAST and drawn.shape[1] == N_DRAWN
        return {k: v.astype(np.float32) for k, v in out.items()}


def before(values: Array) -> Array:
    """Each row as it was a frame before; zeros before the first."""
    return np.concatenate([np.zeros_like(values[:1]), values[:-1]])


def faster(take: Take, factor: float) -> Take:
    """The take played faster or slower."""
    frames = max(int(round(len(take) / factor)), 2)
    step = (len(take) - 1) / (frames - 1)

    def at(values: Array) -> Array:
        return resample(values, frames)

    def events(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        out = np.zeros(frames, bool)
        out[np.minimum((np.flatnonzero(flags) / step).astype(int), frames - 1)] = True
        return out

    pose = at(take.pose)
    heard = np.stack([at(h.astype(np.float32)) for h in take.heard]).astype(np.float16)
    return replace(
        take,
        pose=pose,
        speed=np.diff(pose, axis=0, prepend=pose[:1]),
        face=at(take.face),
        glance=at(take.glance),
        landing=at(take.landing),
        blinks=events(take.blinks),
        saccades=events(take.saccades),
        good=at(take.good.astype(np.float32)) > 0.99,
        heard=heard,
    )


def _padded(values: Array, frames: int) -> Array:
    return np.pad(values, ((0, frames - len(values)), (0, 0)))
