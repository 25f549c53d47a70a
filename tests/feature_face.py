"""A drawn face for the tests of eyes and mouth: a plain head with shaded eyes and lips.

Its landmarks are the mean face of the shipped basis, so no picture of anybody is needed.
"""

from __future__ import annotations

import cv2
import numpy as np

from sfumato.latent import N_EXPRESSION, N_IDENTITY, FaceBasis, Latents, MotionFrame, Pose

SIZE = 512
UPPER_LIDS = ([33, 246, 161, 160, 159, 158, 157, 173, 133],
              [362, 398, 384, 385, 386, 387, 388, 466, 263])  # fmt: skip
LOWER_LIDS = ([33, 7, 163, 144, 145, 153, 154, 155, 133],
              [362, 382, 381, 380, 374, 373, 390, 249, 263])  # fmt: skip
UPPER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_LIP = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
OUTER_LIPS = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91,
              146]  # fmt: skip
LOWER_FACE = [*LOWER_LIP[1:-1], 17, 84, 181, 91, 314, 405, 321, 152, 175, 199, 200, 148, 377, 171,
              396, 15, 16, 85, 315, 86, 316]  # fmt: skip


def face_landmarks(yaw: float = 0.0) -> np.ndarray:
    """(478, 3) float32 landmarks of the mean face, 100 pixels between the outer eye corners."""
    basis = FaceBasis.load()
    person = Latents(
        identity=np.zeros(N_IDENTITY, np.float32),
        expression=np.zeros(N_EXPRESSION, np.float32),
        gaze=np.zeros(2, np.float32),
        pose=Pose(0.0, 0.0, 0.0, SIZE / 2, SIZE / 2, 100.0),
        residual=np.zeros((478, 3), np.float32),
    )
    pose = np.array([yaw, 0, 0, 0, 0, 0], np.float32)
    frame = MotionFrame(pose, person.expression, person.gaze, 0.0)
    return np.asarray(basis.drive(person, frame), np.float32)


def draw_face(landmarks: np.ndarray) -> np.ndarray:
    """(512, 512, 3) uint8 picture of a face at the landmarks."""
    image = np.full((SIZE, SIZE, 3), (90, 100, 110), np.uint8)
    fill(image, cv2.convexHull(landmarks[:468, :2].copy())[:, 0], (214, 170, 140))
    fill(image, landmarks[OUTER_LIPS, :2], (180, 90, 85))
    fill(image, np.concatenate([landmarks[UPPER_LIP, :2], landmarks[LOWER_LIP[::-1], :2]]),
         (70, 25, 25))  # fmt: skip
    for upper, lower, iris in zip(UPPER_LIDS, LOWER_LIDS, (468, 473), strict=True):
        opening = np.concatenate([landmarks[upper, :2], landmarks[lower[::-1], :2]])
        eye = image.copy()
        fill(eye, opening, (225, 215, 205))
        radius = np.hypot(*(landmarks[iris + 1 : iris + 5, :2] - landmarks[iris, :2]).T).mean()
        disc(eye, landmarks[iris], radius, (80, 60, 40))
        disc(eye, landmarks[iris], 0.45 * radius, (25, 20, 20))
        disc(eye, landmarks[iris] + (-0.3 * radius, -0.3 * radius, 0), 0.18 * radius, (250,) * 3)
        mask = np.zeros((SIZE, SIZE, 3), np.uint8)
        fill(mask, opening, (255,) * 3)
        share = mask / 255.0
        image = np.round(image * (1 - share) + eye * share).astype(np.uint8)
        line = [np.round(landmarks[upper, :2] * 16).astype(np.int32)]
        cv2.polylines(image, line, False, (60, 35, 30), 1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(image, (0, 0), 0.6)


def fill(image: np.ndarray, ring: np.ndarray, colour: tuple[int, ...]) -> None:
    """An anti-aliased polygon."""
    cv2.fillPoly(image, [np.round(ring * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)


def disc(image: np.ndarray, centre: np.ndarray, radius: float, colour: tuple[int, ...]) -> None:
    """An anti-aliased disc."""
    place = tuple(int(round(16 * v)) for v in centre[:2])
    cv2.circle(image, place, int(round(16 * radius)), colour, -1, cv2.LINE_AA, 4)


def shut_eyes(landmarks: np.ndarray) -> np.ndarray:
    """The same face with both upper lids on the lower ones."""
    shut = landmarks.copy()
    for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
        curve = landmarks[lower]
        for k in upper[1:-1]:
            shut[k, 1] = np.interp(shut[k, 0], curve[:, 0], curve[:, 1])
    return shut


def open_mouth(landmarks: np.ndarray, pixels: float) -> np.ndarray:
    """The same face with lips parted: the jaw drops by ``pixels``."""
    wide = landmarks.copy()
    wide[LOWER_FACE, 1] += pixels
    # Towards the corners the lips part less.
    u = np.linspace(-1, 1, len(LOWER_LIP))
    wide[LOWER_LIP[1:-1], 1] = (landmarks[LOWER_LIP, 1] + pixels * (1 - u**2))[1:-1]
    return wide


def close_mouth(landmarks: np.ndarray) -> np.ndarray:
    """The same face with the lips touching."""
    shut = landmarks.copy()
    shut[LOWER_LIP] = shut[UPPER_LIP]
    return shut
