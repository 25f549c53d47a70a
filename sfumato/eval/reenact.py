"""Self-reenactment: one frame of a real clip drives the rest, and is compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.corpus import ClipInfo, read_index
from sfumato.facefit import blur_in_time, fill_gaps
from sfumato.geometry.crop import transform
from sfumato.landmarks import FaceEncoder
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.media.image import save_image
from sfumato.media.video import VideoReader
from sfumato.provenance import marker
from sfumato.render.portrait import Portrait, prepare
from sfumato.render.renderer import Rendered, Renderer

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Compared:
    """Rendered and real frames of one clip, both (T, S, S, 3) uint8 on the canvas.

    ``valid`` (S, S) is where the canvas lies inside of the clip's picture.
    """

    rendered: Image
    real: Image
    valid: NDArray[np.bool_]
    boxes: dict[str, list[tuple[int, int, int, int]]]


def reenact(
    video: Path, encoder: FaceEncoder, basis: FaceBasis, most: int = 250, step: int = 1
) -> Compared:
    """Prepare the first frame with a face and drive it by the tracked motion of the clip.

    Args:
        most: frames at most; ``step``: every step-th frame is rendered and compared.
    """
    with VideoReader(video) as reader:
        frames = list(islice(reader, most))
    tracks = list(encoder.follow(frames))
    first = next(i for i, t in enumerate(tracks) if np.isfinite(t[0, 0]))
    source = encoder.analyse(frames[first])
    portrait = prepare(
        frames[first], source.landmarks, encoder.matte(frames[first], source), basis, 512
    )
    renderer = Renderer(portrait, basis)
    motion = relative_motion(portrait, basis, np.array(tracks[first:]))
    rendered, real = [], []
    boxes: dict[str, list[tuple[int, int, int, int]]] = {"mouth": [], "eyes": [], "face": []}
    for number in range(1, len(motion), step):
        out = renderer.render(motion[number])
        truth = cv2.warpAffine(
            frames[first + number], portrait.canvas.matrix, (512, 512), flags=cv2.INTER_LINEAR
        )
        rendered.append(out.image)
        real.append(truth)
        for name, box in boxes_of(out).items():
            boxes[name].append(box)
    whole = np.full(frames[0].shape[:2], 255, np.uint8)
    valid = cv2.warpAffine(whole, portrait.canvas.matrix, (512, 512)) > 254
    return Compared(np.array(rendered), np.array(real), valid, boxes)


def boxes_of(out: Rendered) -> dict[str, tuple[int, int, int, int]]:
    """Where mouth, both eyes and the face are in a rendered frame: x0, y0, x1, y1."""
    return {
        "mouth": out.mouth_box(),
        "eyes": _around(out.eye_boxes()),
        "face": _box(out.landmarks),
    }


def relative_motion(portrait: Portrait, basis: FaceBasis, tracks: Floats) -> list[MotionFrame]:
    """Motion of a clip of the portrait's own person, relative to the portrait's photo itself."""
    canvas = fill_gaps(transform(portrait.canvas.matrix, tracks))
    return [basis.fit_frame(portrait.latents, points) for points in blur_in_time(canvas)]


def compare(clip: Compared) -> dict[str, float]:
    """L1 (0..255) over everything and in boxes, SSIM (Wang et al. 2004, 11x11 Gaussian, grey).

    Only where the canvas lies inside the real picture.
    """
    pairs = list(zip(clip.rendered, clip.real, strict=True))
    result = {"l1": float(np.mean([_l1(a[clip.valid], b[clip.valid]) for a, b in pairs]))}
    for name, boxes in clip.boxes.items():
        parts = []
        for (a, b), (x0, y0, x1, y1) in zip(pairs, boxes, strict=True):
            inside = clip.valid[y0:y1, x0:x1]
            parts.append(_l1(a[y0:y1, x0:x1][inside], b[y0:y1, x0:x1][inside]))
        result[f"{name}_l1"] = float(np.mean(parts))
    result["ssim"] = float(np.mean([ssim(a, b)[clip.valid].mean() for a, b in pairs]))
    return result


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


def _l1(one: Image, two: Image) -> float:
    return float(np.abs(one.astype(np.int16) - two).mean())


def _box(points: Floats) -> tuple[int, int, int, int]:
    low = np.clip(points[:, :2].min(0), 0, 510).astype(int)
    high = np.clip(points[:, :2].max(0) + 1, low + 1, 512).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _around(boxes: tuple[tuple[int, int, int, int], ...]) -> tuple[int, int, int, int]:
    rows = np.array(boxes)
    x0, y0 = np.clip(rows[:, :2].min(0), 0, 510)
    x1, y1 = np.clip(rows[:, 2:].max(0), (x0 + 1, y0 + 1), 512)
    return int(x0), int(y0), int(x1), int(y1)


def evaluate_reenactment(
    folder: Path, most: int = 10, report: Path | None = None
) -> dict[str, dict[str, float]]:
    """:func:`compare` for held-out real clips, one of each person, the largest pictures first.

    Args:
        folder: clips with ``index.tsv`` (its test split is taken), or any videos.
        report: folder for a sheet of real over rendered frames.
    """
    encoder, basis = FaceEncoder.load(), FaceBasis.load()
    result, strips = {}, []
    for clip in one_of_each_person(folder)[:most]:
        done = reenact(clip.path, encoder, basis, most=100, step=3)
        result[clip.name] = compare(done)
        print(clip.name, {k: round(v, 3) for k, v in result[clip.name].items()}, flush=True)
        picks = np.linspace(0, len(done.real) - 1, 6).astype(int)
        for row in (done.real, done.rendered):
            strips.append(np.hstack([cv2.resize(row[i], (256, 256)) for i in picks]))
    names = next(iter(result.values())).keys()
    result["mean"] = {k: float(np.mean([r[k] for r in result.values()])) for k in names}
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        save_sheet(report / "reenact.png", np.vstack(strips))
    return result


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
