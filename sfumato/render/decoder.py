"""The learned decoder: what a warp of the photo lacks, drawn into the explicit renderer's frame.

Two pairs of small networks, for the mouth and the eyes. One of each pair looks at the photo once;
the other at every frame, and says for every pixel where to take it from (``flow``), how much of it
to keep, and what light and colour to add.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.engine import Network
from sfumato.geometry import patches, topology
from sfumato.geometry.patches import EYES, MOUTH, PATCHES, Affine, Patch
from sfumato.geometry.ramp import step
from sfumato.render.frame import Drawn
from sfumato.render.inside import Inside
from sfumato.render.mend import Answer, Mended, Place, mend, sampling_of
from sfumato.render.portrait import DENSITY, Portrait
from sfumato.render.tint import tint_of

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
_SHUT, _AWAKE = 0.1, 0.4  # opening of the lids over the photo's: all is as drawn, all is mended
_DOUBT = 4.0  # confidence lost for every level of light or colour that is added
_UPPER_LIDS = np.array([topology.LEFT_EYE_UPPER, topology.RIGHT_EYE_UPPER])
_LOWER_LIDS = np.array([topology.LEFT_EYE_LOWER, topology.RIGHT_EYE_LOWER])
_WINDOWS = {patch.name: patches.window(patch) for patch in PATCHES}


@dataclass(frozen=True)
class Known:
    """What the networks know of one photo.

    Attributes:
        places: kind of patch -> affine maps (2, 3) from the photo's canvas to its patches.
        features: kind of patch -> features of the photo, one batch entry for each of its patches.
        mouth: (H, W, 4) uint8, the photo's own patch of the mouth, and its opening.
        openings: of the left and the right lids, over their widths.
        inside: colours of the mouth.
        tint: see :func:`sfumato.render.tint.tint_of`.
        sampling: see :func:`sfumato.render.mend.sampling_of`.
    """

    places: dict[str, list[Affine]]
    features: dict[str, list[Floats]]
    mouth: Image
    openings: list[float]
    inside: Inside
    tint: Floats | None
    sampling: int


class Decoder:
    """The shipped networks. Holds no state; share one object.

    Args:
        photo, frame: kind of patch -> network.
        folder: where they came from; None: they ship with the package.
    """

    def __init__(
        self, photo: dict[str, Network], frame: dict[str, Network], folder: Path | None = None
    ) -> None:
        self._photo = photo
        self._frame = frame
        self._folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return Decoder.load, (self._folder,)

    @staticmethod
    @lru_cache(maxsize=2)
    def load(folder: Path | None = None) -> Decoder:
        """The networks that ship with the package, or those that training wrote to ``folder``."""

        def network(name: str) -> Network:
            return Network(name if folder is None else folder / f"{name}.onnx")

        return Decoder(
            {p.name: network(f"decoder_{p.name}_photo") for p in PATCHES},
            {p.name: network(f"decoder_{p.name}") for p in PATCHES},
            folder,
        )

    def study(self, portrait: Portrait) -> Known:
        """Look at a photo once."""
        canvas = portrait.canvas
        places = {p.name: p.matrices(canvas.landmarks) for p in PATCHES}
        views = {p.name: _views(p, canvas.image, canvas.landmarks, places[p.name]) for p in PATCHES}
        tint = tint_of(canvas.image, canvas.landmarks)
        return Known(
            places,
            {name: self._photo[name](seen) for name, seen in views.items()},
            np.ascontiguousarray(np.moveaxis(views[MOUTH.name][0, :4], 0, 2), np.uint8),
            _openings(canvas.landmarks),
            Inside.of(portrait.mouth, canvas.image, canvas.landmarks, tint is not None),
            tint,
            sampling_of(canvas.image, canvas.landmarks),
        )

    def mended(self, known: Known, drawn: Drawn, helper: Executor | None = None) -> list[Mended]:
        """Mouth and eyes of the drawn frame, mended, in the order in which to lay them.

        Args:
            helper: mends the eyes meanwhile; None does one after the other.
        """
        if helper is None:
            return [*self._mended(MOUTH, known, drawn), *self._mended(EYES, known, drawn)]
        eyes = helper.submit(self._mended, EYES, known, drawn)
        return [*self._mended(MOUTH, known, drawn), *eyes.result()]

    def kept(self, known: Known, drawn: Drawn) -> Image:
        """Confidence mask (S, S) uint8: 255 where a frame stays as drawn, 0 where all is new."""
        size = drawn.picture.shape[0]
        kept = np.full((size, size), 255, np.uint8)
        for patch in PATCHES:
            shares = _shares(patch.name, known, drawn.landmarks)
            for answer, share in zip(self._answers(patch, known, drawn), shares, strict=True):
                window = share * _WINDOWS[patch.name]
                place = Place.of(answer.matrix, window.shape, size)
                if place is not None:
                    unchanged = place.brought(_unchanged(answer.mixed[0], answer.mixed[1:]))
                    part = kept[place.rows, place.cols]
                    mixed = part + (unchanged - part) * place.brought(window)
                    part[:] = np.clip(mixed + np.float32(0.5), 0, 255)
        return kept

    def _mended(self, patch: Patch, known: Known, drawn: Drawn) -> list[Mended]:
        shares = _shares(patch.name, known, drawn.landmarks)
        if not any(shares):
            return []
        answers = self._answers(patch, known, drawn)
        found = []
        for answer, share in zip(answers, shares, strict=True):
            window = share * _WINDOWS[patch.name]
            if share == 0:
                continue
            part = mend(drawn.picture, answer, window, known.tint, known.sampling)
            if part is not None:
                part.keep_to(drawn.alpha)
                found.append(part)
                if patch is MOUTH:
                    known.inside.colour(part, drawn.landmarks, drawn.picture.shape[0])
        return found

    def _answers(self, patch: Patch, known: Known, drawn: Drawn) -> list[Answer]:
        """What patches of a kind lack in the drawn frame."""
        matrices = patch.matrices(drawn.landmarks)
        views = _views(patch, drawn.picture, drawn.landmarks, matrices)
        size = drawn.picture.shape[0]
        shifts = [
            patches.shift(patch, drawn.field, matrix, place, size, DENSITY)
            for matrix, place in zip(matrices, known.places[patch.name], strict=True)
        ]
        network, features = self._frame[patch.name], known.features[patch.name]
        told = []
        if patch is MOUTH:
            told = [drawn.interior[None], _own(known.mouth, shifts[0], views[0, 3])]
        flow, mixed = network(views, np.stack(shifts), *features, *told)
        return [Answer(matrix, flow[i], mixed[i]) for i, matrix in enumerate(matrices)]


def _views(patch: Patch, image: Image, landmarks: Floats, matrices: list[Affine]) -> Floats:
    """Picture and masks (B, 5, H, W), 0..255, of patches of an image of three or four channels."""
    views = np.empty((len(matrices), 5, patch.height, patch.width), np.float32)
    for view, matrix in zip(views, matrices, strict=True):
        masks = patches.mask_planes(patch, landmarks, matrix)
        _fill(view, patches.cut(patch, image, matrix), masks)
    return views


def _own(photo: Image, shift: Floats, lips: Floats) -> Floats:
    """:func:`sfumato.models.decoder.own_mouth` in 0..255: (1, 4, H, W) of a patch (H, W, 4).

    Nothing looks at it outside of the opening ``lips`` (H, W), where it is left 0.
    """
    height, width = photo.shape[:2]
    x, y = cv2.split(cv2.resize(shift, (width, height)))
    x += np.arange(width, dtype=np.float32)
    y += np.arange(height, dtype=np.float32)[:, None]
    left, top, across, down = cv2.boundingRect(lips.astype(np.uint8))
    box = np.s_[top : top + down, left : left + across]
    own = np.zeros((1, 4, height, width), np.float32)
    if across and down:
        mode = cv2.BORDER_REPLICATE
        there = cv2.remap(photo, x[box], y[box], cv2.INTER_CUBIC, borderMode=mode)
        own[0, :, *box] = np.moveaxis(there, 2, 0)
        own[0, 3] *= min(1.0, float(photo[..., 3].sum()) / max(float(lips.sum()), 255.0))
    return own


def _fill(view: Floats, picture: Image, masks: tuple[Image, Image]) -> None:
    for plane, values in zip(view, (*cv2.split(picture)[:3], *masks), strict=True):
        plane[:] = values


def _shares(name: str, known: Known, landmarks: Floats) -> list[float]:
    """How much of a network's answer is shown, for every patch of a kind.

    A closed eye is rare in video and its lashes a few pixels: the network blurs it, a line drawn on
    the skin does not. So lids that close are left as they are drawn. Closing is told from the
    photo's own opening: where the tracker sees open eyes shut it saw them shut there as well.
    """
    if name != EYES.name:
        return [1.0]
    shares = []
    for now, rest in zip(_openings(landmarks), known.openings, strict=True):
        shares.append(step((now / max(rest, 1e-3) - _SHUT) / (_AWAKE - _SHUT)))
    return shares


def _openings(landmarks: Floats) -> list[float]:
    """Openings of the left and right lids over their widths."""
    above, below = landmarks[_UPPER_LIDS, :2], landmarks[_LOWER_LIDS, :2]
    width = np.maximum(np.linalg.norm(above[:, -1] - above[:, 0], axis=1), 1.0)
    height = np.linalg.norm(above[:, 2:7] - below[:, 2:7], axis=2).mean(axis=1)
    openings: list[float] = (height / width).tolist()
    return openings


def _unchanged(keep: Floats, add: Floats) -> Image:
    """Confidence (H, W) uint8 that a patch may stay as it was drawn; add is (3, H, W)."""
    added = np.abs(add).max(axis=0)
    return np.asarray(np.clip(255 * keep - _DOUBT * added, 0, 255), np.uint8)
