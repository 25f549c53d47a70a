"""``sfumato train light``: learn how the light on faces changes as they turn and move.

A few frames of every clip serve as photos and are driven to others of the same clip. How much
brighter or darker the same skin really was than its moved pixels are is read at every vertex of the
mesh; its principal components are the axes of :class:`sfumato.render.light.Light`. Two ridge
regressions, one after the other, say how much of it goes with moves, and how much of what the
photo's own light lets expect comes true.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import read_index
from sfumato.errors import NoFaceError
from sfumato.geometry import topology
from sfumato.geometry.crop import transform
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis
from sfumato.motionfile import N_EXPRESSION, N_LIGHT
from sfumato.render.light import Light, Shading, moved
from sfumato.render.skinmeter import AROUND, SkinMeter, lit
from sfumato.render.slide import Slide
from sfumato.train.axes import principal
from sfumato.train.decoder_cache import chosen, portraits, read_clip
from sfumato.train.measured import Rows, gather, read_rows, split
from sfumato.train.slide import flip, mirrored_vertices, share_of
from sfumato.train.stamp import TRACKER, stamp

Floats = NDArray[np.floating]

_FRAMES = 14  # for every photo
_PHOTOS = 2
_HELD_OUT = 6  # one person in so many only validates
_RIDGE = 0.5  # of the shares of the variance that all moves, or all of the expected, explain
_NOISE = 1e-6  # of the largest axis


def train_light(clips: Path, tracks: Path, runs: Path, cleared: bool = False) -> Path:
    """Measure and fit; writes and returns ``runs/light.npz``.

    Args:
        clips: folder of clips; ``tracks``: their landmarks by teacher.py, ``<name>.npz``.
    """
    wanted = [
        (clip, min(photos, _PHOTOS)) for clip, photos in chosen(read_index(clips, cleared), tracks)
    ]
    folder, file = runs / "cache" / "light", runs / "light.npz"
    stamp(folder, 1, (*TRACKER, "face_matte.onnx", "slide.npz"))
    found = gather(wanted, tracks, folder, measure)
    light, explained = fit([read_rows(each) for each in found])
    light.save(file)
    print(f"{explained:.3f} of the change of light on held-out faces explained")
    return file


def measure(video: Path, track: Path, photos: int, seed: int) -> dict[str, Floats]:
    """How the light on a face changed in one clip.

    Returns:
        ``moves`` (R, N_MOVES) float32; ``expected`` (R, 468) and ``light`` (R, V) float16, natural
        logarithms of gains, NaN where the clip does not show the vertex.

    Raises:
        NoFaceError: No frame serves as a photo.
    """
    frames, landmarks, seen = read_clip(video, track)
    rng = np.random.default_rng(seed)
    encoder, basis, slide = FaceEncoder.load(), FaceBasis.load(), Slide.load()
    moves, expected, light = [], [], []
    for portrait in portraits(frames, landmarks, photos, rng):
        meter = SkinMeter(portrait, basis, slide, None, frames[0].shape)
        shading = Shading(portrait)
        some = rng.choice(np.flatnonzero(seen), min(_FRAMES, int(seen.sum())), replace=False)
        for moment in some:
            there = encoder.track(frames[moment], Face(landmarks[moment], 1.0))
            if there is not None:
                points = transform(portrait.canvas.matrix, there.landmarks)
                motion = basis.fit_frame(portrait.latents, points)
                moves.append(moved(portrait.latents, motion))
                expected.append(shading.expected(motion))
                light.append(meter.shown(frames[moment], motion)[1])
    if not moves:
        raise NoFaceError("no frame serves as a photo")
    halves = {"expected": np.array(expected, np.float16), "light": np.array(light, np.float16)}
    return {"moves": np.array(moves, np.float32), **halves}


def fit(clips: list[Rows]) -> tuple[Light, float]:
    """Learn from measurements; returns the light and what it explains on held-out faces.

    Args:
        clips: what :func:`measure` found, and ``person``.

    Raises:
        InputError: Fewer than two people.
    """
    people, held = split(clips, "light", _HELD_OUT)
    moves, expected, light = (
        np.concatenate([c[name] for c in clips]).astype(np.float64)
        for name in ("moves", "expected", "light")
    )
    moves = np.concatenate([moves, moves @ _mirror(FaceBasis.load())])
    expected = np.concatenate([expected, expected[:, topology.MIRROR[: topology.N_FACE]]])
    light = np.concatenate([light, light[:, mirrored_vertices(light.shape[1])]])
    people, held = np.tile(people, 2), np.tile(held, 2)
    light = np.where(lit(light), light, 0.0)
    share = share_of(people[~held])
    face = np.arange(light.shape[1]) < topology.N_FACE
    weight = np.where(face, 1.0, AROUND)
    axes, _ = principal(light[~held], share, weight, N_LIGHT)
    # Few people fill few axes; the rest are noise of the last digit, which an inverse would raise.
    along = np.linalg.pinv(axes * np.sqrt(weight), _NOISE)  # gains to numbers
    numbers = (light * np.sqrt(weight)) @ along
    # Of what is expected only its part along the axes, each as far as clips agree.
    shape = np.linalg.pinv(axes[:, face], _NOISE)
    seen = expected @ shape
    features = np.concatenate([moves, seen], axis=1)
    moving = _ridge(features[~held], numbers[~held], share)
    guess = features @ moving
    whole, left = (
        float(np.square(rows[held] * np.sqrt(weight)).sum())
        for rows in (light, light - guess @ axes)
    )
    count = moves.shape[1]
    result = Light(
        axes.astype(np.float32),
        moving[:count].astype(np.float32),
        (shape @ moving[count:]).astype(np.float32),
    )
    return result, 1 - left / whole


def _ridge(rows: Floats, numbers: Floats, share: Floats) -> Floats:
    """(N, K) from rows (R, N) to numbers (R, K), R of the given shares."""
    spread = np.maximum(np.sqrt(share @ np.square(rows)), 1e-6)
    scaled = rows / spread
    weighted = (scaled * share[:, None]).T
    left = weighted @ scaled + _RIDGE * np.eye(len(spread))
    return np.asarray(np.linalg.solve(left, weighted @ numbers) / spread[:, None])


def _mirror(basis: FaceBasis) -> Floats:
    """(N_MOVES, N_MOVES) that takes moves to those in the mirror."""
    head = np.diag([-1.0, 1, -1, -1, 1, 1, -1, 1])
    result = np.zeros((len(head) + N_EXPRESSION,) * 2)
    result[: len(head), : len(head)] = head
    result[len(head) :, len(head) :] = flip(basis.expression)
    return result
