"""What the product found in a photo, as one sheet: for looking when a video looks wrong."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.geometry import topology
from sfumato.latent import N_EXPRESSION, MotionFrame
from sfumato.motionfile import EXPRESSION_NAMES
from sfumato.render.portrait import Portrait
from sfumato.render.renderer import Renderer

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

TILE = 384
_OUTLINES = (
    (topology.FACE_OVAL, True),
    (topology.LEFT_EYE, True),
    (topology.RIGHT_EYE, True),
    (topology.OUTER_LIPS, True),
    (topology.INNER_LIPS, True),
    (topology.LEFT_BROW_UPPER, False),
    (topology.RIGHT_BROW_UPPER, False),
)


def sheet(renderer: Renderer, confidence: float) -> Image:
    """What was found and how it moves, (3 * 384, 4 * 384, 3) uint8 RGB.

    Above: landmarks, person matte, filled background, mesh. Middle: relaxed, mouth open, eyes
    closed, head turned. Below: how much of the warped photo the decoder keeps there (white: all).
    """
    portrait = renderer.portrait
    found = [
        (
            _outlined(portrait.canvas.image, portrait.canvas.landmarks),
            f"found, {confidence:.0%} sure",
        ),
        (_matte(portrait), "person"),
        (portrait.background, "background, filled"),
        (_meshed(portrait), "mesh"),
    ]
    moments = (
        (MotionFrame.neutral(), "relaxed"),
        (posed({"mouth_open": 3.0}), "mouth open"),
        (posed({"blink_left": 4.0, "blink_right": 4.0}), "eyes closed"),
        (posed({}, yaw=-20), "turned 20 degrees"),
    )
    moved = [(renderer.render(frame).image, name) for frame, name in moments]
    kept = [
        (np.asarray(cv2.cvtColor(renderer.kept(frame), cv2.COLOR_GRAY2RGB), np.uint8), "kept")
        for frame, _ in moments
    ]
    rows = [np.hstack([_tile(image, text) for image, text in row]) for row in (found, moved, kept)]
    return np.vstack(rows)


def posed(axes: dict[str, float], yaw: float = 0.0, pitch: float = 0.0) -> MotionFrame:
    """A frame with named expression axes (standard deviations) and a head turned by degrees."""
    expression = np.zeros(N_EXPRESSION, np.float32)
    for name, value in axes.items():
        expression[EXPRESSION_NAMES.index(name)] = value
    pose = np.array([np.radians(yaw), np.radians(pitch), 0, 0, 0, 0], np.float32)
    return MotionFrame(pose, expression, np.zeros(2, np.float32), 0.0)


def _outlined(image: Image, landmarks: Floats) -> Image:
    out = image.copy()
    thick = max(1, image.shape[0] // 512)
    for indices, closed in _OUTLINES:
        line = np.round(landmarks[list(indices), :2] * 16).astype(np.int32)
        cv2.polylines(out, [line], closed, (90, 255, 90), thick, cv2.LINE_AA, 4)
    for iris in (topology.LEFT_IRIS, topology.RIGHT_IRIS):
        x, y = landmarks[iris[0], :2]
        radius = np.linalg.norm(landmarks[list(iris[1:]), :2] - (x, y), axis=1).mean()
        centre = (round(float(x) * 16), round(float(y) * 16))
        cv2.circle(out, centre, round(float(radius) * 16), (90, 200, 255), thick, cv2.LINE_AA, 4)
    return out


def _matte(portrait: Portrait) -> Image:
    size = portrait.canvas.size
    side = portrait.person.shape[0]
    points = portrait.canvas.to_texture(np.array([[0, 0], [size - 1, size - 1]], np.float32))
    low, high = np.clip(np.round(points).astype(int), 0, side - 1)
    alpha = np.ascontiguousarray(portrait.person[low[1] : high[1] + 1, low[0] : high[0] + 1, 3])
    grey = cv2.resize(alpha, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)


def _meshed(portrait: Portrait) -> Image:
    out = portrait.canvas.image // 2
    points = np.round(portrait.mesh.vertices[:, :2] * 16).astype(np.int32)
    lines = list(points[portrait.mesh.triangles])
    cv2.polylines(out, lines, True, (150, 170, 255), 1, cv2.LINE_AA, 4)
    return out


def _tile(image: Image, text: str) -> Image:
    resized = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA)
    tile = resized.astype(np.uint8, copy=False)
    tile[-30:] //= 3  # a dark band makes the words readable on any picture
    cv2.putText(
        tile,
        text,
        (10, TILE - 10),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.5,
        (255, 255, 255),
        1,
        cv2.LINE_AA,
    )
    return tile
