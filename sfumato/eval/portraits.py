"""A folder of portraits, moved by known amounts: what is found, what comes back, sheets to see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import Avatar, Studio, load
from sfumato.errors import InputError, SfumatoError
from sfumato.eval.reenact import boxes_of, differences, save_sheet
from sfumato.inspect import posed
from sfumato.latent import MotionFrame

Image = NDArray[np.uint8]

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
TILE = 256
ROWS_OF_A_SHEET = 5


def poses(shut: float) -> list[MotionFrame]:
    """Relaxed, speaking, wide open, smiling, eyes shut, looking aside, turned four ways."""
    aside = replace(posed({}), gaze=np.array([0.3, 0.0], np.float32))
    return [
        posed({}),
        posed({"mouth_open": 1.2}),
        posed({"mouth_open": 3.0, "mouth_wide": -0.5}),
        posed({"smile": 2.0, "mouth_wide": 1.5, "mouth_open": 0.8}),
        posed({"blink_left": shut, "blink_right": shut}),
        aside,
        posed({}, yaw=20),
        posed({}, yaw=-20),
        posed({}, pitch=15),
        posed({}, pitch=-15),
    ]


def at_rest(avatar: Avatar) -> dict[str, float]:
    """The photo drawn again with its own expression, against the photo: :func:`differences`."""
    own = replace(MotionFrame.neutral(), expression=avatar.portrait.latents.expression)
    drawn = avatar.renderer.render(own)
    truth = avatar.portrait.canvas.image
    everywhere = np.ones(truth.shape[:2], bool)
    return differences(drawn.image, truth, everywhere, boxes_of(drawn))


def evaluate_portraits(folder: Path, report: Path | None = None) -> dict[str, dict[str, object]]:
    """Every picture of a folder: refused and why, or how exactly it comes back at rest.

    Args:
        report: folder for sheets of all pictures in all :func:`poses`.

    Raises:
        InputError: No pictures there.
    """
    studio = load()
    result: dict[str, dict[str, object]] = {}
    rows: list[Image] = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES):
        try:
            avatar = studio.avatar(path)
        except SfumatoError as error:
            result[path.name] = {"refused": str(error)}
            continue
        figures: dict[str, object] = {"confidence": round(avatar.face.confidence, 3)}
        figures |= {name: round(value, 3) for name, value in at_rest(avatar).items()}
        result[path.name] = figures | {"warnings": avatar.warnings}
        rows.append(_row(avatar, studio))
    if not result:
        raise InputError(f"{folder}: no pictures in it; name a folder of {', '.join(PICTURES)}")
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(rows), ROWS_OF_A_SHEET):
            part = np.vstack(rows[start : start + ROWS_OF_A_SHEET])
            save_sheet(report / f"portraits_{start // ROWS_OF_A_SHEET}.png", part)
    return result


def _row(avatar: Avatar, studio: Studio) -> Image:
    shut = float(np.max(studio.basis.blink_shut))
    pictures = [avatar.portrait.canvas.image]
    pictures += [avatar.renderer.render(frame).image for frame in poses(shut)]
    small = [cv2.resize(p, (TILE, TILE), interpolation=cv2.INTER_AREA) for p in pictures]
    return np.hstack(small)
