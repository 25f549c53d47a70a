"""The learned decoder: what a warp of the photo lacks, drawn into the explicit renderer's frame.

Three pairs of small networks, for the mouth, the eyes and the whole canvas. One of each pair looks
at the photo once; the other at every frame, and says for every pixel where to take it from
(``flow``), how much of it to keep, and what light and colour to add.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.engine import Network
from sfumato.geometry import patches, topology
from sfumato.geometry.patches import EYES, FACE, MOUTH, PATCHES, Affine, Patch
from sfumato.render.frame import Rendered
from sfumato.render.portrait import DENSITY, Portrait
from sfumato.render.tint import in_one_tint, tint_of

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
_SHUT, _AWAKE = 0.1, 0.4  # opening of the lids over the photo's: all is as drawn, all is mended
_BLUER = 1.1  # than the teeth in full light nothing in a mouth is much bluer
_DOUBT = 4.0  # confidence lost for every level of light or colour that is added
Pixels = TypeVar("Pixels", Image, Floats)
_WINDOWS = {patch.name: patches.window(patch) for patch in PATCHES}


@dataclass(frozen=True)
class Known:
    """What the networks know of one photo.

    Attributes:
        places: kind of patch -> affine maps (2, 3) from the photo's canvas to its patches.
        features: kind of patch -> features of the photo, one batch entry for each of its patches.
        openings: of the left and the right lids, over their widths.
        blue: most blue over red that the inside of the mouth may have: teeth have most of it.
        tint: see :func:`sfumato.render.tint.tint_of`.
    """

    places: dict[str, list[Affine]]
    features: dict[str, list[Floats]]
    openings: list[float]
    blue: float
    tint: Floats | None


@dataclass(frozen=True)
class Answer:
    """What a network says of one patch.

    Attributes:
        matrix: (2, 3) canvas to patch pixels.
        flow: (H / 2, W / 2, 2) float32 patch pixels, where to take a pixel from.
        mixed: (H, W, 4) float32: keep 0..1, then add, RGB 0..255: keep * warped + add.
    """

    matrix: Affine
    flow: Floats
    mixed: Floats


@dataclass(frozen=True)
class Whole:
    """What the whole canvas lacks.

    Attributes:
        flow: (64, 64, 2) float32 patch pixels, where to take a pixel from.
        add: (128, 128, 3) float32, light and colour to add, RGB 0..255.
    """

    flow: Floats
    add: Floats

    def moved(self, field: Floats, share: Floats) -> Floats:
        """The renderer's field (S / 2, S / 2, 2) with the flow in front of it.

        Args:
            share: (64, 64, 1) in 0..1, how much of the flow; the field has its own already.
        """
        side = field.shape[0]
        zoom = 2 * side / FACE.width  # canvas pixels per patch pixel
        flow = cv2.resize(self.flow * (zoom * share), (side, side))
        place: Floats = np.add(0.5 * flow, _grid(side, side), dtype=np.float32)
        return np.asarray(cv2.scaleAdd(flow, DENSITY, _fetched(field, place)), np.float32)

    def lit(self, image: Image, landmarks: Floats) -> None:
        """Add to a frame (S, S, 3), in place, the light and colour that its face lacks.

        Args:
            landmarks: (478, 3) canvas pixels; beyond the face nothing is added.
        """
        oval = landmarks[list(topology.FACE_OVAL), :2]
        zoom, side = image.shape[0] / FACE.width, image.shape[0]
        x0, y0 = np.clip((oval.min(axis=0) - 6 * zoom).astype(int), 0, side - 1)
        x1, y1 = np.clip((oval.max(axis=0) + 7 * zoom).astype(int), (x0 + 1, y0 + 1), side)
        # Shifted by half of the range, less than nothing fits into bytes as well.
        shifted = cv2.convertScaleAbs(np.maximum(self.add, -128), None, 1, 128)
        offset = 0.5 * zoom - 0.5
        matrix = np.array([[zoom, 0, offset - x0], [0, zoom, offset - y0]])
        add = cv2.warpAffine(shifted, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)
        part = image[y0:y1, x0:x1]
        part[:] = cv2.addWeighted(part, 1, add, 1, -128)


class Decoder:
    """The shipped networks. Holds no state; share one object.

    Args:
        photo, frame: kind of patch -> network.
        threads: with more than one, two networks run at the same time.
    """

    def __init__(
        self, photo: dict[str, Network], frame: dict[str, Network], threads: int = 1
    ) -> None:
        self._photo = photo
        self._frame = frame
        self._beside = ThreadPoolExecutor(1) if threads > 1 else None

    @staticmethod
    @lru_cache(maxsize=2)
    def load(threads: int = 1, folder: Path | None = None) -> Decoder:
        """The networks that ship with the package, or those that training wrote to ``folder``."""

        def network(name: str) -> Network:
            return Network(name if folder is None else folder / f"{name}.onnx")

        return Decoder(
            {p.name: network(f"decoder_{p.name}_photo") for p in PATCHES},
            {p.name: network(f"decoder_{p.name}") for p in PATCHES},
            threads,
        )

    def study(self, portrait: Portrait) -> Known:
        """Look at a photo once."""
        canvas = portrait.canvas
        places, features = {}, {}
        for patch in PATCHES:
            places[patch.name] = patch.matrices(canvas.landmarks, canvas.size)
            views = [
                _view(patch, canvas.image, canvas.landmarks, portrait.alpha, place)
                for place in places[patch.name]
            ]
            features[patch.name] = self._photo[patch.name](np.stack(views).astype(np.float32))
        tint = tint_of(canvas.image, canvas.landmarks)
        red, _, blue = (float(v) for v in portrait.mouth.enamel)
        most = _BLUER * blue / max(red, 1.0)
        return Known(places, features, _openings(canvas.landmarks), most, tint)

    def whole(self, known: Known, small: Image, landmarks: Floats, field: Floats) -> Whole:
        """What the whole canvas lacks, seen small.

        Args:
            small: (128, 128, 4) uint8, the warped person over the background, and its matte.
            landmarks: (478, 3) canvas pixels of the frame.
            field: (S / 2, S / 2, 2), see Rendered.
        """
        size = 2 * field.shape[0]
        matrix = FACE.matrices(landmarks, size)[0]
        masks = patches.masks(FACE, landmarks, matrix, small[..., 3])
        view = _planes(small[..., :3], masks)
        answer = self._answers(FACE, known, [matrix], [view], field)[0]
        add = answer.mixed[..., 1:]
        if known.tint is not None:
            add = np.repeat(add.mean(axis=2, keepdims=True), 3, axis=2)
        return Whole(answer.flow, add)

    def parts(self, known: Known, drawn: Rendered) -> dict[str, list[Answer]]:
        """What mouth and eyes of the drawn frame lack."""
        if self._beside is None:
            return {patch.name: self._part(patch, known, drawn) for patch in (MOUTH, EYES)}
        eyes = self._beside.submit(self._part, EYES, known, drawn)
        return {MOUTH.name: self._part(MOUTH, known, drawn), EYES.name: eyes.result()}

    def draw(
        self, known: Known, parts: dict[str, list[Answer]], image: Image, drawn: Rendered
    ) -> None:
        """Draw mouth and eyes, mended, into a frame.

        Args:
            image: (S, S, 3) uint8 RGB, changed in place.
            drawn: what the explicit renderer made of the frame.
        """
        for name, answers in parts.items():
            for answer, share in zip(answers, _shares(name, known, drawn.landmarks), strict=True):
                if share > 0:
                    most = known.blue if name == MOUTH.name else np.inf
                    window = share * _WINDOWS[name]
                    _mend(image, drawn.image, answer, window, most, known.tint)

    def kept(
        self, known: Known, whole: Whole, parts: dict[str, list[Answer]], drawn: Rendered
    ) -> Image:
        """Confidence mask (S, S) uint8: 255 where a frame stays as drawn, 0 where all is new."""
        size = drawn.image.shape[0]
        coarse = _unchanged(np.dstack([np.ones_like(whole.add[..., :1]), whole.add]))
        kept = np.asarray(cv2.resize(coarse, (size, size)), np.uint8)[..., None].copy()
        for name, answers in parts.items():
            for answer, share in zip(answers, _shares(name, known, drawn.landmarks), strict=True):
                window = share * _WINDOWS[name]
                place = _Place.of(answer.matrix, window.shape, size)
                if place is not None:
                    unchanged = place.brought(_unchanged(answer.mixed))
                    place.lay(kept, unchanged, place.brought(window))
        return kept[..., 0]

    def _part(self, patch: Patch, known: Known, drawn: Rendered) -> list[Answer]:
        matrices = patch.matrices(drawn.landmarks, drawn.image.shape[0])
        views = [_view(patch, drawn.image, drawn.landmarks, drawn.alpha, m) for m in matrices]
        return self._answers(patch, known, matrices, views, drawn.field)

    def _answers(
        self, patch: Patch, known: Known, matrices: list[Affine], views: list[Image], field: Floats
    ) -> list[Answer]:
        size = 2 * field.shape[0]
        moved = field / np.float32(DENSITY)
        shifts = [
            patches.shift(patch, moved, matrix, place, size)
            for matrix, place in zip(matrices, known.places[patch.name], strict=True)
        ]
        flow, mixed = self._frame[patch.name](
            np.array(views, np.float32), np.array(shifts), *known.features[patch.name]
        )
        return [
            Answer(matrix, cv2.merge(list(flow[i])), cv2.merge(list(mixed[i])))
            for i, matrix in enumerate(matrices)
        ]


def covered(landmarks: Floats, side: int, size: int) -> Floats:
    """Share (side, side, 1) of the mouth's and the eyes' patches in a canvas of ``size``."""
    share = np.zeros((side, side), np.float32)
    for patch in (MOUTH, EYES):
        for matrix in patch.matrices(landmarks, size):
            place = _Place.of(matrix, _WINDOWS[patch.name].shape, size, size / side)
            if place is not None:
                part = share[place.rows, place.cols]
                np.maximum(part, place.brought(_WINDOWS[patch.name])[..., 0], out=part)
    return share[..., None]


def _view(patch: Patch, image: Image, landmarks: Floats, alpha: Image, matrix: Affine) -> Image:
    """Picture and masks of a patch, (5, H, W) uint8."""
    masks = patches.masks(patch, landmarks, matrix, alpha)
    return _planes(patches.cut(patch, image, matrix), masks)


def _planes(picture: Image, masks: Image) -> Image:
    return np.stack([*cv2.split(picture), *cv2.split(masks)])


@dataclass(frozen=True)
class _Place:
    """Where a patch lies in the frame: rows and columns of its bounding box, patch -> box."""

    rows: slice
    cols: slice
    back: Affine  # (2, 3) patch to canvas pixels
    matrix: Affine  # (2, 3) patch to box pixels

    @staticmethod
    def of(matrix: Affine, shape: tuple[int, ...], size: int, step: float = 1) -> _Place | None:
        """None where the patch lies outside of the frame; with a step in a smaller frame."""
        back = np.asarray(cv2.invertAffineTransform(matrix), np.float64) / step
        back[:, 2] += 0.5 / step - 0.5
        size = round(size / step)
        right, low = shape[1] - 1, shape[0] - 1
        corners = np.array([[0, 0], [right, 0], [0, low], [right, low]])
        around = corners @ back[:, :2].T + back[:, 2]
        x0, y0 = np.maximum(np.floor(around.min(axis=0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(around.max(axis=0)).astype(int) + 1, size)
        if x1 <= x0 or y1 <= y0:
            return None
        inside = back - np.array([[0, 0, x0], [0, 0, y0]])
        return _Place(slice(int(y0), int(y1)), slice(int(x0), int(x1)), back, inside)

    def brought(self, values: Image | Floats, step: int = 1, edge: float = 0.0) -> Floats:
        """Values of a patch, or of a grid of step x step blocks in it, in the box: (h, w, c)."""
        linear, offset = self.matrix[:, :2], self.matrix[:, 2]
        matrix = np.column_stack([step * linear, offset + 0.5 * (step - 1) * linear.sum(axis=1)])
        box = (self.cols.stop - self.cols.start, self.rows.stop - self.rows.start)
        moved = cv2.warpAffine(values, matrix, box, borderValue=(edge, 0, 0, 0))
        return np.asarray(moved if moved.ndim == 3 else moved[..., None], np.float32)

    def lay(self, image: Image, over: Floats, share: Floats) -> None:
        """Blend ``over`` (h, w, c) into the box of ``image``."""
        part = image[self.rows, self.cols]
        part[:] = np.clip(part + (over - part) * share + np.float32(0.5), 0, 255)


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
        t = min(max((now / max(rest, 1e-3) - _SHUT) / (_AWAKE - _SHUT), 0.0), 1.0)
        shares.append(t * t * (3 - 2 * t))
    return shares


def _openings(landmarks: Floats) -> list[float]:
    """Openings of the left and right lids over their widths."""
    found = []
    for upper, lower in (
        (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER),
        (topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER),
    ):
        above, below = landmarks[list(upper), :2], landmarks[list(lower), :2]
        width = max(float(np.linalg.norm(above[-1] - above[0])), 1.0)
        found.append(float(np.linalg.norm(above[2:7] - below[2:7], axis=1).mean()) / width)
    return found


def _mend(
    base: Image,
    image: Image,
    answer: Answer,
    window: Floats,
    most_blue: float = np.inf,
    tint: Floats | None = None,
) -> None:
    """Mend a patch of ``image`` and lay it into ``base``.

    Args:
        most_blue: what is new is no bluer than that, over its red.
        tint: what is new has it.
    """
    place = _Place.of(answer.matrix, window.shape, image.shape[0])
    if place is None:
        return
    mixed = place.brought(answer.mixed, edge=1.0)
    turn = np.column_stack([place.back[:, :2], [place.cols.start, place.rows.start]])
    flow = cv2.transform(place.brought(answer.flow, step=2), turn)
    at: Floats = np.add(flow, _grid(*flow.shape[:2]), dtype=np.float32)
    mended = _fetched(image, at) * mixed[..., :1] + mixed[..., 1:]
    if np.isfinite(most_blue):
        # Under old varnish nothing is blue, and a tongue as the network knows it would be purple.
        excess = np.maximum(mended[..., 2] - most_blue * mended[..., 0], 0)
        mended[..., 2] -= excess * (1 - mixed[..., 0])
    if tint is not None:
        mended = in_one_tint(mended, tint)
    place.lay(base, mended, place.brought(window))


@lru_cache(maxsize=64)
def _grid(height: int, width: int) -> Floats:
    """x and y of every pixel, (height, width, 2); not to be changed."""
    line = np.arange(max(height, width), dtype=np.float32)
    return np.dstack(np.meshgrid(line[:width], line[:height]))


def _unchanged(mixed: Floats) -> Image:
    """Confidence (H, W) uint8 that a patch may stay as it was drawn."""
    added = np.abs(mixed[..., 1:]).max(axis=-1)
    return np.asarray(np.clip(255 * mixed[..., 0] - _DOUBT * added, 0, 255), np.uint8)


def _fetched(picture: Pixels, place: Floats) -> Pixels:
    """Values of ``picture`` at pixels ``place`` (H, W, 2)."""
    mode = cv2.BORDER_REPLICATE
    out: Pixels = cv2.remap(picture, place, None, cv2.INTER_LINEAR, borderMode=mode)  # type: ignore[call-overload]  # stubs want a second map
    return out
