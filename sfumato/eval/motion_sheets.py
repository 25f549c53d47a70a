"""Sheets of motion to look at: lips over time as graphs, mouths of the same word side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.eval.motion_takes import MOUTH, Scene, Take
from sfumato.eval.reenact import save_sheet
from sfumato.speech import HOPS_PER_FRAME
from sfumato.timebase import FPS

Image = NDArray[np.uint8]
Array = NDArray[np.floating]

COLOURS = {"real": (0, 0, 0), "made": (214, 96, 0), "baseline": (40, 110, 200)}
PIXELS = 6  # of a frame in a graph
HEIGHT = 120
_LEFT = 110
STRIP = 16  # frames of a strip
WORDS = {"made": "generated"}


def save_sheets(folder: Path, scenes: Sequence[Scene]) -> None:
    """Write ``lips.png`` and ``mouths.png``, where there is anything to show."""
    folder.mkdir(parents=True, exist_ok=True)
    if scenes:
        save_sheet(folder / "lips.png", _stacked([graph(scene) for scene in scenes]))
        save_sheet(folder / "mouths.png", _stacked([strips(scene) for scene in scenes]))


def graph(scene: Scene) -> Image:
    """Opening and width of the lips over time: real black, generated orange, baseline blue."""
    takes = sides(scene)
    rows = [
        plot({side: take.lips[which] for side, take in takes.items()}, scene.sound, name)
        for which, name in enumerate(("opening", "width"))
    ]
    return np.vstack([titled(f"{scene.name} ({scene.group})", rows[0].shape[1]), *rows])


def sides(scene: Scene) -> dict[str, Take]:
    """The real clip first, then what was made."""
    return {"real": scene.real} | scene.takes


def plot(series: Mapping[str, Array], sound: Array, name: str) -> Image:
    """Lines over the loudness of the sound (grey), (120, width, 3); a tick every second."""
    count = max(len(values) for values in series.values())
    picture = np.full((HEIGHT, _LEFT + count * PIXELS, 3), 255, np.uint8)
    loud = sound[: count * HOPS_PER_FRAME].mean(axis=1)
    loud = loud[: len(loud) // HOPS_PER_FRAME * HOPS_PER_FRAME].reshape(-1, HOPS_PER_FRAME)
    level = np.clip((loud.mean(axis=1) + 2) / 3.5, 0, 1)
    for number, value in enumerate(level):
        x, top = _LEFT + number * PIXELS, HEIGHT - int(value * HEIGHT * 0.5)
        picture[top:, x : x + PIXELS] = 232
    picture[:, _LEFT :: FPS * PIXELS] = 200
    values = np.concatenate(list(series.values()))
    low, high = float(values.min()), float(values.max() + 1e-6)
    for side, row in series.items():
        y = (HEIGHT - 8) - (row - low) / (high - low) * (HEIGHT - 16)
        x = _LEFT + PIXELS * (np.arange(len(row)) + 0.5)
        line = np.round(np.c_[x, y] * 16).astype(np.int32)
        cv2.polylines(picture, [line], False, COLOURS[side], 2, cv2.LINE_AA, 4)
    _write(picture, (4, 20), name)
    for place, side in enumerate(series):
        _write(picture, (4, 42 + 18 * place), WORDS.get(side, side), COLOURS[side])
    return picture


def strips(scene: Scene) -> Image:
    """Mouths of the real clip over those of what was made, in the frames of its liveliest word."""
    takes = sides(scene)
    first = liveliest(scene.real.lips[0])
    rows = []
    for side, take in takes.items():
        cut = take.mouths[first : first + STRIP]
        label = np.full((MOUTH[1], _LEFT, 3), 255, np.uint8)
        _write(label, (4, 30), WORDS.get(side, side), COLOURS[side])
        rows.append(np.hstack([label, *cut]))
    title = f"{scene.name} ({scene.group}), from {first / FPS:.2f} s on, every frame"
    return np.vstack([titled(title, rows[0].shape[1]), *rows])


def liveliest(opening: Array) -> int:
    """First of the :data:`STRIP` frames in which lips open and close most."""
    speed = np.abs(np.diff(opening))
    inside = np.convolve(speed, np.ones(STRIP - 1), "valid")
    return int(inside.argmax()) if len(inside) else 0


def titled(text: str, width: int) -> Image:
    """A white line with a title, (24, width, 3)."""
    line = np.full((24, width, 3), 255, np.uint8)
    _write(line, (4, 17), text)
    return line


def _write(
    picture: Image, place: tuple[int, int], text: str, colour: tuple[int, int, int] = (0, 0, 0)
) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


def _stacked(pictures: Sequence[Image]) -> Image:
    """One under the other, filled up with white to the same width."""
    width = max(picture.shape[1] for picture in pictures)
    filled = [
        np.pad(p, ((0, 6), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures
    ]
    return np.vstack(filled)
