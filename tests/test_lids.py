"""Closing eyes: skin and a lash line remain, whatever the landmarks missed."""

from __future__ import annotations

import numpy as np
import pytest
from feature_face import LOWER_LIDS, SIZE, UPPER_LIDS, disc, draw_face, face_landmarks, fill
from feature_face import shut_eyes as shut

from sfumato.render.eyes import prepare_eyes
from sfumato.render.lids import draw_lids, paint_lids, prepare_lids
from sfumato.render.opening import fit_openings

pytestmark = pytest.mark.unit

SKIN = (214, 170, 140)
# The frame shows the texture as it is: no warp.
IDENTITY = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=2).astype(np.float32)
PERSON = np.full((SIZE, SIZE), 255, np.uint8)  # everywhere


@pytest.fixture(scope="module")
def landmarks() -> np.ndarray:
    return face_landmarks()


def outline(landmarks: np.ndarray, eye: int, larger: float) -> np.ndarray:
    """The eye's outline, larger than the landmarks say."""
    ring = landmarks[[*UPPER_LIDS[eye], *LOWER_LIDS[eye][::-1]], :2]
    middle = ring.mean(axis=0)
    return middle + (ring - middle) * (1.3, 1.6) * larger


def cartoon(landmarks: np.ndarray) -> np.ndarray:
    """The drawn face with far larger eyes: white, with wide blue irises."""
    image = draw_face(landmarks)
    for eye in range(2):
        ring = outline(landmarks, eye, 1.0)
        fill(image, outline(landmarks, eye, 1.06), (90, 40, 30))
        white = image.copy()
        fill(white, ring, (235, 235, 240))
        inside = np.zeros_like(image)
        fill(inside, ring, (255, 255, 255))
        centre, radius = ring.mean(axis=0), 0.36 * np.ptp(ring[:, 1]) * 1.2
        disc(white, centre, radius, (70, 110, 170))
        disc(white, centre, 0.45 * radius, (20, 20, 20))
        image = np.where(inside > 127, white, image)
    return image


def closed(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The picture with the lids' skin laid over the open eyes."""
    lids = prepare_lids(image, PERSON, landmarks[:, :2], prepare_eyes(image, landmarks))
    frame = image.copy()
    draw_lids(frame, lids, shut(landmarks), IDENTITY)
    return frame


def test_an_open_eye_is_not_touched(landmarks) -> None:
    image = draw_face(landmarks)
    lids = prepare_lids(image, PERSON, landmarks[:, :2], prepare_eyes(image, landmarks))
    frame = image.copy()
    draw_lids(frame, lids, landmarks, IDENTITY)
    assert len(lids) == 2
    assert np.array_equal(frame, image)


def test_a_lid_at_the_edge_of_a_turned_head_has_nothing_of_the_ground(landmarks) -> None:
    """Behind the outer corner of the far eye all is black."""
    image = draw_face(landmarks)
    corner = landmarks[UPPER_LIDS[0][0]]
    edge = int(corner[0])
    image[:, :edge] = 0
    matte = PERSON.copy()
    matte[:, :edge] = 0
    frame = image.copy()
    lids = prepare_lids(image, matte, landmarks[:, :2], prepare_eyes(image, landmarks))
    draw_lids(frame, lids, shut(landmarks), IDENTITY)
    assert not frame[:, : edge - 2].any()  # skin does not grow beyond the head
    near = frame[int(corner[1]) - 3 : int(corner[1]) + 4, edge + 3 : edge + 9]
    assert np.abs(near.astype(float) - SKIN).max() < 40
    believed = prepare_lids(image, PERSON, landmarks[:, :2], prepare_eyes(image, landmarks))
    dark = image.copy()
    draw_lids(dark, believed, shut(landmarks), IDENTITY)
    smeared = dark[int(corner[1]) - 3 : int(corner[1]) + 4, edge + 3 : edge + 9]
    assert smeared.mean() < near.mean() - 1
    coats = [paint_lids(found, shut(landmarks), (SIZE, SIZE))[0] for found in (lids, believed)]
    lashes = [float(coat.alpha[:, : edge - coat.region.cols.start].sum()) for coat in coats]
    assert lashes[0] < 0.5 * lashes[1]  # nor are there lashes of it


def test_nothing_of_an_eye_larger_than_its_landmarks_remains(landmarks) -> None:
    frame = closed(cartoon(landmarks), landmarks)
    for eye in range(2):
        inside = np.zeros((SIZE, SIZE, 3), np.uint8)
        fill(inside, outline(landmarks, eye, 0.95), (255, 255, 255))
        away = np.abs(frame[inside[..., 0] > 0].astype(int) - SKIN).max(axis=1)
        assert np.mean(away < 30) > 0.97
        assert away.max() < 60


def test_lid_skin_stays_near_the_eye(landmarks) -> None:
    image = cartoon(landmarks)
    changed = np.argwhere((closed(image, landmarks) != image).any(axis=2))[:, ::-1]
    rims = np.concatenate([outline(landmarks, eye, 1.0) for eye in range(2)])
    apart = np.linalg.norm(changed[:, None] - rims, axis=2).min(axis=1)
    assert apart.max() < 0.2 * np.linalg.norm(landmarks[33, :2] - landmarks[263, :2])


def test_large_eyes_are_found_in_the_picture(landmarks) -> None:
    fitted = fit_openings(cartoon(landmarks), landmarks)
    for eye, iris in ((0, 468), (1, 473)):
        true = outline(landmarks, eye, 1.0)
        lids = [*UPPER_LIDS[eye], *LOWER_LIDS[eye][::-1]]
        before = np.linalg.norm(landmarks[lids, :2] - true, axis=1).mean()
        after = np.linalg.norm(fitted[lids, :2] - true, axis=1).mean()
        assert after < 0.5 * before
        radius = np.hypot(*(fitted[iris + 1 : iris + 5, :2] - fitted[iris, :2]).T).mean()
        assert radius == pytest.approx(0.36 * np.ptp(true[:, 1]) * 1.2, rel=0.2)


def test_an_ordinary_eye_keeps_its_landmarks(landmarks) -> None:
    assert np.array_equal(fit_openings(draw_face(landmarks), landmarks), landmarks)


def lashed(landmarks: np.ndarray) -> np.ndarray:
    """The drawn face with thick lashes on the right half of its left eye."""
    image = draw_face(landmarks)
    upper = landmarks[UPPER_LIDS[0], :2]
    half = upper[len(upper) // 2 : -1]
    long = 0.07 * np.hypot(*(upper[-1] - upper[0]))
    fill(image, np.concatenate([half, (half - (0, long))[::-1]]), (40, 25, 20))
    return image


def darkness(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(2,) how dark it is under the left eye's seam, its left and its right half; skin is 0."""
    lids = prepare_lids(image, PERSON, landmarks[:, :2], prepare_eyes(image, landmarks))
    frame, closed_eyes = np.full((SIZE, SIZE, 3), SKIN, np.uint8), shut(landmarks)
    for coat in paint_lids(lids, closed_eyes, (SIZE, SIZE)):
        coat.lay(frame)
    seam = closed_eyes[UPPER_LIDS[0], :2]
    width = np.hypot(*(seam[-1] - seam[0]))
    below = np.zeros((SIZE, SIZE, 3), np.uint8)
    fill(below, np.concatenate([seam, (seam + (0, 0.06 * width))[::-1]]), (255, 255, 255))
    middle, dark = seam[len(seam) // 2, 0], (np.array(SKIN) - frame).sum(axis=2)
    x = np.arange(SIZE)[None]
    return np.array(
        [dark[(below[..., 0] > 127) & side].mean() for side in (x < middle, x > middle)]
    )


def test_an_open_eye_gets_no_lashes(landmarks) -> None:
    image = lashed(landmarks)
    lids = prepare_lids(image, PERSON, landmarks[:, :2], prepare_eyes(image, landmarks))
    assert not paint_lids(lids, landmarks, (SIZE, SIZE))


def test_lashes_of_a_closed_eye_are_the_pictures_own(landmarks) -> None:
    thin, thick = darkness(draw_face(landmarks), landmarks), darkness(lashed(landmarks), landmarks)
    assert thin.min() > 10  # the line that lashes grow from is always there
    assert thick[1] > 1.5 * thin[1]
    assert thick[1] > 1.3 * thick[0]
