"""From the bytes of a photo's file to an avatar, for the server and for its makers of videos."""

from __future__ import annotations

import hashlib
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.avatar import Avatar, Studio
from sfumato.errors import InputError
from sfumato.media.image import decode_image
from sfumato.server.errors import RequestError

Image = NDArray[np.uint8]

MOST_PIXELS = 50_000_000
_KEPT_PIXELS = 12_000_000  # of larger photos; a face does not profit from more


def digest_of(photo: bytes) -> str:
    """Hexadecimal SHA-256 of a photo's file."""
    return hashlib.sha256(photo).hexdigest()


def avatar_of(
    studio: Studio, photo: bytes, *, size: int, face: int | None, full_frame: bool
) -> Avatar:
    """Prepare a photo. Takes a second.

    Args:
        studio: prepares it.
        photo: the photo's file.
        size, face, full_frame: as in :meth:`sfumato.Studio.avatar`.

    Raises:
        RequestError: It is no picture, or one with more than 50 megapixels.
        InputError: There is no usable face in it.
    """
    try:
        image = _shrunk(decode_image(photo, pixels=MOST_PIXELS))
    except InputError as error:
        raise RequestError(415, str(error)) from None
    return studio.avatar(
        image, size=size, face=face, full_frame=full_frame, digest=digest_of(photo)
    )


def _shrunk(image: Image) -> Image:
    zoom = math.sqrt(_KEPT_PIXELS / (image.shape[0] * image.shape[1]))
    if zoom >= 1:
        return image
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
