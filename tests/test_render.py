"""What a viewer relies on: the photo at rest, no holes, a still background, the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from astronaut_face import face_mask
from numpy.typing import NDArray
from skimage.data import astronaut

from sfumato import emotions
from sfumato.geometry import topology
from sfumato.latent import FaceBasis, MotionFrame
from sfumato.render import background, matte, skin
from sfumato.render.mend import sampling_of
from sfumato.render.portrait import Portrait, prepare
from sfumato.render.renderer import Renderer, paste

pytestmark = pytest.mark.unit

FIXTURE = np.load(Path(__file__).parent / "data" / "astronaut.npz")
POSES = [(yaw, pitch) for yaw in (-20, 0, 20) for pitch in (-15, 0, 15)]


@pytest.fixture(scope="module")
def basis() -> FaceBasis:
    return FaceBasis.load()


def _prepare(basis: FaceBasis, size: int, pinned: bool = False) -> Portrait:
    coarse = cv2.resize(FIXTURE["matte"].astype(np.float32) / 255, (512, 512))
    return prepare(astronaut(), FIXTURE["landmarks"], coarse, basis, size, pinned)


@pytest.fixture(scope="module")
def portrait(basis: FaceBasis) -> Portrait:
    return _prepare(basis, 256)


def _rest(portrait: Portrait) -> MotionFrame:
    latents = portrait.latents
    return MotionFrame(np.zeros(6, np.float32), latents.expression, np.zeros(2, np.float32), 0.0)


def _turned(portrait: Portrait, yaw: float, pitch: float, **change: float) -> MotionFrame:
    pose = np.array([np.deg2rad(yaw), np.deg2rad(pitch), 0, change.get("x", 0), 0, 0], np.float32)
    return replace(_rest(portrait), pose=pose, breath=change.get("breath", 0.0))


def test_rest_gives_the_photo_back(portrait: Portrait, basis: FaceBasis) -> None:
    rendered = Renderer(portrait, basis).render(_rest(portrait))
    error = np.abs(rendered.image.astype(int) - portrait.canvas.image).mean(axis=2)
    body = rendered.alpha > 250
    features = np.zeros(body.shape, bool)
    boxes = (rendered.mouth_box(), *rendered.eye_boxes())
    for x0, y0, x1, y1 in boxes:
        features[y0:y1, x0:x1] = True
    face = (face_mask(rendered) > 0) & ~features
    assert error[face].mean() < 3
    assert error[body & (face_mask(rendered) == 0)].mean() < 3
    assert error.mean() < 3


def test_layers_compose_to_the_photo(portrait: Portrait) -> None:
    size = portrait.canvas.size
    inner = slice(size // 4, size // 4 + 2 * size)
    person = cv2.resize(portrait.person[inner, inner], (size, size), interpolation=cv2.INTER_AREA)
    again = person[..., :3] + portrait.background * (1 - person[..., 3:] / 255)
    error = np.abs(again - portrait.canvas.image).mean(axis=2)
    assert error.mean() < 1.5
    assert np.percentile(error, 99) < 25


def test_same_frame_same_picture(portrait: Portrait, basis: FaceBasis) -> None:
    renderer = Renderer(portrait, basis)
    frame = _turned(portrait, 12, -7, breath=0.5)
    first = renderer.render(frame)
    renderer.render(_turned(portrait, -20, 15))
    second = Renderer(_prepare(basis, 256), basis).render(frame)
    assert (first.image == second.image).all()
    assert (first.field == second.field).all()


@pytest.mark.parametrize(("yaw", "pitch"), POSES)
def test_no_holes_and_no_folds(
    portrait: Portrait, basis: FaceBasis, yaw: float, pitch: float
) -> None:
    rest = portrait.latents.pose
    frame = _turned(portrait, yaw, pitch)
    pose = replace(rest, yaw=rest.yaw + np.deg2rad(yaw), pitch=rest.pitch + np.deg2rad(pitch))
    mesh = portrait.mesh
    landmarks = skin.flatten(mesh, rest, pose, basis.drive(portrait.latents, frame))
    _, vertices = skin.deform(
        mesh, rest, pose, landmarks, np.zeros((skin.N_VERTICES, 2), np.float32), 0.0
    )
    rings = mesh.triangles[(mesh.triangles >= topology.N_FACE).any(axis=1)]
    assert (_areas(vertices, rings) * _areas(mesh.vertices, rings) > 0).mean() > 0.99
    rendered = Renderer(portrait, basis).render(frame)
    # Deep inside the head the person covers everything.
    x, y = rendered.landmarks[: topology.N_FACE, :2].mean(axis=0).astype(int)
    assert (rendered.alpha[y - 20 : y + 20, x - 20 : x + 20] == 255).all()


def _areas(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, i], :2] for i in range(3))
    ab, ac = b - a, c - a
    return ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]


def test_the_background_stays_still(portrait: Portrait, basis: FaceBasis) -> None:
    renderer = Renderer(portrait, basis)
    pictures = [renderer.render(_turned(portrait, yaw, 0)) for yaw in (-20, 0, 20)]
    free = np.all([p.alpha == 0 for p in pictures], axis=0)
    assert free.mean() > 0.15
    for picture in pictures:
        assert (picture.image[free] == portrait.background[free]).all()


def test_no_remains_of_the_person_in_the_background(portrait: Portrait) -> None:
    """Hair is dark, the wall behind is light: nothing dark may be left around the head."""
    size = portrait.canvas.size
    around = portrait.background[: size // 2, size // 6 : -size // 6].mean(axis=2)
    assert np.percentile(around, 0.5) > 120


def test_the_torso_follows_softly_and_breathes(portrait: Portrait, basis: FaceBasis) -> None:
    renderer = Renderer(portrait, basis)
    size = portrait.canvas.size
    moved = renderer.render(_turned(portrait, 0, 0, x=0.3)).field
    still = renderer.render(_rest(portrait)).field
    shift = np.abs(moved - still)[..., 0] / 2
    full = 0.3 * portrait.latents.pose.scale
    middle = size // 4
    assert shift[middle // 2, middle] == pytest.approx(full, rel=0.05)
    assert shift[-2, middle] < 0.4 * full
    breath = renderer.render(_turned(portrait, 0, 0, breath=1.0)).field - still
    assert breath[-2, middle, 1] > 1
    assert abs(breath[middle // 2, middle, 1]) < 0.1


def test_a_pinned_canvas_fits_back_into_the_photo(basis: FaceBasis) -> None:
    portrait = _prepare(basis, 256, pinned=True)
    rendered = Renderer(portrait, basis).render(_turned(portrait, 15, 5, x=0.2))
    assert portrait.pinned == (False, True, True, True)  # the photo ends above the hair
    for edge in (rendered.field[-1], rendered.field[:, 0], rendered.field[:, -1]):
        assert (edge == 0).all()
    photo = astronaut()
    whole = paste(photo, rendered.image, portrait.canvas.matrix)
    assert whole.shape == photo.shape
    changed = np.abs(whole.astype(int) - photo).max(axis=2) > 0
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    scale, left, top = portrait.canvas.matrix[0, 0], *portrait.canvas.matrix[:, 2]
    assert scale * columns[[0, -1]] + left == pytest.approx([0, 255], abs=6)
    assert rows[-1] - rows[0] <= 256 / scale + 1
    assert (scale * rows + top >= -1).all()


def test_soft_photos_are_sampled_softly(portrait: Portrait) -> None:
    canvas = portrait.canvas
    assert sampling_of(canvas.image, canvas.landmarks) == cv2.INTER_CUBIC
    small = cv2.resize(canvas.image, (96, 96), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(small, canvas.image.shape[:2], interpolation=cv2.INTER_CUBIC)
    assert sampling_of(enlarged, canvas.landmarks) == cv2.INTER_LINEAR


def test_a_raised_brow_is_not_drawn_out(portrait: Portrait, basis: FaceBasis) -> None:
    """Emotions at full strength: the strip under it comes along, what is revealed is at the lid."""
    renderer, rest = Renderer(portrait, basis), portrait.mesh.vertices
    lids, under, brows = [386, 159], [443, 223], [282, 52]

    def gaps(emotion: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        expression = portrait.latents.expression + emotions.offset({emotion: 1.0})
        moved = renderer.vertices(replace(_rest(portrait), expression=expression))
        ratios = [
            np.linalg.norm(moved[a, :2] - moved[b, :2], axis=1)
            / np.linalg.norm(rest[a, :2] - rest[b, :2], axis=1)
            for a, b in ((under, brows), (lids, brows))
        ]
        return ratios[0], ratios[1]

    for emotion in ("sad", "surprised"):
        strip, whole = gaps(emotion)
        assert (strip < 1.11).all() and (whole > 1.2).all(), emotion
    strip, _ = gaps("neutral")
    np.testing.assert_allclose(strip, 1, atol=1e-3)


def test_canvas_holds_the_landmarks(portrait: Portrait) -> None:
    canvas = portrait.canvas
    again = FIXTURE["landmarks"][:, :2] @ canvas.matrix[:, :2].T + canvas.matrix[:, 2]
    np.testing.assert_allclose(canvas.landmarks[:, :2], again, atol=1e-3)
    assert canvas.texture.shape[0] == 2.5 * canvas.size


def test_other_frames_are_as_sharp_on_the_canvas_as_the_photo(portrait: Portrait) -> None:
    canvas, photo = portrait.canvas, astronaut()
    # Above, the photo is continued by a blurred mirror image.
    rows = max(round(1 + canvas.matrix[1, 2]), 0)
    np.testing.assert_array_equal(canvas.brought(photo)[rows:], canvas.image[rows:])
    darker = canvas.brought(photo // 2)
    assert np.abs(darker.astype(int) - canvas.image // 2)[rows:].mean() < 1


def test_matte_and_colours_of_a_known_blend() -> None:
    """A soft red disc over a green ramp comes apart into disc, ramp and matte."""
    y, x = np.indices((160, 160), dtype=np.float32)
    truth = np.clip((50 - np.hypot(x - 80, y - 80)) / 3, 0, 1)
    behind = np.dstack([0 * x, 100 + 0.5 * x, 0 * x])
    red = np.array([200.0, 40, 60])
    image = (truth[..., None] * red + (1 - truth[..., None]) * behind + 0.5).astype(np.uint8)
    coarse = cv2.GaussianBlur(truth, (0, 0), 4)
    alpha = matte.refine(image, coarse, truth > 2)
    assert np.abs(alpha - truth).mean() < 0.02
    filled = background.fill(image, alpha, coarse)
    assert np.abs(filled.astype(float) - behind).mean() < 4
    colours = matte.foreground(image, alpha, filled)
    assert np.abs(colours[truth > 0.3] - red).mean() < 12
