"""Pairs for the decoder: what the renderer draws from one frame of a clip, and what was there.

One file for every clip, ``<name>.npz``: pictures as JPEG, motion of the skin as half floats. A few
frames of the clip serve as photos, go through the whole product (face encoder, layers, fit), and
are driven to consecutive pairs of other frames.
"""

from __future__ import annotations

import os
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo, read_index
from sfumato.errors import NoFaceError
from sfumato.facefit import fill_gaps, steady
from sfumato.geometry import patches, topology
from sfumato.geometry.crop import transform
from sfumato.geometry.distances import apart, eye_distance
from sfumato.geometry.patches import EYES, MOUTH, PATCHES, Patch
from sfumato.interior import InteriorAxes, look
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.media.arrays import save_arrays
from sfumato.media.video import VideoReader
from sfumato.render.frame import Rendered
from sfumato.render.light import Light
from sfumato.render.portrait import DENSITY, Portrait, prepare
from sfumato.render.renderer import Renderer
from sfumato.render.skinmeter import SkinMeter
from sfumato.render.slide import Slide
from sfumato.train.stamp import TRACKER, stamp

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

SIZE = 512
QUALITY = 95
_VERSION = 3  # 1: real frames were enlarged otherwise than photos; 2: other frames were picked
_MADE_WITH = (*TRACKER, "face_matte.onnx", "interior.npz", "slide.npz", "light.npz")
_PAIRS = 16  # consecutive pairs of frames for every source
_MOST_FRAMES = 150
_SOURCES_PER_PERSON = 8
_TELL = 4  # of one pair in so many nothing is told of skin and light, as sound tells little of them
# Of the eyes' distance: trackers that differ more in an opening are not believed. Lids open less
# far than lips: with as much doubt of them a network learns to leave closed eyes half open.
_DOUBT = 0.035
_DOUBT_OF_LIDS = 0.015
_LARGE = 512  # clips of that size show detail: more sources


@dataclass
class Pack:
    """What one clip gives for one kind of patch; pictures are JPEG bytes."""

    photo: list[bytes] = field(default_factory=list)
    photo_masks: list[bytes] = field(default_factory=list)
    drawn: list[bytes] = field(default_factory=list)
    masks: list[bytes] = field(default_factory=list)
    real: list[bytes] = field(default_factory=list)
    shift: list[Floats] = field(default_factory=list)
    interior: list[Floats] = field(default_factory=list)  # see sfumato.interior
    owner: list[int] = field(default_factory=list)  # frame -> photo
    after: list[int] = field(default_factory=list)  # frame -> the next one in time, or -1

    def arrays(self, name: str) -> dict[str, NDArray[np.generic]]:
        """As arrays for a file: each list of pictures becomes bytes and their lengths."""
        out: dict[str, NDArray[np.generic]] = {}
        for key in ("photo", "photo_masks", "drawn", "masks", "real"):
            pictures: list[bytes] = getattr(self, key)
            out[f"{name}.{key}"] = np.frombuffer(b"".join(pictures), np.uint8)
            out[f"{name}.{key}_length"] = np.array([len(p) for p in pictures], np.int32)
        out[f"{name}.shift"] = np.array(self.shift, np.float16)
        out[f"{name}.interior"] = np.array(self.interior, np.float16)
        out[f"{name}.owner"] = np.array(self.owner, np.int32)
        out[f"{name}.after"] = np.array(self.after, np.int32)
        return out


def unpack(stored: dict[str, NDArray[np.generic]], key: str) -> list[bytes]:
    """The pictures that :meth:`Pack.arrays` joined, still as JPEG."""
    whole, lengths = stored[key].tobytes(), stored[f"{key}_length"]
    ends = np.cumsum(lengths)
    return [whole[a:b] for a, b in zip(ends - lengths, ends, strict=True)]


def fill_cache(
    clips: Path, tracks: Path, out: Path, cleared: bool = False, workers: int | None = None
) -> list[Path]:
    """Make what is missing of the cache; returns its files.

    Args:
        clips: folder of clips; ``tracks``: their landmarks by teacher.py, ``<name>.npz``.
        out: folder of the cache.
        workers: processes, by default one for each core.
    """
    stamp(out, _VERSION, _MADE_WITH)
    wanted = chosen(read_index(clips, cleared), tracks)
    files = [out / f"{clip.name}.npz" for clip, _ in wanted]
    missing = [(w, f) for w, f in zip(wanted, files, strict=True) if not f.exists()]
    start = time.monotonic()
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = [
            pool.submit(_make, clip, tracks / f"{clip.name}.npz", sources, file)
            for (clip, sources), file in missing
        ]
        for done, job in enumerate(as_completed(jobs), 1):
            if problem := job.result():
                print(problem, flush=True)
            if done % 25 == 0 or done == len(jobs):
                left = (time.monotonic() - start) / done * (len(jobs) - done) / 60
                print(f"pairs: {done}/{len(jobs)} clips, {left:.1f} min left", flush=True)
    return [f for f in files if f.exists()]


def chosen(clips: list[ClipInfo], tracks: Path) -> list[tuple[ClipInfo, int]]:
    """Clips to learn from and how many of their frames serve as photos: many people, not clips."""
    people: dict[str, list[ClipInfo]] = defaultdict(list)
    for clip in clips:
        tracked = (tracks / f"{clip.name}.npz").exists()
        if clip.teaches and clip.kind == "real" and tracked:
            people[clip.person].append(clip)
    wanted = []
    for theirs in people.values():
        theirs.sort(key=lambda c: (-c.size, -c.seconds, c.name))
        left = _SOURCES_PER_PERSON
        for clip in theirs:
            sources = min(left, 3 if clip.size >= _LARGE else 1)
            if sources > 0:
                wanted.append((clip, sources))
            left -= sources
    return wanted


def _make(clip: ClipInfo, track: Path, sources: int, out: Path) -> str:
    """Write the pairs of one clip; returns what went wrong."""
    cv2.setNumThreads(1)
    try:
        packs = pairs_of(clip, track, sources)
    except Exception as error:  # whatever is wrong with one clip, the others go on
        return f"{clip.name}: {error}"
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, pack in packs.items():
        arrays |= pack.arrays(name)
    about = {"person": np.array(clip.person), "size": np.array(clip.size)}
    save_arrays(out, arrays | about)
    return ""


def pairs_of(clip: ClipInfo, track: Path, sources: int) -> dict[str, Pack]:
    """Photos and driven frames of one clip, by kind of patch.

    Raises:
        NoFaceError: No frame serves as a photo.
    """
    frames, landmarks, seen = read_clip(clip.path, track)
    # Another version picks other frames, so that training on from what one taught sees new ones.
    rng = np.random.default_rng((_VERSION, zlib.crc32(clip.name.encode())))
    packs = {patch.name: Pack() for patch in PATCHES}
    encoder, basis = FaceEncoder.load(), FaceBasis.load()
    own = _tracked(frames, landmarks, seen, encoder)
    doubt = _doubt(landmarks, own)
    sure = seen & (doubt.max(axis=0) < _DOUBT)
    sure_lids = doubt[1:3].max(axis=0) < _DOUBT_OF_LIDS
    if not (sure[:-1] & sure[1:]).any():
        raise NoFaceError("no two frames in a row on which both trackers agree")
    moments = partial(_moments, landmarks, sure, rng)
    # The photo's landmarks are our own: driven by the teacher's, the picture is worse.
    smooth = steady(fill_gaps(own))
    codes = InteriorAxes.load().codes([look(*seen) for seen in zip(frames, own, strict=True)])
    for portrait in portraits(frames, landmarks, sources, rng):
        picks = moments()
        blinks = {t for t in picks if sure_lids[t : t + 2].all()}
        _add_pairs(packs, portrait, basis, frames, smooth, codes, picks, blinks)
    if not packs["mouth"].photo:
        raise NoFaceError("no frame serves as a photo")
    return packs


def read_clip(video: Path, track: Path) -> tuple[list[Image], Floats, NDArray[np.bool_]]:
    """Frames of a clip, their landmarks (T, 478, 3), and which frames show a face.

    Raises:
        NoFaceError: Fewer than eight do.
    """
    with np.load(track) as stored:
        landmarks = stored["landmarks"][:_MOST_FRAMES]
    with VideoReader(video) as reader:
        frames = list(islice(reader, len(landmarks)))
    landmarks = landmarks[: len(frames)]
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    if seen.sum() < 8:
        raise NoFaceError("too few frames with a face")
    return frames, landmarks, seen


def _add_pairs(
    packs: dict[str, Pack],
    portrait: Portrait,
    basis: FaceBasis,
    frames: list[Image],
    landmarks: Floats,
    codes: Floats,
    moments: list[int],
    blinks: set[int],
) -> None:
    """One photo, driven to pairs of frames (moment, moment + 1); eyes learn from ``blinks``."""
    usual = Slide.load(), Light.load()
    renderer = Renderer(portrait, basis, *usual)
    meter = SkinMeter(portrait, basis, *usual, frames[0].shape)
    matrix = portrait.canvas.matrix
    own = portrait.canvas.landmarks
    for patch in PATCHES:
        pack = packs[patch.name]
        for place in patch.matrices(own):
            pack.photo.append(_jpeg(patches.cut(patch, portrait.canvas.image, place)))
            pack.photo_masks.append(_mask_jpeg(patches.masks(patch, own, place)))
    for moment in moments:
        for number in (moment, moment + 1):
            there = transform(matrix, landmarks[number])
            motion = replace(
                basis.fit_frame(portrait.latents, there), interior=codes[number].astype(np.float32)
            )
            if moment % _TELL:
                skin, light = meter.measure(frames[number], motion)
                motion = replace(motion, skin=skin, light=light)
            out = renderer.render(motion)
            real = _real(frames[number], portrait, out.image)
            first = number == moment
            _add_frame(packs[MOUTH.name], MOUTH, portrait, out, motion, real, first)
            if moment in blinks:
                _add_frame(packs[EYES.name], EYES, portrait, out, motion, real, first)


def _add_frame(
    pack: Pack,
    patch: Patch,
    portrait: Portrait,
    out: Rendered,
    motion: MotionFrame,
    real: Image,
    first: bool,
) -> None:
    there = patch.matrices(out.landmarks)
    here = patch.matrices(portrait.canvas.landmarks)
    for side, (matrix, own) in enumerate(zip(there, here, strict=True)):
        pack.after.append(len(pack.drawn) + len(there) if first else -1)
        pack.owner.append(len(pack.photo) - len(there) + side)
        pack.drawn.append(_jpeg(patches.cut(patch, out.image, matrix)))
        pack.real.append(_jpeg(patches.cut(patch, real, matrix)))
        pack.masks.append(_mask_jpeg(patches.masks(patch, out.landmarks, matrix)))
        pack.interior.append(motion.interior)
        pack.shift.append(patches.shift(patch, out.field / DENSITY, matrix, own, SIZE))


def _real(frame: Image, portrait: Portrait, drawn: Image) -> Image:
    """The real frame on the canvas; beyond its edge what was drawn, which teaches nothing."""
    inside = np.full(frame.shape[:2], 255, np.uint8)
    inside = cv2.warpAffine(inside, portrait.canvas.matrix, (SIZE, SIZE))
    real = portrait.canvas.brought(frame)
    return np.where(inside[..., None] > 254, real, drawn).astype(np.uint8)


def portraits(
    frames: list[Image], landmarks: Floats, count: int, rng: np.random.Generator
) -> Iterator[Portrait]:
    """The photos of a clip, prepared as the product does; those it refuses are left out."""
    encoder, basis = FaceEncoder.load(), FaceBasis.load()
    for number in photo_frames(landmarks, count, rng):
        try:
            face = encoder.analyse(frames[number])
        except NoFaceError:
            continue
        matte = encoder.matte(frames[number], face)
        yield prepare(frames[number], face.landmarks, matte, basis, SIZE)


def photo_frames(landmarks: Floats, count: int, rng: np.random.Generator) -> list[int]:
    """Frames that serve as photos: calm with closed lips first, then one wide open, then any.

    Args:
        landmarks: (T, 478, 3), NaN where no face is seen.
    """
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    opening, eyes, _ = _measures(landmarks)
    calm = np.where(seen, opening - 0.5 * np.minimum(eyes, np.nanmedian(eyes)), np.inf)
    wide = np.where(seen, opening, -np.inf)
    picks = [int(np.argmin(calm)), int(np.argmax(wide)), int(rng.choice(np.flatnonzero(seen)))]
    # With one photo a clip, one in four shows an open mouth.
    if count == 1 and rng.random() < 0.25:
        return [picks[1]]
    return picks[:count]


def _moments(landmarks: Floats, seen: NDArray[np.bool_], rng: np.random.Generator) -> list[int]:
    """Frames t of pairs (t, t + 1): extremes of mouth, lids and turn first, the rest by chance."""
    opening, eyes, turn = _measures(landmarks)
    both = seen[:-1] & seen[1:]
    usable = np.flatnonzero(both)
    picks: list[int] = []
    for value in (opening, -eyes, np.abs(turn)):
        # Not the very extreme: that is where the tracker errs.
        ranked = usable[np.argsort(value[usable])]
        top = ranked[-max(1, len(ranked) // 8) :]
        picks += [int(v) for v in rng.choice(top, 2 if value is not opening else 3)]
    some = rng.choice(usable, max(0, _PAIRS - len(picks)), replace=len(usable) < _PAIRS)
    return sorted(set(picks) | {int(v) for v in some})


def _tracked(
    frames: list[Image], landmarks: Floats, seen: NDArray[np.bool_], encoder: FaceEncoder
) -> Floats:
    """Landmarks (T, 478, 3) by our own tracker, NaN where it has none."""
    own = np.full_like(landmarks, np.nan)
    for number in np.flatnonzero(seen):
        face = encoder.track(frames[number], Face(landmarks[number], 1.0))
        if face is not None:
            own[number] = face.landmarks
    return own


def _doubt(one: Floats, other: Floats) -> Floats:
    """How far two trackers differ in the openings and width of :func:`_openings`, (4, T).

    Where what is asked for is not what the frame shows, a network can only learn to blur.
    """
    with np.errstate(invalid="ignore"):
        apart = [np.abs(a - b) for a, b in zip(_openings(one), _openings(other), strict=True)]
    return np.nan_to_num(np.array(apart), nan=np.inf)


def _measures(landmarks: Floats) -> tuple[Floats, Floats, Floats]:
    """Opening of lips and lids over the distance of the eyes, and turn of the head, (T,) each."""
    lips, left_lids, right_lids, _ = _openings(landmarks)
    left, right = landmarks[:, 234, 0], landmarks[:, 454, 0]
    turn = (landmarks[:, 1, 0] - 0.5 * (left + right)) / np.maximum(np.abs(right - left), 1)
    return lips, 0.5 * (left_lids + right_lids), turn


def _openings(landmarks: Floats) -> list[Floats]:
    """Openings of the lips, left and right lids, and width of the lips: (T,) of eye distances."""
    pairs = (topology.LIP_MIDDLES, *topology.LID_MIDDLES, topology.MOUTH_CORNERS)
    return [apart(landmarks[..., :2], pair) / eye_distance(landmarks) for pair in pairs]


def _jpeg(picture: Image) -> bytes:
    flags = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)[1])


def _mask_jpeg(two: Image) -> bytes:
    third = np.zeros(two.shape[:2], np.uint8)
    return _jpeg(np.dstack([two, third]))
