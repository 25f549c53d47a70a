"""What a network says of a patch, brought into the frame: pixels moved, kept and added.

Pictures have four channels here, the last without a meaning: OpenCV warps one or four channels
several times faster than two or three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology
from sfumato.geometry.patches import Affine
from sfumato.render.tint import in_one_tint

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
_KEPT = (0.0, 0.0, 0.0, 1.0)  # beyond a patch nothing is added and all is kept
_FINE, _COARSE = 1.5, 4.0  # pixels: detail finer than a Gaussian of this, and of that
_CRISP = 0.55  # fine over coarser detail of a face from which it has something to lose


@dataclass(frozen=True)
class Answer:
    """What a network says of one patch.

    Attributes:
        matrix: (2, 3) canvas to patch pixels.
        flow: (2, H / 2, W / 2) float32 patch pixels, where to take a pixel from.
        mixed: (4, H, W) float32: keep 0..1, then add, RGB 0..255: keep * warped + add.
    """

    matrix: Affine
    flow: Floats
    mixed: Floats


@dataclass(frozen=True)
class Place:
    """Where a patch lies in the frame.

    Attributes:
        rows, cols: of its bounding box.
        back: (2, 3) patch to canvas pixels.
    """

    rows: slice
    cols: slice
    back: Affine

    @staticmethod
    def of(matrix: Affine, shape: tuple[int, ...], size: int) -> Place | None:
        """None where the patch lies outside of the frame."""
        back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
        box = []
        for across, down, offset in back.tolist():
            right, low = across * (shape[1] - 1), down * (shape[0] - 1)
            least, most = min(right, 0) + min(low, 0), max(right, 0) + max(low, 0)
            start = max(math.floor(offset + least), 0)
            stop = min(math.ceil(offset + most) + 1, size)
            if stop <= start:
                return None
            box.append(slice(start, stop))
        return Place(box[1], box[0], back)

    def brought(
        self, values: Image | Floats, step: int = 1, edge: tuple[float, ...] = (0.0,)
    ) -> Floats:
        """Values of a patch, or of a grid of step x step blocks in it, in the box: (h, w[, c])."""
        matrix = self.back.copy()
        matrix[:, 2] += 0.5 * (step - 1) * matrix[:, :2].sum(axis=1)
        matrix[:, 2] -= (self.cols.start, self.rows.start)
        matrix[:, :2] *= step
        box = (self.cols.stop - self.cols.start, self.rows.stop - self.rows.start)
        return np.asarray(cv2.warpAffine(values, matrix, box, borderValue=edge), np.float32)


@dataclass(frozen=True)
class Mended:
    """A mended patch, ready to be laid over the frame.

    Attributes:
        place: where.
        over: (h, w, 4) float32, its colours 0..255.
        drawn: (h, w, 4) uint8, the pixels that these were made of.
        share: (h, w) float32 in 0..1, how much of them shows.
    """

    place: Place
    over: Floats
    drawn: Image
    share: Floats

    def keep_to(self, alpha: Image) -> None:
        """Show none of it beyond the person's matte (S, S), in place."""
        matte = alpha[self.place.rows, self.place.cols]
        cv2.multiply(self.share, matte, dst=self.share, scale=1 / 255, dtype=cv2.CV_32F)

    def lay(self, picture: Image) -> None:
        """Blend it into (S, S, 4), in place."""
        part = picture[self.place.rows, self.place.cols]
        change = cv2.subtract(self.over, part, dtype=cv2.CV_32F)
        cv2.multiply(change, cv2.cvtColor(self.share, cv2.COLOR_GRAY2RGBA), dst=change)
        cv2.add(part, change, dst=part, dtype=cv2.CV_8U)


def sampling_of(picture: Image, landmarks: Floats) -> int:
    """How to sample a portrait (S, S, 3) between its pixels: bicubic, or bilinear if it is soft.

    A photo that was enlarged has no detail that bilinear interpolation could take, and bicubic
    lifts what compression left of it.

    Args:
        landmarks: (478, 3) in its pixels.

    Returns:
        A flag of ``cv2.remap``.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (_FINE, _COARSE))
    face = np.zeros(grey.shape, np.uint8)
    oval = landmarks[list(topology.FACE_OVAL), :2]
    cv2.fillPoly(face, [np.round(oval).astype(np.int32)], 1)
    share = cv2.norm(grey, fine, cv2.NORM_L2, face) / max(cv2.norm(fine, coarse, mask=face), 1e-3)
    return cv2.INTER_CUBIC if share > _CRISP else cv2.INTER_LINEAR


def mend(
    picture: Image,
    answer: Answer,
    window: Floats,
    tint: Floats | None = None,
    sampling: int = cv2.INTER_CUBIC,
) -> Mended | None:
    """Mend a patch of a picture (S, S, 4).

    Args:
        window: (H, W) in 0..1, how much of the patch shows.
        tint: what is new has it.
        sampling: from :func:`sampling_of`.

    Returns:
        None where the patch lies outside of the picture.
    """
    place = Place.of(answer.matrix, window.shape, picture.shape[0])
    if place is None:
        return None
    keep, *add = answer.mixed
    mixed = place.brought(cv2.merge([*add, keep]), edge=_KEPT)
    keep = cv2.extractChannel(mixed, 3)
    warped = _fetched(picture, place, answer.flow, sampling)
    kept = cv2.multiply(warped, cv2.cvtColor(keep, cv2.COLOR_GRAY2RGBA), dtype=cv2.CV_32F)
    over: Floats = np.asarray(cv2.add(kept, mixed, dst=kept), np.float32)
    if tint is not None:
        over[..., :3] = in_one_tint(over[..., :3], tint)
    return Mended(place, over, warped, place.brought(window))


def _fetched(picture: Image, place: Place, flow: Floats, sampling: int) -> Image:
    """Pixels (h, w, 4) of the box, each from where the flow says."""
    (a, b), (c, d) = place.back[:, :2].tolist()
    x, y = cv2.addWeighted(flow[0], a, flow[1], b, 0), cv2.addWeighted(flow[0], c, flow[1], d, 0)
    moved = place.brought(cv2.merge([x, y, x, y]), step=2)
    cols = np.arange(place.cols.start, place.cols.stop, dtype=np.float32)
    rows = np.arange(place.rows.start, place.rows.stop, dtype=np.float32)
    x, y = moved[..., 0] + cols, moved[..., 1] + rows[:, None]
    mode = cv2.BORDER_REPLICATE
    return np.asarray(cv2.remap(picture, x, y, sampling, borderMode=mode), np.uint8)
