"""A real portrait for tests, scikit-image's astronaut (NASA, public domain), ready to be moved."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

from sfumato.geometry import topology
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.render.frame import Rendered
from sfumato.render.portrait import Portrait, prepare

FIXTURE = np.load(Path(__file__).parent / "data" / "astronaut.npz")
LANDMARKS: np.ndarray = FIXTURE["landmarks"]
basis = lru_cache(FaceBasis.load)


@lru_cache
def portrait(size: int = 256, pinned: bool = False, grey: bool = False) -> Portrait:
    """The photo, or its grey version, as a portrait; made once."""
    photo = astronaut()
    if grey:
        photo = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    coarse = cv2.resize(FIXTURE["matte"].astype(np.float32) / 255, (512, 512))
    return prepare(photo, LANDMARKS, coarse, basis(), size, pinned)


def face_mask(rendered: Rendered) -> np.ndarray:
    """(S, S) uint8, 255 inside the face oval of a frame."""
    mask = np.zeros(rendered.alpha.shape, np.uint8)
    oval = rendered.landmarks[list(topology.FACE_OVAL), :2]
    cv2.fillPoly(mask, [np.round(oval * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def at_rest(portrait: Portrait) -> MotionFrame:
    """The frame that gives the photo back."""
    own = portrait.latents.expression
    return MotionFrame(np.zeros(6, np.float32), own, np.zeros(2, np.float32), 0.0)


def moved(portrait: Portrait, yaw: float = 0, x: float = 0, **face: float) -> MotionFrame:
    """Turned by degrees, shifted by face units; ``lips`` and ``lids`` are set, not added to."""
    frame = at_rest(portrait)
    pose = np.array([np.deg2rad(yaw), 0, 0, x, 0, 0], np.float32)
    shape = frame.expression.copy()
    if "lips" in face:
        shape[2] = face["lips"]
    if "lids" in face:
        shape[:2] = face["lids"]
    return replace(frame, pose=pose, expression=shape)
