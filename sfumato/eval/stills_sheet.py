"""A sheet of driven stills: some of every group, the still beside what both sides made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.eval.perceptual import patch
from sfumato.eval.reenact import save_sheet

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

COLUMNS = ("photo", "mouth, explicit", "mouth, learned", "eyes, explicit", "eyes, learned")
SHOWN = 3  # stills of a group
TILE = 192
_TITLE = 22
_FRAMED = 1.2  # side of a tile in heights of the landmarks


@dataclass(frozen=True)
class _Row:
    name: str
    groups: dict[str, str]
    tiles: Image


class StillsSheet:
    """Collects stills and writes a sheet with one line for each group, of all columns of groups."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    def add(self, name: str, groups: dict[str, str], pictures: list[tuple[Image, Floats]]) -> None:
        """One still.

        Args:
            groups: column -> group.
            pictures: one (S, S, 3) uint8 RGB with its landmarks (478, 3) for each of
                :data:`COLUMNS`.
        """
        tiles = np.hstack([_framed(image, points) for image, points in pictures])
        self._rows.append(_Row(name, groups, tiles))

    def save(self, folder: Path) -> None:
        """Write ``stills.png``: :data:`SHOWN` stills of every group, evenly over its stills."""
        folder.mkdir(parents=True, exist_ok=True)
        groups = sorted({item for row in self._rows for item in row.groups.items()})
        lines = [np.hstack([_words(COLUMNS, TILE)] * SHOWN)]
        for column, group in groups:
            members = [row for row in self._rows if row.groups.get(column) == group]
            count = min(SHOWN, len(members))
            picked = [members[(2 * i + 1) * len(members) // (2 * count)] for i in range(count)]
            lines.append(_line(f"{column}: {group} ({len(members)})", picked))
        save_sheet(folder / "stills.png", np.vstack(lines))


def _line(title: str, rows: list[_Row]) -> Image:
    width = TILE * len(COLUMNS)
    parts = []
    for number in range(SHOWN):
        empty = np.full((TILE + _TITLE, width, 3), 255, np.uint8)
        if number < len(rows):
            words = f"{title}  {rows[number].name}" if number == 0 else rows[number].name
            empty[:_TITLE] = _words((words,), width)
            empty[_TITLE:] = rows[number].tiles
        parts.append(empty)
    return np.hstack(parts)


def _framed(image: Image, landmarks: Floats) -> Image:
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    x, y = (low + high) / 2
    half = _FRAMED * float((high - low).max()) / 2
    return patch(image, (int(x - half), int(y - half), int(x + half), int(y + half)), (TILE, TILE))


def _words(texts: tuple[str, ...], width: int) -> Image:
    """A white line (22, len(texts) * width, 3) with one text every ``width`` pixels."""
    line = np.full((_TITLE, width * len(texts), 3), 255, np.uint8)
    for number, text in enumerate(texts):
        place = (number * width + 5, _TITLE - 7)
        cv2.putText(line, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return line
