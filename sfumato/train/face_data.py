"""Labelled pictures for the face encoder: stills and frames of clips, as JPEG in memory."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo, cleared_pictures, read_index
from sfumato.errors import InputError
from sfumato.geometry.crop import Square, cut, face_square, transform
from sfumato.geometry.distances import eye_distance, lid_openings, lip_opening
from sfumato.geometry.topology import MIRROR
from sfumato.media.arrays import save_arrays
from sfumato.media.video import VideoReader
from sfumato.train.styles import style

FloatArray = NDArray[np.floating]
Rng = np.random.Generator

# A source with one speaker must not outweigh the many: frames kept of one person.
FRAMES_OF_PERSON = 120
FRAME_SIDE = 384  # at most
STYLE_WEIGHT = {
    "photo": 1.0,
    "bw": 1.2,
    "painting": 1.4,
    "render": 3.0,
    "statue": 4.0,
    "cartoon": 3.0,
}


@dataclass(frozen=True)
class Example:
    """One picture: JPEG bytes, landmarks (478, 3) px (NaN: no face), matte (128, 128) uint8.

    Frames that were chosen for their expression have no matte: it is zero everywhere.
    """

    jpeg: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    matte: NDArray[np.uint8]
    style: str
    split: str

    def image(self) -> NDArray[np.uint8]:
        return cv2.cvtColor(cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def load_stills(folder: Path, labels: Path, cleared: bool = False) -> list[Example]:
    """Stills of ``folder`` with the teacher's labels of ``labels`` (written by teacher.py).

    ``cleared``: only those with a cleared licence (:mod:`sfumato.corpus`).
    """
    data = dict(np.load(labels))
    allowed = cleared_pictures(folder) if cleared else None
    rows = zip(
        data["files"], data["landmarks"], data["mattes"], data["style"], data["split"], strict=True
    )
    return [
        Example(np.fromfile(folder / str(f), np.uint8), p, m, str(look), str(split))
        for f, p, m, look, split in rows
        if allowed is None or str(f) in allowed
    ]


def frames_of(path: Path, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    """Pictures of a clip by number, 25 a second as its labels count them."""
    with VideoReader(path) as reader:
        pictures = enumerate(islice(reader, max(wanted, default=-1) + 1))
        return {number: picture for number, picture in pictures if number in wanted}


def openness(landmarks: FloatArray) -> FloatArray:
    """Lip gap and mean lid gap over the outer-eye distance: (..., 478, 3) -> (..., 2)."""
    seen, unit = landmarks[..., :2], eye_distance(landmarks)
    gaps = lip_opening(seen), lid_openings(seen).mean(axis=-1)
    return np.stack(gaps, axis=-1) / unit[..., None]


def rarity(opened: FloatArray) -> FloatArray:
    """Sampling factor of each face, mean 1: rare open mouths and closed eyes must be learned.

    Args:
        opened: (N, 2) of lips and lids, see :func:`openness`.
    """
    factor = np.ones(len(opened))
    for column in opened.T:
        edges = np.quantile(column, [0.001, 0.999])
        bins = np.digitize(column, np.linspace(*edges, 12))
        factor /= np.sqrt(np.bincount(bins)[bins])
    factor = np.minimum(factor / np.median(factor), 12.0)
    return factor / factor.mean()


def _chosen(tracks: FloatArray, with_matte: list[int], rng: Rng, most: int) -> set[int]:
    """Frames of a clip: some at random, some with the widest mouth, some with closed eyes."""
    usable = np.flatnonzero(np.isfinite(tracks[:, 0, 0]))
    if not len(usable) or most <= 0:
        return set()
    known = [n for n in with_matte if np.isfinite(tracks[n, 0, 0])]
    some = rng.permutation(known)[: max(1, most // 2)].tolist()
    mouth, eyes = openness(tracks[usable]).T
    few = max(1, most // 4)
    extremes = np.concatenate([usable[np.argsort(-mouth)[:few]], usable[np.argsort(eyes)[:few]]])
    return set(some) | set(extremes.tolist())


def _clip_examples(path: Path, labels: Path, split: str, rng: Rng, most: int) -> list[Example]:
    data = dict(np.load(labels))  # an open npz would unpack an array at every access
    mattes = dict(zip(data["matte_frames"].tolist(), data["mattes"], strict=True))
    chosen = _chosen(data["landmarks"], list(mattes), rng, most)
    examples = []
    for number, rgb in frames_of(path, chosen).items():
        zoom = min(FRAME_SIDE / rgb.shape[0], 1.0)
        points = data["landmarks"][number] * zoom
        size = (round(zoom * rgb.shape[1]), round(zoom * rgb.shape[0]))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 93])[1].ravel()
        matte = mattes.get(number, np.zeros_like(data["mattes"][0]))
        examples.append(Example(jpeg, points, matte, "frame", split))
    return examples


def load_frames(
    folder: Path, tracks: Path, cache: Path, seed: int = 0, cleared: bool = False
) -> list[Example]:
    """A few frames of every real clip of ``folder``, few of each person; kept in ``cache``.

    ``cleared``: only of clips with a cleared licence; takes a ``cache`` of its own.
    """
    if not cache.exists():
        clips = [clip for clip in read_index(folder, cleared) if clip.kind == "real"]
        _build_frames(clips, tracks, cache, np.random.default_rng(seed))
    data = dict(np.load(cache))
    edges = np.concatenate([[0], np.cumsum(data["lengths"])])
    return [
        Example(data["jpeg"][a:b], p, m, "frame", str(s))
        for a, b, p, m, s in zip(
            edges[:-1], edges[1:], data["landmarks"], data["mattes"], data["split"], strict=True
        )
    ]


def _build_frames(clips: list[ClipInfo], tracks: Path, cache: Path, rng: Rng) -> None:
    left: dict[str, int] = {}
    examples: list[Example] = []
    for clip in clips:
        labels = tracks / f"{clip.name}.npz"
        room = left.get(clip.person, FRAMES_OF_PERSON)
        if labels.exists() and room > 0:
            some = _clip_examples(clip.path, labels, clip.split, rng, min(8, room))
            left[clip.person] = room - len(some)
            examples += some
    if not examples:
        raise InputError(f"No labels of real clips in {tracks}: run teacher.py on the clips.")
    save_arrays(
        cache,
        {
            "jpeg": np.concatenate([e.jpeg for e in examples]),
            "lengths": np.array([len(e.jpeg) for e in examples]),
            "landmarks": np.array([e.landmarks for e in examples]),
            "mattes": np.array([e.matte for e in examples]),
            "split": np.array([e.split for e in examples]),
        },
    )


def jittered(square: Square, rng: Rng, amount: float) -> Square:
    """``square`` as an imperfect tracker would give it; ``amount`` 1 is a usual frame."""
    shift = rng.normal(0, 0.025 * amount, 2) * square.side
    return Square(
        square.x + float(shift[0]),
        square.y + float(shift[1]),
        square.side * float(np.exp(rng.normal(0, 0.05 * amount))),
        square.roll + float(rng.normal(0, 0.07 * amount)),
    )


def mirrored(
    image: NDArray[np.uint8], landmarks: FloatArray
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Picture and landmarks (478, 3) seen in a mirror."""
    points = landmarks[MIRROR].copy()
    points[:, 0] = image.shape[1] - 1 - points[:, 0]
    return np.ascontiguousarray(image[:, ::-1]), points


def landmark_sample(
    image: NDArray[np.uint8], landmarks: FloatArray, side: int, rng: Rng
) -> tuple[NDArray[np.uint8], FloatArray, float]:
    """Crop (side, side, 3), target (478, 3) in [-1, 1] crop units, and 1 where the face fits."""
    square = face_square(landmarks)
    fits = 1.0
    pick = rng.random()
    if pick < 0.08:
        fits, square = 0.0, _misplaced(square, rng)
    else:
        square = jittered(square, rng, 3.0 if pick < 0.3 else 1.0)
    crop = cut(image, square, side)
    points = transform(square.matrix(side), landmarks)
    if rng.random() < 0.5:
        crop, points = mirrored(crop, points)
    target = points * (2.0 / side)
    target[:, :2] += 1.0 / side - 1.0
    return style(crop, rng), target, fits


def _misplaced(square: Square, rng: Rng) -> Square:
    """A crop that shows no whole upright face: beside it, a tiny part of it, or upside down."""
    kind = rng.random()
    if kind < 0.5:
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.0) * square.side
        return Square(square.x + far * np.cos(angle), square.y + far * np.sin(angle), square.side)
    if kind < 0.8:
        offset = rng.normal(0, 0.25, 2) * square.side
        small = square.side * rng.uniform(0.1, 0.35)
        return Square(square.x + offset[0], square.y + offset[1], small, rng.uniform(-3, 3))
    return Square(square.x, square.y, square.side, square.roll + rng.uniform(1.8, 4.4))


def matte_sample(
    image: NDArray[np.uint8], matte: NDArray[np.uint8], square: Square, side: int, rng: Rng
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A square around the head (side, side, 3) and its matte (side / 2, side / 2) uint8."""
    view = jittered(square.scaled(float(rng.uniform(0.85, 1.35))), rng, 2.0)
    full = cv2.resize(matte, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    crop, target = cut(image, view, side), cut(full, view, side // 2)
    if rng.random() < 0.5:
        crop, target = crop[:, ::-1], target[:, ::-1]
    return style(np.ascontiguousarray(crop), rng), np.ascontiguousarray(target)


def mosaic(
    pick: list[tuple[NDArray[np.uint8], FloatArray]], side: int, rng: Rng
) -> tuple[NDArray[np.uint8], list[Square]]:
    """Picture (side, side, 3) with the given faces at random sizes, and where they are.

    The first picture fills the ground; the others are pasted over it. A face that a later paste
    covers is dropped from the list.
    """
    canvas = np.empty((side, side, 3), np.uint8)
    faces: list[Square] = []
    for number, (image, landmarks) in enumerate(pick):
        face = face_square(landmarks, 1.0)
        # Log-uniform sizes: small faces are as frequent as large ones.
        size = float(np.exp(rng.uniform(np.log(14), np.log(200 if number == 0 else 80))))
        zoom = face.side / size
        at = rng.uniform(0.1, 0.9, 2) * side
        view = Square(
            face.x + (side / 2 - at[0]) * zoom,
            face.y + (side / 2 - at[1]) * zoom,
            side * zoom,
            0.0,
        )
        turn = float(rng.normal(0, 0.25))
        view = _turned(view, face, turn)
        matrix = view.matrix(side)
        # A reflecting border would show the face twice; a replicated one only smears the ground.
        layer = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
        region = np.full((side, side), 255, np.uint8)
        if number:
            inside = np.full(image.shape[:2], 255, np.uint8)
            region = cv2.warpAffine(inside, matrix, (side, side), flags=cv2.INTER_NEAREST)
        faces = [f for f in faces if not region[_pixel(f.y, side), _pixel(f.x, side)]]
        canvas[region > 0] = layer[region > 0]
        x, y = transform(matrix, np.array([[face.x, face.y]]))[0]
        faces.append(Square(float(x), float(y), size, face.roll - view.roll))
    return style(canvas, rng), [f for f in faces if 0 <= f.x < side and 0 <= f.y < side]


def _turned(view: Square, face: Square, turn: float) -> Square:
    """Rotate ``view`` about the face, so that the face stays where it is in the crop."""
    dx, dy = view.x - face.x, view.y - face.y
    cos, sin = np.cos(turn), np.sin(turn)
    return Square(
        face.x + cos * dx - sin * dy, face.y + sin * dx + cos * dy, view.side, view.roll + turn
    )


def _pixel(value: float, side: int) -> int:
    return int(np.clip(value, 0, side - 1))
