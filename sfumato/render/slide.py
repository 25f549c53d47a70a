"""How skin slides under a face mesh.

The points of a mesh mark features, not skin: a cheek's point stays half-way between nose and ear
while the cheek itself moves, and depth that a photo does not show turns into motion with every turn
of the head. A small network, learned from the optical flow of real clips, says how far the skin at
every vertex lies from where the mesh puts it. Rims of lips and lids do mark what is seen there:
their vertices stay.

That is what is usual. What else a face shows, trackers' errors among it, is told by a motion's
``skin`` along axes of their own: the principal components of what the network leaves unexplained.
:mod:`sfumato.render.skinmeter` measures it in a video.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.geometry.pose import compose
from sfumato.latent import N_IDENTITY, Latents, MotionFrame
from sfumato.media.arrays import save_arrays
from sfumato.motionfile import N_EXPRESSION, N_SKIN
from sfumato.render.skin import N_VERTICES
from sfumato.weights import find, versioned

Floats = NDArray[np.float32]

FORMAT_VERSION = 2  # 1 had no axes
N_INPUTS = 10 + 2 * N_EXPRESSION + N_IDENTITY


def observed(person: Latents, frame: MotionFrame) -> Floats:
    """What the network is told, (N_INPUTS,) float32.

    The photo's yaw and pitch; the motion's pose and gaze, relative to the photo; expression of the
    photo, expression asked for; identity.
    """
    turn = (person.pose.yaw, person.pose.pitch)
    parts = (turn, frame.pose, frame.gaze, person.expression, frame.expression, person.identity)
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True)
class Slide:
    """The network: two hidden layers beside a straight one. Immutable; share one object.

    Attributes:
        centre, spread: (N_INPUTS,) what is taken off and divided by.
        first: (H, N_INPUTS + 1), second: (H, H + 1); weights and, last, the bias of each.
        straight: (K, N_INPUTS), bent: (K, H): inputs and hidden values to K patterns.
        patterns: (K, V, 2) face units, upright in the head: displacement of the mesh's vertices.
        axes: (N_SKIN, V, 2), the same for a standard deviation of each number of a motion's skin.
    """

    centre: Floats
    spread: Floats
    first: Floats
    second: Floats
    straight: Floats
    bent: Floats
    patterns: Floats
    axes: Floats

    @staticmethod
    @lru_cache(maxsize=2)
    def load(path: Path | None = None) -> Slide:
        """Reads a file; without a path the one that ships with the package.

        Raises:
            InputError: Not a file of this version.
        """
        shapes = {
            "centre": (N_INPUTS,),
            "spread": (N_INPUTS,),
            "first": (None, N_INPUTS + 1),
            "second": (None, None),
            "straight": (None, N_INPUTS),
            "bent": (None, None),
            "patterns": (None, N_VERTICES, 2),
            "axes": (N_SKIN, N_VERTICES, 2),
        }
        cure = "run sfumato train slide again"
        source = path or find("slide.npz")
        stored = versioned(source, FORMAT_VERSION, shapes, "sliding skin", cure)
        return Slide(**{name: array.astype(np.float32) for name, array in stored.items()})

    def save(self, path: Path) -> None:
        """Writes a file for :meth:`load`; half precision is a thousandth of a pixel."""
        arrays = {f.name: getattr(self, f.name).astype(np.float16) for f in fields(self)}
        save_arrays(path, {"format_version": np.array(FORMAT_VERSION), **arrays}, packed=True)

    def of(self, person: Latents, frame: MotionFrame) -> Floats:
        """Displacement (V, 2) float32 of every vertex, canvas pixels.

        0 where nothing moves and nothing is told of the skin.
        """
        pose = compose(person.pose, frame.pose)
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        turned = self.upright(person, frame) @ np.array([[cos, sin], [-sin, cos]], np.float32)
        return np.asarray(turned * pose.scale, np.float32)

    def upright(self, person: Latents, frame: MotionFrame) -> Floats:
        """The same (V, 2) in face units, x to the right and y down in the head."""
        rest = MotionFrame(np.zeros(6, np.float32), person.expression, np.zeros(2, np.float32))
        both = np.stack([observed(person, frame), observed(person, rest)])
        moved, still = self._weights(both)
        patterns = self.patterns.reshape(len(self.patterns), -1)
        told = frame.skin @ self.axes.reshape(len(self.axes), -1)
        return np.asarray(((moved - still) @ patterns + told).reshape(-1, 2), np.float32)

    def _weights(self, rows: Floats) -> Floats:
        """Weights (B, K) of the patterns for rows (B, N_INPUTS)."""
        x = (rows - self.centre) / self.spread
        hidden = np.maximum(x @ self.first[:, :-1].T + self.first[:, -1], 0)
        hidden = np.maximum(hidden @ self.second[:, :-1].T + self.second[:, -1], 0)
        return np.asarray(x @ self.straight.T + hidden @ self.bent.T, np.float32)
