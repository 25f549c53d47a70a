"""What the decoder looks at: patches stay on the face, and know where the photo shows the same."""

from __future__ import annotations

import astronaut_face
import cv2
import numpy as np
import pytest
from astronaut_face import at_rest, face_mask, moved

from sfumato.geometry import patches, topology
from sfumato.geometry.patches import EYES, MOUTH, PATCHES, Patch
from sfumato.render.portrait import DENSITY, Portrait
from sfumato.render.renderer import Renderer

pytestmark = pytest.mark.unit

SIZE = 256


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return astronaut_face.portrait(SIZE)


@pytest.fixture(scope="module")
def face(portrait: Portrait) -> np.ndarray:
    return portrait.canvas.landmarks.astype(np.float64)


def similarity(degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    """(2, 3) about the middle of the canvas."""
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), -degrees, scale)
    return matrix + [[0, 0, x], [0, 0, y]]


def carried(face: np.ndarray, by: np.ndarray) -> np.ndarray:
    flat = face[:, :2] @ by[:, :2].T + by[:, 2]
    return np.column_stack([flat, face[:, 2] * np.sqrt(np.linalg.det(by[:, :2]))])


def mirrored(face: np.ndarray) -> np.ndarray:
    return (face * [-1, 1, 1] + [SIZE - 1, 0, 0])[topology.MIRROR]


def centres(step: int, width: int, height: int) -> np.ndarray:
    """(height, width, 2) centres of blocks of pixels."""
    x, y = (step * np.arange(n) + (step - 1) / 2 for n in (width, height))
    return np.stack(np.meshgrid(x, y), axis=2)


def applied(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def shown(source: np.ndarray) -> np.ndarray:
    """A field that takes every canvas pixel from where the affine map ``source`` says."""
    grid = centres(2, SIZE // 2, SIZE // 2)
    return (applied(source, grid) - grid).astype(np.float32)


def of(patch: Patch, field: np.ndarray, there: np.ndarray, own: np.ndarray) -> list[np.ndarray]:
    pairs = zip(patch.matrices(there), patch.matrices(own), strict=True)
    return [patches.shift(patch, field, matrix, source, SIZE) for matrix, source in pairs]


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
@pytest.mark.parametrize("by", [similarity(0, 1, 9, -14), similarity(23, 0.8, -5, 8)])
def test_a_patch_moves_with_its_face(
    patch: Patch, by: np.ndarray, portrait: Portrait, face: np.ndarray
) -> None:
    image = cv2.GaussianBlur(portrait.canvas.image, (0, 0), 2)
    other = cv2.warpAffine(image, by, (SIZE, SIZE), flags=cv2.INTER_CUBIC)
    there = carried(face, by)
    pairs = zip(patch.matrices(face), patch.matrices(there), strict=True)
    for here, matrix in pairs:
        np.testing.assert_allclose(
            np.vstack([matrix, [0, 0, 1]]) @ np.vstack([by, [0, 0, 1]]),
            np.vstack([here, [0, 0, 1]]),
            atol=1e-6,
        )
        one, two = patches.cut(patch, image, here), patches.cut(patch, other, matrix)
        assert one.shape == (patch.height, patch.width, 3)
        assert np.abs(one.astype(int) - two).mean() < 1.5
        masks = [patches.masks(patch, f, m).astype(int) for f, m in ((face, here), (there, matrix))]
        assert np.abs(masks[0] - masks[1]).max() < 20


def test_the_right_eye_looks_like_a_left_one(portrait: Portrait, face: np.ndarray) -> None:
    image, other = portrait.canvas.image, np.ascontiguousarray(portrait.canvas.image[:, ::-1])
    flipped = mirrored(face)
    pairs = zip(EYES.matrices(face), EYES.matrices(flipped)[::-1], strict=True)
    for here, there in pairs:
        one, two = patches.cut(EYES, image, here), patches.cut(EYES, other, there)
        assert np.abs(one.astype(int) - two).max() <= 2
        first = patches.masks(EYES, face, here)
        second = patches.masks(EYES, flipped, there)
        assert np.abs(first.astype(int) - second).max() < 20


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
def test_no_shift_at_rest(patch: Patch, portrait: Portrait) -> None:
    rendered = Renderer(portrait, astronaut_face.basis()).render(at_rest(portrait))
    for shift in of(patch, rendered.field / DENSITY, rendered.landmarks, portrait.canvas.landmarks):
        assert shift.shape == (patch.height // 4, patch.width // 4, 2)
        assert shift.dtype == np.float32
        assert np.abs(shift).max() < 1 and np.abs(shift).mean() < 0.1  # lips give way a little


@pytest.mark.parametrize(
    "by", [similarity(0, 1, 9, -14), similarity(0, 1.2, 0, 0), similarity(-17, 0.9, 4, 6)]
)
def test_shift_of_a_face_that_moves_as_a_whole(by: np.ndarray, face: np.ndarray) -> None:
    """A patch that goes along sees nothing move; one that stays sees all of it."""
    back = cv2.invertAffineTransform(by)
    field = shown(back)
    for patch in PATCHES:
        for shift in of(patch, field, carried(face, by), face):
            np.testing.assert_allclose(shift, 0, atol=0.1)
        grid = centres(4, patch.width // 4, patch.height // 4)
        for place, shift in zip(patch.matrices(face), of(patch, field, face, face), strict=True):
            on_canvas = applied(cv2.invertAffineTransform(place), grid)
            expected = applied(place, applied(back, on_canvas)) - grid
            inside = ((on_canvas > 8) & (on_canvas < SIZE - 8)).all(axis=2)
            np.testing.assert_allclose(shift[inside], expected[inside], atol=0.1)


def test_shift_counts_in_pixels_of_the_patch(face: np.ndarray) -> None:
    """Skin taken from 3 pixels to the right and 2 above; a mirrored eye sees it on its left."""
    field = np.tile(np.array([3, -2], np.float32), (SIZE // 2, SIZE // 2, 1))
    across = face[263] - face[33]
    face = carried(face, similarity(-np.rad2deg(np.arctan2(across[1], across[0])), 1, 0, 0))
    zoom = patches.EYE_DISTANCE / np.linalg.norm(face[263] - face[33])
    (mouth,), (left, right) = of(MOUTH, field, face, face), of(EYES, field, face, face)
    for shift, sign in ((mouth, 1), (left, 1), (right, -1)):
        np.testing.assert_allclose(
            shift, np.broadcast_to([sign * 3 * zoom, -2 * zoom], shift.shape), atol=0.01
        )


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
def test_the_photo_moved_by_the_shift_is_the_frame(patch: Patch, portrait: Portrait) -> None:
    """But for the insides of eyes and mouth, which are drawn."""
    frame = moved(portrait, yaw=13, x=0.08, lips=3.2)
    rendered = Renderer(portrait, astronaut_face.basis()).render(frame)
    shifts = of(patch, rendered.field / DENSITY, rendered.landmarks, portrait.canvas.landmarks)
    there = patch.matrices(rendered.landmarks)
    here = patch.matrices(portrait.canvas.landmarks)
    for shift, matrix, own in zip(shifts, there, here, strict=True):
        size = (patch.width, patch.height)
        photo = patches.cut(patch, portrait.canvas.image, own)
        drawn = patches.cut(patch, rendered.image, matrix).astype(int)
        place = (centres(1, *size) + cv2.resize(shift, size)).astype(np.float32)
        guess = cv2.remap(photo, place, None, cv2.INTER_LINEAR)
        fair = ((place > 1) & (place < np.array(size) - 2)).all(axis=2)
        fair &= _skin(patch, rendered, matrix)
        assert fair.mean() > 0.05
        error = np.abs(guess - drawn).mean(axis=2)[fair].mean()
        still = np.abs(photo - drawn).mean(axis=2)[fair].mean()
        assert error < 3 and error < 0.4 * still, (error, still)


def _skin(patch: Patch, rendered, matrix: np.ndarray) -> np.ndarray:
    """(H, W) inside the face, off lips and eyes."""
    features = np.zeros((SIZE, SIZE), np.uint8)
    for ring in (topology.OUTER_LIPS, topology.LEFT_EYE, topology.RIGHT_EYE):
        points = rendered.landmarks[list(ring), :2].round().astype(np.int32)
        cv2.fillPoly(features, [points], 255)
    features = cv2.dilate(features, np.ones((13, 13), np.uint8))
    skin = cv2.erode(face_mask(rendered), np.ones((7, 7), np.uint8)) & ~features
    return patches.cut(patch, skin, matrix) > 250


def test_masks_lie_on_their_features(portrait: Portrait, face: np.ndarray) -> None:
    (matrix,) = MOUTH.matrices(face)
    np.testing.assert_allclose(applied(matrix, face[2, :2]), (87.5, 28), atol=1e-6)
    opening, lips = np.moveaxis(patches.masks(MOUTH, face, matrix), 2, 0)
    assert (lips >= opening).all() and 0.01 < (opening > 127).mean() < (lips > 127).mean() < 0.4
    _centred(opening, applied(matrix, face[list(topology.INNER_LIPS), :2]))
    for matrix, lids, iris, outer, inner in zip(
        EYES.matrices(face),
        (topology.LEFT_EYE, topology.RIGHT_EYE),
        (topology.LEFT_IRIS, topology.RIGHT_IRIS),
        (33, 263),
        (133, 362),
        strict=True,
    ):
        eye, disc = np.moveaxis(patches.masks(EYES, face, matrix), 2, 0)
        _centred(eye, applied(matrix, face[list(lids), :2]))
        _centred(disc, applied(matrix, face[iris[0], :2])[None])
        corners = applied(matrix, face[[outer, inner], :2])
        assert corners[0, 0] < corners[1, 0]  # both eyes look out to the left
        np.testing.assert_allclose(corners.mean(axis=0), (55.5, 39.5), atol=1e-6)


def _centred(mask: np.ndarray, points: np.ndarray) -> None:
    """The mask fills the box around the points, or is a disc around one point."""
    y, x = np.nonzero(mask > 127)
    middle = [(x.min() + x.max()) / 2, (y.min() + y.max()) / 2]
    low, high = points.min(axis=0), points.max(axis=0)
    np.testing.assert_allclose(middle, (low + high) / 2, atol=1.1)


def test_the_decoder_fades_at_the_border() -> None:
    for patch in PATCHES:
        window = patches.window(patch)
        border = np.r_[window[0], window[-1], window[:, 0], window[:, -1]]
        assert (border == 0).all() and (window[16:-16, 16:-16] == 1).all()
        assert (window == window[:, ::-1]).all() and (window == window[::-1]).all()


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.name)
@pytest.mark.parametrize(
    "by",
    [
        similarity(0, 1, 0.4 * SIZE, 0.3 * SIZE),
        similarity(30, 1, -1e4, 1e4),
        similarity(0, 60, 0, 0),
        similarity(0, 1e-4, 0, 0),
    ],
    ids=["partly outside", "far outside", "huge", "tiny"],
)
def test_any_place_and_size_of_a_face_will_do(
    patch: Patch, by: np.ndarray, portrait: Portrait, face: np.ndarray
) -> None:
    there = carried(face, by).astype(np.float32)
    field = shown(cv2.invertAffineTransform(by))
    for matrix in patch.matrices(there):
        assert patches.cut(patch, portrait.canvas.image, matrix).shape[:2] == (
            patch.height,
            patch.width,
        )
        masks = patches.masks(patch, there, matrix)
        assert masks.shape == (patch.height, patch.width, 2) and masks.dtype == np.uint8
    assert all(np.isfinite(shift).all() for shift in of(patch, field, there, face))
