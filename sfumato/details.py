"""Close looks at the eyes and the lips.

The landmark network sees a whole face in 128 pixels, an iris in four of them: it knows where eyes
and lips are, not where they look or how far they are open to the pixel. Two small networks look
again, enlarged, as MediaPipe's attention mesh does (Grishchenko et al. 2020, arXiv 2006.10962).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.engine import Network
from sfumato.geometry import topology as topo
from sfumato.geometry.crop import Square, cut, invert, transform

Image = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Floats = NDArray[np.floating]
Ids = NDArray[np.int64]


def _between(inner: tuple[int, ...], outer: tuple[int, ...]) -> list[int]:
    """Points of the mesh that are reached from ``inner`` without crossing ``outer``."""
    near: dict[int, set[int]] = {}
    for triangle in topo.TRIANGLES.tolist():
        for point in triangle:
            near.setdefault(point, set()).update(triangle)
    found, left = set(inner), list(inner)
    while left:
        new = near[left.pop()] - found - set(outer)
        found |= new
        left += new
    return sorted(found - set(inner))


def _around(ring: tuple[int, ...]) -> list[int]:
    """Points of the mesh beside a ring."""
    beside = {p for t in topo.TRIANGLES.tolist() if set(t) & set(ring) for p in t}
    return sorted(beside - set(ring))


@dataclass(frozen=True)
class Detail:
    """A kind of close look.

    Attributes:
        name: ``eyes`` or ``lips``.
        pixels: side of the crop.
        reach: its side in outer-eye distances.
        anchors: points whose middle is its centre.
        points: (n,) the landmarks that it tells; of the image-left eye.
        mirrored: it has a counterpart on the other side, which is looked at in a mirror.
    """

    name: str
    pixels: int
    reach: float
    anchors: tuple[int, ...]
    points: Ids
    mirrored: bool

    def square(self, landmarks: Floats, other_side: bool = False) -> Square:
        """Where to look, by rough landmarks (478, 3) in pixels."""
        first, last = topo.OUTER_CORNERS
        across = np.asarray(landmarks[last] - landmarks[first], np.float64)
        anchors = topo.MIRROR[list(self.anchors)] if other_side else list(self.anchors)
        x, y = landmarks[anchors, :2].mean(axis=0).tolist()
        side = self.reach * max(float(np.linalg.norm(across)), 1.0)
        return Square(x, y, side, float(np.arctan2(across[1], across[0])))

    @property
    def sides(self) -> tuple[bool, ...]:
        """Which sides are looked at: the first, and the other."""
        return (False, True) if self.mirrored else (False,)


EYES = Detail(
    "eyes", 64, 0.5, (33, 133),
    np.array([*topo.LEFT_EYE, *topo.LEFT_IRIS, *_around(topo.LEFT_EYE)]), True,
)  # fmt: skip
LIPS = Detail(
    "lips", 96, 1.0, (61, 291, 0, 17),
    np.array([*topo.OUTER_LIPS, *topo.INNER_LIPS, *_between(topo.INNER_LIPS, topo.OUTER_LIPS)]),
    False,
)  # fmt: skip
DETAILS = (EYES, LIPS)


class Details:
    """The networks. Holds no state; share one object."""

    def __init__(self, networks: dict[str, Network]) -> None:
        self._networks = networks

    @staticmethod
    def load(threads: int = 1) -> Details:
        """The networks that ship with the package."""
        return Details({d.name: Network(f"face_{d.name}", threads) for d in DETAILS})

    def seen(self, image: Image, rough: Floats, scales: tuple[float, ...] = (1.0,)) -> Float32:
        """Landmarks (478, 3) with eyes and lips where a close look sees them; depth stays.

        Args:
            image: (H, W, 3) uint8 RGB.
            rough: landmarks by the landmark network.
            scales: of the squares looked at; what is seen is averaged.
        """
        out = np.array(rough, np.float32)
        for detail in DETAILS:
            sides = detail.sides
            squares = [detail.square(rough, side).scaled(s) for side in sides for s in scales]
            crops = [cut(image, square, detail.pixels) for square in squares]
            flips = [side for side in sides for _ in scales]
            views = [c[:, ::-1] if flip else c for c, flip in zip(crops, flips, strict=True)]
            points = self._networks[detail.name](network_input(views))[0]
            places = [
                placed(detail, square, seen, flip)
                for square, seen, flip in zip(squares, points, flips, strict=True)
            ]
            for number, side in enumerate(sides):
                ids = topo.MIRROR[detail.points] if side else detail.points
                own = places[number * len(scales) : (number + 1) * len(scales)]
                out[ids, :2] = np.mean(own, axis=0)
        return out


def network_input(pictures: list[Image]) -> Float32:
    """uint8 (H, W, 3) pictures -> (B, 3, H, W) float32 in [-1, 1]."""
    return np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0


def placed(detail: Detail, square: Square, points: Floats, flip: bool) -> Floats:
    """Points (n, 2) in [-1, 1] of a crop -> pixels of the picture."""
    middle = (detail.pixels - 1) / 2
    seen = points * (detail.pixels / 2) + middle
    if flip:
        seen[:, 0] = detail.pixels - 1 - seen[:, 0]
    return transform(invert(square.matrix(detail.pixels)), seen)


def wanted(detail: Detail, square: Square, landmarks: Floats, flip: bool) -> Floats:
    """The reverse: landmarks (478, 3) in pixels -> what the network shall say, (n, 2)."""
    ids = topo.MIRROR[detail.points] if flip else detail.points
    seen = transform(square.matrix(detail.pixels), landmarks[ids, :2])
    if flip:
        seen[:, 0] = detail.pixels - 1 - seen[:, 0]
    return (seen - (detail.pixels - 1) / 2) / (detail.pixels / 2)
