"""A network that reads an emotion off a face: a teacher for training, a judge for measuring.

None ships. The file is ONNX: (n, 1, 64, 64) float32 grey in -1..1 to (n, k) probabilities; its
metadata ``classes`` names them with commas, by :data:`sfumato.emotions.EMOTIONS` where they mean
the same.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.emotions import EMOTIONS
from sfumato.engine import Network
from sfumato.errors import InputError
from sfumato.geometry.crop import cut, face_square

Floats = NDArray[np.floating]
SIDE = 64
# Sides of the crops in face sizes, as such networks are used; their answers are averaged.
MARGINS = (1.0, 1.1)


class EmotionReader:
    """Probabilities of emotions. Holds no state.

    Attributes:
        classes: what the columns mean.

    Raises:
        InputError: No such network, or one that names none of our emotions.
    """

    def __init__(self, path: Path) -> None:
        self._network = Network(path)
        self.classes = tuple(self._network.metadata.get("classes", "").split(","))
        if not set(self.classes) & set(EMOTIONS):
            raise InputError(f"{path} does not name its emotions in the metadata `classes`")

    def read(self, image: NDArray[np.uint8], landmarks: Floats) -> Floats:
        """Probabilities (k,) of the face with landmarks (478, 2 or 3) in an RGB picture."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        crops = [cut(grey, face_square(landmarks, margin), SIDE) for margin in MARGINS]
        faces = np.array(crops)[:, None].astype(np.float32) / np.float32(127.5) - np.float32(1)
        probabilities: Floats = self._network(faces)[0].mean(axis=0)
        return probabilities
