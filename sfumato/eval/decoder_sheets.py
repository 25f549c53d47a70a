"""Sheets to look at: source, explicit, learned and real side by side where drawing is hardest."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.eval.motion_lips import lip_series
from sfumato.eval.perceptual import patch
from sfumato.eval.reenact import Box, Reenactment, save_sheet
from sfumato.geometry import topology

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

COLUMNS = ("source", "explicit", "learned", "real")
MOMENTS = ("mouth", "eyes", "yaw")
PEOPLE = 12
_FACE = 256
_EYES, _MOUTH = (192, 96), (192, 160)  # cut out pixel by pixel; together as high as the face
_TITLE = 24


class Sheets:
    """Collects rows of pictures, one for each person, and writes them as one sheet per moment.

    A row holds the whole canvas in four columns at 256 pixels, then eyes over mouth in four
    columns at the canvas's own resolution.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Image]] = {moment: [] for moment in MOMENTS}

    def add(
        self, moment: str, pictures: tuple[Image, ...], boxes: tuple[dict[str, Box], ...]
    ) -> None:
        """One person at one of :data:`MOMENTS`.

        Args:
            pictures: one (S, S, 3) uint8 RGB for each of :data:`COLUMNS`.
            boxes: where ``eye`` and ``mouth`` are in each of them.
        """
        whole = [cv2.resize(p, (_FACE, _FACE), interpolation=cv2.INTER_AREA) for p in pictures]
        parts = [
            np.vstack([_around(p, at["eye"], _EYES), _around(p, at["mouth"], _MOUTH)])
            for p, at in zip(pictures, boxes, strict=True)
        ]
        for part in parts:
            part[:, :2] = part[_EYES[1] - 1 : _EYES[1] + 1] = 255
        self._rows[moment].append(np.hstack([*whole, *parts]))

    def save(self, folder: Path) -> None:
        """Write ``mouth.png``, ``eyes.png`` and ``yaw.png``, where there is anything to show."""
        folder.mkdir(parents=True, exist_ok=True)
        for moment, rows in self._rows.items():
            if rows:
                save_sheet(folder / f"{moment}.png", np.vstack([_titles(), *rows]))


def moments(clip: Reenactment) -> dict[str, int]:
    """Numbers of the frames with the widest mouth, the most closed eyes, the head turned most."""
    later = slice(1, len(clip.motion))
    turned = np.abs([frame.pose[0] for frame in clip.motion])
    found = {
        "mouth": lip_series(clip.truth)[0][later].argmax(),
        "eyes": eye_opening(clip.truth)[later].argmin(),
        "yaw": turned[later].argmax(),
    }
    return {moment: int(number) + 1 for moment, number in found.items()}


def eye_opening(tracks: Floats) -> Floats:
    """Mean opening (T,) of both eyes over their widths; tracks (T, 478, 3) pixels."""
    total = np.zeros(len(tracks))
    for upper, lower in (
        (topology.LEFT_EYE_UPPER, topology.LEFT_EYE_LOWER),
        (topology.RIGHT_EYE_UPPER, topology.RIGHT_EYE_LOWER),
    ):
        middle = slice(2, 7)
        gap = tracks[:, upper[middle], :2] - tracks[:, lower[middle], :2]
        width = np.linalg.norm(tracks[:, upper[0]] - tracks[:, upper[-1]], axis=1)
        total += np.linalg.norm(gap, axis=2).mean(axis=1) / width / 2
    return total


def _around(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """``size`` (width, height) pixels of the image around the middle of the box, unscaled."""
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    left, top = x - size[0] // 2, y - size[1] // 2
    return patch(image, (left, top, left + size[0], top + size[1]), size)


def _titles() -> Image:
    widths = [_FACE] * len(COLUMNS) + [_EYES[0]] * len(COLUMNS)
    line = np.full((_TITLE, sum(widths), 3), 255, np.uint8)
    for name, left in zip(COLUMNS * 2, np.cumsum([0, *widths[:-1]]), strict=True):
        place = (int(left) + 6, _TITLE - 7)
        cv2.putText(line, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return line
