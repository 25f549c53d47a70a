"""Self-reenactment: one frame of a real clip drives the rest, and is compared with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo, read_index
from sfumato.errors import NoFaceError
from sfumato.facefit import fill_gaps, steady
from sfumato.geometry.crop import transform
from sfumato.interior import InteriorAxes, look
from sfumato.landmarks import FaceEncoder
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.media.image import save_image
from sfumato.media.video import VideoReader
from sfumato.provenance import marker
from sfumato.render.frame import Rendered
from sfumato.render.light import Light
from sfumato.render.portrait import Portrait, prepare
from sfumato.render.skinmeter import SkinMeter
from sfumato.render.slide import Slide

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Box = tuple[int, int, int, int]

SIZE = 512  # side of the canvas, pixels


@dataclass(frozen=True)
class Reenactment:
    """A real clip, ready to be drawn from one of its own frames by any renderer.

    Frames are numbered from the source, which is frame 0.

    Attributes:
        portrait: the source.
        motion: how the person moves, relative to the source, T frames.
        truth: (T, 478, 3) tracked landmarks, canvas pixels; gaps are interpolated.
        frames: the clip's own pictures, T of (H, W, 3) uint8 RGB.
        valid: (S, S) bool, where the canvas lies inside the clip's pictures.
    """

    portrait: Portrait
    motion: list[MotionFrame]
    truth: Floats
    frames: list[Image]
    valid: NDArray[np.bool_]

    def real(self, number: int) -> Image:
        """Frame ``number`` on the canvas: (S, S, 3) uint8, mirrored beyond ``valid``."""
        return self.portrait.canvas.brought(self.frames[number])


def prepare_clip(
    video: Path,
    encoder: FaceEncoder,
    basis: FaceBasis,
    most: int = 250,
    usual: tuple[Slide, Light] | None = None,
) -> Reenactment:
    """Make a portrait of the first frame with a face, and motion of it and all that follow.

    Args:
        most: pictures read at most.
        usual: what skin and light usually do; without it the motion tells nothing of them.

    Raises:
        NoFaceError: No face in the clip, or none that a portrait could be made of.
    """
    with VideoReader(video) as reader:
        frames = list(islice(reader, most))
    tracks = list(encoder.follow(frames))
    first = next((i for i, t in enumerate(tracks) if np.isfinite(t[0, 0])), None)
    if first is None:
        raise NoFaceError(f"{video}: no face in the first {len(frames)} frames; use another clip")
    photo = frames[first]
    source = encoder.analyse(photo)
    portrait = prepare(photo, source.landmarks, encoder.matte(photo, source), basis, SIZE)
    truth = fill_gaps(transform(portrait.canvas.matrix, np.array(tracks[first:])))
    motion = [basis.fit_frame(portrait.latents, points) for points in steady(truth)]
    looks = [look(*seen) for seen in zip(frames, tracks, strict=True)]
    codes = InteriorAxes.load().codes(looks)[first:]
    motion = [replace(m, interior=code) for m, code in zip(motion, codes, strict=True)]
    if usual is not None:
        meter = SkinMeter(portrait, basis, *usual, photo.shape)
        told = zip(motion, *meter.follow(frames[first:], np.array(tracks[first:])), strict=True)
        motion = [replace(m, skin=skin, light=light) for m, skin, light in told]
    whole = np.full(photo.shape[:2], 255, np.uint8)
    valid = cv2.warpAffine(whole, portrait.canvas.matrix, (SIZE, SIZE)) > 254
    return Reenactment(portrait, motion, truth, frames[first:], valid)


def boxes_of(out: Rendered) -> dict[str, Box]:
    """Where mouth, both eyes and the face are in a rendered frame: x0, y0, x1, y1."""
    side = out.image.shape[0]
    found = {
        "mouth": np.array([out.mouth_box()]),
        "eye": np.array(out.eye_boxes()),
        "face": _bounds(out.landmarks),
    }
    return {name: _joined(rows, side) for name, rows in found.items()}


def _bounds(points: Floats) -> NDArray[np.int64]:
    return np.array([[*points[:, :2].min(0), *points[:, :2].max(0) + 1]]).astype(np.int64)


def _joined(rows: NDArray[np.int64], side: int) -> Box:
    """One box around all, at least a pixel of it on the canvas."""
    x0, y0 = np.clip(rows[:, :2].min(0), 0, side - 2)
    x1, y1 = np.clip(rows[:, 2:].max(0), (x0 + 1, y0 + 1), side)
    return int(x0), int(y0), int(x1), int(y1)


def differences(
    made: Image, real: Image, valid: NDArray[np.bool_], boxes: dict[str, Box]
) -> dict[str, float]:
    """How far a picture is from the real one, where ``valid`` says that there is a real one.

    Args:
        made, real: (S, S, 3) uint8 RGB; ``valid`` (S, S) bool.
        boxes: by name, as :func:`boxes_of` gives them.

    Returns:
        Mean absolute differences (0..255) ``frame_l1`` and ``<name>_l1`` by box, and ``ssim``
        (Wang et al. 2004, 11x11 Gaussian, grey).
    """
    apart = np.abs(made.astype(np.int16) - real)
    result = {"frame_l1": float(apart[valid].mean())}
    for name, (x0, y0, x1, y1) in boxes.items():
        result[f"{name}_l1"] = float(apart[y0:y1, x0:x1][valid[y0:y1, x0:x1]].mean())
    return result | {"ssim": float(ssim(made, real)[valid].mean())}


def ssim(one: Image, two: Image) -> Floats:
    """Map (H, W) of the structural similarity of two pictures in grey."""
    x, y = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (one, two))

    def blur(picture: Floats) -> Floats:
        return cv2.GaussianBlur(picture, (11, 11), 1.5)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity: Floats = ((2 * mx * my + c1) * (2 * cov + c2)) / (
        (mx * mx + my * my + c1) * (vx + vy + c2)
    )
    return similarity


def save_sheet(path: Path, sheet: Image) -> None:
    """Write a sheet of made pictures, marked as such, over an older one."""
    save_image(path, sheet, force=True, finish=marker())


def one_of_each_person(folder: Path) -> list[ClipInfo]:
    """Real clips of the test split, the longest of each person, largest faces first."""
    clips = [
        c for c in read_index(folder) if c.split == "test" or not (folder / "index.tsv").exists()
    ]
    best: dict[str, ClipInfo] = {}
    for clip in clips:
        known = best.get(clip.person)
        if clip.kind == "real" and (known is None or clip.seconds > known.seconds):
            best[clip.person] = clip
    return sorted(best.values(), key=lambda c: (-c.size, c.name))
