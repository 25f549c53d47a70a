"""The face encoder: where faces are in a picture, their 478 landmarks, and the person matte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.details import Details, network_input
from sfumato.engine import Network
from sfumato.errors import NoFaceError
from sfumato.geometry.crop import Square, cut, face_square, invert, transform
from sfumato.geometry.topology import MIRROR, OUTER_CORNERS

Image = NDArray[np.uint8]
Float32 = NDArray[np.float32]

LANDMARK_SIDE = 128
MATTE_SIDE = 256
STRIDE = 8
# Longest side of the picture in the detector's passes: the first finds faces that fill it, the
# second portraits, the third small faces in large pictures.
DETECTOR_SIDES = (160, 256, 640)
DETECTOR_SCORE = 0.3
SIMILAR = 0.5  # of a face's size: a detection that is smaller shows another face, or none
MIN_CONFIDENCE = 0.5
MIN_STILL_CONFIDENCE = 0.6  # held-out faces of all styles reach 0.65, animals mostly do not
# Views of a real face agree on where it is (0.8 % of the outer-eye distance is usual, 2.5 % rare);
# views of something else drift apart. At this disagreement the confidence has fallen to 1 / e.
DISAGREEMENT = 0.036
# How a still is looked at: size factor, shift right and down (face sizes), roll, mirrored.
STILL_VIEWS = tuple(
    (size, dx, dy, roll, mirror)
    for mirror in (False, True)
    for size, dx, dy, roll in (
        (1.0, 0.0, 0.0, 0.0),
        (0.95, 0.015, -0.01, 0.05),
        (1.05, -0.015, 0.01, -0.05),
        (1.0, 0.01, 0.02, -0.03),
        (1.0, -0.01, -0.02, 0.03),
    )
)

STILL_SCALES = (0.94, 1.0, 1.06)  # of the close looks at a still


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        landmarks: (478, 3) float32 pixels: x right, y down, z away from the viewer on x's scale.
        confidence: 0..1, that an upright human-like face fits the landmarks.
    """

    landmarks: Float32
    confidence: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the landmarks, pixels."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def height(self) -> float:
        """Forehead to chin along the face, pixels."""
        return float(np.linalg.norm(self.landmarks[10, :2] - self.landmarks[152, :2]))


def _peaks(rows: Float32, zoom: float) -> list[tuple[float, Square]]:
    """Faces in a detector's output (6, h, w); ``zoom`` is picture pixels per detector pixel."""
    score = 1 / (1 + np.exp(-rows[0]))
    highest = cv2.dilate(score, np.ones((3, 3), np.uint8))
    found = []
    for y, x in np.argwhere((score >= DETECTOR_SCORE) & (score == highest)):
        dx, dy, size, cos, sin = rows[1:, y, x]
        centre = (np.array([x + dx, y + dy]) + 0.5) * STRIDE - 0.5
        side = 2.0 ** float(size) * STRIDE
        at = (centre + 0.5) * zoom - 0.5
        square = Square(float(at[0]), float(at[1]), side * zoom, float(np.arctan2(sin, cos)))
        found.append((float(score[y, x]), square))
    return found


def _distinct(found: list[tuple[float, Square]]) -> list[tuple[float, Square]]:
    """Best first; drops squares whose centre lies in a better one of similar or larger size."""
    kept: list[tuple[float, Square]] = []
    for score, square in sorted(found, key=lambda item: -item[0]):
        clash = any(
            k.side > SIMILAR * square.side
            and np.hypot(square.x - k.x, square.y - k.y) < 0.5 * max(square.side, k.side)
            for _, k in kept
        )
        if not clash:
            kept.append((score, square))
    return kept


class FaceEncoder:
    """Our own networks, distilled from MediaPipe. Holds no state; share one object."""

    def __init__(
        self, detector: Network, landmarks: Network, matte: Network, details: Details
    ) -> None:
        self._detector = detector
        self._landmarks = landmarks
        self._matte = matte
        self._details = details

    @staticmethod
    @lru_cache(maxsize=2)
    def load(threads: int = 1) -> FaceEncoder:
        """The networks that ship with the package."""
        detector, landmarks, matte = (
            Network(f"face_{n}", threads) for n in ("detector", "landmarks", "matte")
        )
        return FaceEncoder(detector, landmarks, matte, Details.load(threads))

    def detect(self, image: Image) -> list[tuple[float, Square]]:
        """Score and upright square (one face size) of every face, best first.

        Args:
            image: (H, W, 3) uint8 RGB of any size.
        """
        longest = max(image.shape[:2])
        found: list[tuple[float, Square]] = []
        for side in DETECTOR_SIDES:
            # A small picture gains nothing from a second, larger look.
            if side == DETECTOR_SIDES[-1] and longest < 1.2 * DETECTOR_SIDES[-2]:
                continue
            zoom = longest / side
            width, height = (max(1, round(v / zoom)) for v in image.shape[1::-1])
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            padded = cv2.copyMakeBorder(
                small, 0, -height % 32, 0, -width % 32, cv2.BORDER_REPLICATE
            ).astype(np.uint8, copy=False)
            rows = self._detector(network_input([padded]))[0][0]
            found += _peaks(rows, zoom)
        return _distinct(found)

    def _fit(self, image: Image, squares: list[Square], mirror: list[bool]) -> list[Face]:
        """Landmarks seen in each square; mirrored views are mirrored back."""
        crops = [cut(image, s, LANDMARK_SIDE) for s in squares]
        views = [
            np.ascontiguousarray(c[:, ::-1]) if m else c for c, m in zip(crops, mirror, strict=True)
        ]
        points, logits = self._landmarks(network_input(views))
        points = points * (LANDMARK_SIDE / 2)
        points[..., :2] += (LANDMARK_SIDE - 1) / 2
        faces = []
        for square, seen, logit, flipped in zip(squares, points, logits, mirror, strict=True):
            if flipped:
                seen = seen[MIRROR]
                seen[:, 0] = LANDMARK_SIDE - 1 - seen[:, 0]
            back = transform(invert(square.matrix(LANDMARK_SIDE)), seen).astype(np.float32)
            faces.append(Face(back, float(1 / (1 + np.exp(-logit)))))
        return faces

    def track(self, image: Image, previous: Face | None) -> Face | None:
        """The face of the next frame of a video; None where there is none.

        Args:
            image: (H, W, 3) uint8 RGB.
            previous: the face in the frame before, None to look for one.
        """
        face = self._followed(image, previous)
        return None if face is None else self._close(image, face)

    def _followed(self, image: Image, previous: Face | None) -> Face | None:
        if previous is not None:
            face = self._fit(image, [face_square(previous.landmarks)], [False])[0]
            if face.confidence >= MIN_CONFIDENCE:
                return face
        for _, square in self.detect(image):
            face = self._fit(image, [square.scaled(1.5)], [False])[0]
            face = self._fit(image, [face_square(face.landmarks)], [False])[0]
            if face.confidence >= MIN_CONFIDENCE:
                return face
        return None

    def _close(self, image: Image, face: Face, scales: tuple[float, ...] = (1.0,)) -> Face:
        """The face with eyes and lips looked at again."""
        return replace(face, landmarks=self._details.seen(image, face.landmarks, scales))

    def follow(self, images: Iterable[Image]) -> Iterator[Float32]:
        """Landmarks (478, 3) of the face in each frame of a video; NaN where there is none."""
        face: Face | None = None
        for image in images:
            face = self.track(image, face)
            yield np.full((len(MIRROR), 3), np.nan, np.float32) if face is None else face.landmarks

    def faces(self, image: Image) -> list[Face]:
        """All faces of a still, largest first, each refined over several crops and mirrors."""
        refined = []
        for _, square in self.detect(image):
            rough = self._fit(image, [square.scaled(1.5)], [False])[0]
            rough = self._fit(image, [face_square(rough.landmarks)], [False])[0]
            face = self._refine(image, rough)
            if face.confidence >= MIN_STILL_CONFIDENCE:
                refined.append(face)
        # Two detections may slide onto one face while they are refined.
        found = [(f.confidence, face_square(f.landmarks, 1.0)) for f in refined]
        kept = {id(square) for _, square in _distinct(found)}
        faces = [f for f, (_, s) in zip(refined, found, strict=True) if id(s) in kept]
        return sorted(faces, key=lambda f: -f.height)

    def _refine(self, image: Image, rough: Face) -> Face:
        base = face_square(rough.landmarks)
        squares, mirror = [], []
        for size, dx, dy, roll, flipped in STILL_VIEWS:
            squares.append(
                Square(
                    base.x + dx * base.side,
                    base.y + dy * base.side,
                    base.side * size,
                    base.roll + roll,
                )
            )
            mirror.append(flipped)
        seen = self._fit(image, squares, mirror)
        views = np.array([f.landmarks for f in seen])
        landmarks = views.mean(0)
        left, right = landmarks[list(OUTER_CORNERS), :2]
        spread = np.linalg.norm(views[..., :2] - landmarks[:, :2], axis=2).mean()
        agreement = np.exp(-((spread / np.linalg.norm(right - left) / DISAGREEMENT) ** 2))
        sure = float(min(f.confidence for f in seen) * agreement)
        return self._close(image, Face(landmarks, sure), STILL_SCALES)

    def analyse(self, image: Image, index: int = 0) -> Face:
        """The largest face of a still (or the ``index``-th largest).

        Raises:
            NoFaceError: There are fewer faces.
        """
        faces = self.faces(image)
        if not faces:
            raise NoFaceError(
                "no human-like face found: use a picture that shows one face from the front, "
                "upright, eyes and mouth uncovered"
            )
        if index >= len(faces):
            raise NoFaceError(f"only {len(faces)} face(s) found, there is no face {index + 1}")
        return faces[index]

    def matte(self, image: Image, face: Face) -> Float32:
        """Person matte (H, W) float32 in 0..1: coarse (about 1/60 of the head), all of the person.

        Outside the square around the head that the network sees, the border value continues.
        """
        square = Square(*_head_centre(face), 2.3 * face.height)
        crop = cut(image, square, MATTE_SIDE)
        both = network_input([crop, np.ascontiguousarray(crop[:, ::-1])])
        logits = self._matte(both)[0][:, 0]
        mean = (1 / (1 + np.exp(-logits[0])) + 1 / (1 + np.exp(-logits[1][:, ::-1]))) / 2
        small = cv2.resize(mean.astype(np.float32), (MATTE_SIDE, MATTE_SIDE))
        back = invert(square.matrix(MATTE_SIDE))
        height, width = image.shape[:2]
        placed = cv2.warpAffine(
            small, back, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return placed.astype(np.float32, copy=False)


def _head_centre(face: Face) -> tuple[float, float]:
    """Centre of the square that shows head and shoulders: that of the landmarks."""
    left, top, right, bottom = face.box
    return (left + right) / 2, (top + bottom) / 2
