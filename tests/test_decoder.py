"""The learned decoder: it moves and lights what it is told to, and mends what a warp cannot do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import astronaut_face
import cv2
import numpy as np
import pytest
from astronaut_face import at_rest, face_mask, moved

from sfumato.geometry import topology
from sfumato.geometry.patches import EYES, MOUTH, PATCHES
from sfumato.interior import look
from sfumato.latent import MotionFrame
from sfumato.render.decoder import Decoder, Known
from sfumato.render.frame import Drawn, Rendered
from sfumato.render.inside import Inside
from sfumato.render.portrait import DENSITY, Portrait, prepare
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

pytestmark = pytest.mark.unit

SIZE = 256


class Says:
    """Stands in for a network of a frame: always the same answer."""

    def __init__(self, flow: tuple = (0, 0), keep: float = 1, add: tuple = (0, 0, 0)) -> None:
        self.flow, self.mixed = flow, (keep, *add)

    def __call__(self, view: np.ndarray, shift: np.ndarray, *known: np.ndarray) -> list[np.ndarray]:
        count, planes, height, width = view.shape
        assert planes == 5 and shift.shape == (count, height // 4, width // 4, 2)
        assert view.dtype == shift.dtype == np.float32
        flow = np.tile(np.float32(self.flow)[:, None, None], (count, 1, height // 2, width // 2))
        return [flow, np.tile(np.float32(self.mixed)[:, None, None], (count, 1, height, width))]


def saying(**answers: Says) -> Decoder:
    """A decoder of fixed answers by kind of patch; the rest change nothing."""
    photo = {p.name: lambda view: [np.zeros((len(view), 1), np.float32)] for p in PATCHES}
    return Decoder(photo, {p.name: answers.get(p.name, Says()) for p in PATCHES})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return astronaut_face.portrait(SIZE)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder.load()


def renderer(portrait: Portrait, decoder: Decoder | None = None) -> Renderer:
    return Renderer(portrait, astronaut_face.basis(), Slide.load(), decoder=decoder)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_decoder_that_says_nothing_changes_nothing(pinned: bool) -> None:
    portrait = astronaut_face.portrait(SIZE, pinned)
    explicit, learned = renderer(portrait), renderer(portrait, saying())
    for frame in (
        at_rest(portrait),
        moved(portrait, yaw=18, lips=4.0),
        moved(portrait, yaw=-18, x=0.2, lids=2.0),
    ):
        before, after = explicit.render(frame), learned.render(frame)
        assert np.abs(before.image.astype(int) - after.image).max() <= 1
        assert np.abs(before.alpha.astype(int) - after.alpha).max() <= 1
        np.testing.assert_allclose(after.field, before.field, atol=1e-3)
        assert explicit.kept(frame).min() == 255 and learned.kept(frame).min() >= 254


def ramp(face: np.ndarray) -> Drawn:
    """A frame whose colours say where they come from: red to the right, green down."""
    line = np.arange(SIZE, dtype=np.uint8)
    blue, alpha = np.full((SIZE, SIZE), 100, np.uint8), np.full((SIZE, SIZE), 255, np.uint8)
    picture = np.dstack([*np.meshgrid(line, line), blue, alpha])
    return Drawn(
        picture,
        alpha,
        face,
        np.zeros((SIZE // 2, SIZE // 2, 2), np.float32),
        np.zeros(3, np.float32),
    )


@pytest.mark.parametrize("degrees", [0, 30])
@pytest.mark.parametrize("flow", [(6, 0), (0, -6)])
def test_flow_says_where_to_take_a_pixel_from(
    portrait: Portrait, degrees: float, flow: tuple[int, int]
) -> None:
    """In pixels of the upright patch, which may be turned, scaled and mirrored in the frame."""
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), degrees, 1.4)
    face = portrait.canvas.landmarks * np.float32(1.4)
    face[:, :2] = portrait.canvas.landmarks[:, :2] @ turn[:, :2].T + turn[:, 2]
    drawn = ramp(face.astype(np.float32))
    stub = saying(mouth=Says(flow), eyes=Says(flow))
    places = {p.name: p.matrices(face) for p in PATCHES}
    features = {name: [np.zeros(1, np.float32)] for name in places}
    canvas = portrait.canvas
    inside = Inside.of(portrait.mouth, canvas.image, canvas.landmarks, one_tint=False)
    mouth = np.zeros((MOUTH.height, MOUTH.width, 4), np.uint8)
    known = Known(places, features, mouth, [0.3, 0.3], inside, None, cv2.INTER_CUBIC)
    image = drawn.picture.copy()
    for part in stub.mended(known, drawn):
        part.lay(image)
    for patch in (MOUTH, EYES):
        for matrix in places[patch.name]:
            middle = np.array([patch.width / 2, patch.height / 2]) - matrix[:, 2]
            x, y = np.linalg.solve(matrix[:, :2], middle).round().astype(int)
            expected = np.linalg.solve(matrix[:, :2], flow)
            part = image[y - 3 : y + 4, x - 3 : x + 4].astype(float)
            there = drawn.picture[y - 3 : y + 4, x - 3 : x + 4]
            change = (part - there)[..., :2].mean(axis=(0, 1))
            np.testing.assert_allclose(change, expected, atol=0.6)  # whole levels
            assert (part[..., 2] == 100).all()
    eyes = places["eyes"]
    assert np.linalg.det(eyes[0][:, :2]) > 0 > np.linalg.det(eyes[1][:, :2])
    assert (image[[0, -1]] == drawn.picture[[0, -1]]).all()


def test_nothing_is_laid_beyond_the_matte(portrait: Portrait) -> None:
    """A mouth at the edge of a turned face throws no shadow on what is behind."""
    frame = moved(portrait, yaw=20, lips=3.0)
    before = renderer(portrait).render(frame)
    bright = Says(add=(90, 90, 90))
    after = renderer(portrait, saying(mouth=bright, eyes=bright)).render(frame)
    change = np.abs(before.image.astype(int) - after.image).max(axis=2)
    assert change[before.alpha == 0].max() == 0
    assert change[before.alpha == 255].max() > 40


def test_light_and_colour_are_added_to_what_is_kept(portrait: Portrait) -> None:
    frame = at_rest(portrait)
    before = renderer(portrait).render(frame)
    lit = Says(keep=0.5, add=(20, 0, -20))
    expected = np.clip(0.5 * before.image + [20, 0, -20], 0, 255)
    mouth = renderer(portrait, saying(mouth=lit))
    inside, kept = mouth.render(frame), mouth.kept(frame)
    box = before.mouth_box()
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    part = (slice(y - 8, y + 8), slice(x - 8, x + 8))
    luma = np.array([0.299, 0.587, 0.114])  # hues are the picture's own, see test_inside
    assert np.abs(inside.image[part] @ luma - expected[part] @ luma).max() <= 2
    assert np.abs(kept[part].astype(int) - (127 - 4 * 20)).max() <= 1
    assert (kept[: SIZE // 4] == 255).all()


def test_what_is_painted_in_a_mouth_takes_the_colours_of_the_picture(portrait: Portrait) -> None:
    ochre = np.float32([200, 170, 100])
    yellow = replace(portrait, mouth=replace(portrait.mouth, enamel=ochre))
    lilac = saying(mouth=Says(keep=0, add=(110, 100, 140)))
    wide = moved(yellow, lips=3.0)
    out = renderer(yellow, lilac).render(wide)
    x0, y0, x1, y1 = out.mouth_box()
    middle = out.image[(y0 + y1) // 2, (x0 + x1) // 2].astype(float)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(middle / (middle @ luma), ochre / (ochre @ luma), atol=0.05)
    assert middle @ luma == pytest.approx(np.array([110, 100, 140]) @ luma, abs=2)


def test_lids_that_close_stay_as_they_are_drawn(portrait: Portrait) -> None:
    explicit = renderer(portrait)
    learned = renderer(portrait, saying(eyes=Says(keep=0.5, add=(20, 0, -20))))
    shut = float(astronaut_face.basis().blink_shut.max())
    changes, masks = [], []
    for lids in (shut, 0.0):
        frame = moved(portrait, lids=lids)
        before, after = explicit.render(frame), learned.render(frame)
        eyes = [np.s_[y0:y1, x0:x1] for x0, y0, x1, y1 in before.eye_boxes()]
        apart = [np.abs(before.image[e].astype(int) - after.image[e]).mean() for e in eyes]
        changes.append(max(apart) if lids else min(apart))
        masks.append(np.mean([learned.kept(frame)[e].mean() for e in eyes]))
    assert changes[0] < 1 and changes[1] > 10
    assert masks[0] > 250 and masks[1] < 120


@pytest.mark.parametrize("x", [-1.6, 0.0, 1.6])
def test_faces_leave_the_canvas_unharmed(portrait: Portrait, decoder: Decoder, x: float) -> None:
    frame = moved(portrait, yaw=15, x=x, lips=3.0)
    rendered = renderer(portrait, decoder).render(frame)
    assert rendered.image.shape == (SIZE, SIZE, 3) and rendered.image.dtype == np.uint8


def test_same_frame_same_picture(portrait: Portrait, decoder: Decoder) -> None:
    """In any order, from any thread, also where two portraits share the networks."""
    frames = [moved(portrait, yaw=10 * n - 15, lips=1.5 * n, lids=n) for n in range(4)]
    one, two = renderer(portrait, decoder), renderer(portrait, decoder)
    first = [one.render(frame) for frame in frames]
    with ThreadPoolExecutor(3) as pool:
        second = list(pool.map(two.render, frames[::-1] * 2))
    for a, b in zip(first, second[3::-1], strict=True):
        assert (a.image == b.image).all()
    for a, b in zip(first, second[:3:-1], strict=True):
        assert (a.image == b.image).all()


def away(rendered: Rendered) -> np.ndarray:
    """(S, S) bool, all that is no face, with a margin."""
    side = rendered.image.shape[0] // 16
    return cv2.dilate(face_mask(rendered), np.ones((side, side), np.uint8)) == 0


def test_a_plain_picture_is_what_the_explicit_renderer_draws(
    portrait: Portrait, decoder: Decoder
) -> None:
    frame = moved(portrait, yaw=6, lips=2.0)
    explicit = Renderer(portrait, astronaut_face.basis()).render(frame).image
    learned = Renderer(portrait, astronaut_face.basis(), decoder=decoder)
    assert np.array_equal(learned.render(frame, plain=True).image, explicit)
    assert not np.array_equal(learned.render(frame).image, explicit)


def test_far_from_the_face_little_changes(portrait: Portrait, decoder: Decoder) -> None:
    for frame, most in ((at_rest(portrait), 0.5), (moved(portrait, yaw=12, lips=3.0), 6)):
        before = renderer(portrait).render(frame)
        after = renderer(portrait, decoder).render(frame)
        change = np.abs(after.image.astype(int) - before.image).max(axis=2)[away(before)]
        assert change.mean() < most


def test_a_grey_photo_stays_grey(decoder: Decoder) -> None:
    portrait = astronaut_face.portrait(SIZE, grey=True)
    for frame in (moved(portrait, lips=4.0), moved(portrait, yaw=-10, lids=2.0)):
        image = renderer(portrait, decoder).render(frame).image.astype(int)
        colour = np.ptp(image, axis=2)
        assert colour.mean() < 1 and colour.max() < 6


def test_any_size_of_canvas(decoder: Decoder) -> None:
    """A larger picture is the same picture, mended in the same way."""
    outs = []
    for size in (SIZE, 768):
        portrait = astronaut_face.portrait(size)
        out = renderer(portrait, decoder).render(moved(portrait, yaw=8, lips=3.5))
        assert out.image.shape == (size, size, 3)
        outs.append(out)
    small = cv2.resize(outs[1].image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = outs[0].mouth_box()
    mouths = [
        cv2.GaussianBlur(image, (0, 0), 2)[y0:y1, x0:x1].astype(int)
        for image in (outs[0].image, small)
    ]
    assert np.abs(mouths[0] - mouths[1]).mean() < 5


# What a photo does not show: drawn from one that lacks it, against one that has it.


def taken(portrait: Portrait, frame: MotionFrame) -> tuple[Portrait, MotionFrame, np.ndarray]:
    """A portrait of which the explicit renderer drew ``frame``, as if it were a photo.

    Returns:
        It, the frame that takes it back to the real photo, and that photo on its canvas.
    """
    basis = astronaut_face.basis()
    drawn = renderer(portrait).render(frame)
    matte = drawn.alpha.astype(np.float32) / 255
    second = prepare(drawn.image, basis.drive(portrait.latents, frame), matte, basis, SIZE)
    matrix = second.canvas.matrix
    wanted = portrait.canvas.landmarks * np.float32(matrix[0, 0])
    wanted[:, :2] += matrix[:, 2].astype(np.float32)
    real = cv2.warpAffine(portrait.canvas.image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    return second, basis.fit_frame(second.latents, wanted), real


def ring(rendered: Rendered, *rings: tuple[int, ...]) -> np.ndarray:
    """(S, S) bool, inside closed rings of landmarks."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for ids in rings:
        points = np.round(rendered.landmarks[list(ids), :2]).astype(np.int32)
        cv2.fillPoly(mask, [points], 255)
    return mask > 0


@pytest.fixture(scope="module")
def silent(portrait: Portrait) -> tuple[Portrait, MotionFrame, np.ndarray]:
    """She smiles with her teeth; here her lips are closed, and the frame opens them again."""
    frame = at_rest(portrait)
    shape = np.zeros_like(frame.expression)
    shape[:2] = frame.expression[:2]
    return taken(portrait, replace(frame, expression=shape))


def error(rendered: Rendered, real: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(rendered.image[where].astype(int) - real[where]).mean())


def test_teeth_behind_closed_lips(silent: tuple, decoder: Decoder) -> None:
    """The explicit renderer has no teeth to show and invents plain ones."""
    portrait, frame, real = silent
    explicit = renderer(portrait).render(frame)
    learned = renderer(portrait, decoder).render(frame)
    mouth = ring(explicit, topology.INNER_LIPS)
    assert mouth.sum() > 200
    assert error(learned, real, mouth) < 0.9 * error(explicit, real, mouth)


def test_eyes_behind_closed_lids(portrait: Portrait, decoder: Decoder) -> None:
    frame = moved(portrait, lids=astronaut_face.basis().blink_shut)
    sleeping, awake, real = taken(portrait, frame)
    explicit = renderer(sleeping).render(awake)
    learned = renderer(sleeping, decoder).render(awake)
    eyes = ring(explicit, topology.LEFT_EYE, topology.RIGHT_EYE)
    assert eyes.sum() > 150
    assert error(learned, real, eyes) < 0.8 * error(explicit, real, eyes)


def test_it_is_sure_of_skin_and_not_of_a_mouth_it_never_saw(
    silent: tuple, decoder: Decoder
) -> None:
    portrait = silent[0]
    learned, frame = renderer(portrait, decoder), moved(portrait, lips=5.0)
    out, kept = learned.render(frame), learned.kept(frame)
    assert kept.dtype == np.uint8 and kept.shape == (SIZE, SIZE)
    inside = cv2.erode(ring(out, topology.INNER_LIPS).astype(np.uint8), np.ones((3, 3))) > 0
    features = ring(out, topology.OUTER_LIPS, topology.LEFT_EYE, topology.RIGHT_EYE)
    features = cv2.dilate(features.astype(np.uint8), np.ones((25, 25))) > 0
    skin = (face_mask(out) == 255) & ~features
    assert inside.sum() > 200 and skin.sum() > 2000
    assert kept[inside].mean() < 100
    assert kept[skin].mean() > 200


def test_the_mouth_shows_what_it_is_told() -> None:
    """Shipped weights: teeth that meet are lighter than an open dark mouth of the same shape."""
    portrait = astronaut_face.portrait()
    renderer = Renderer(portrait, astronaut_face.basis(), Slide.load(), decoder=Decoder.load())
    frame = astronaut_face.moved(portrait, lips=3.0)
    light = []
    for value in (-2.0, 0.0, 2.0):
        told = np.array([value, 0, 0], np.float32)
        out = renderer.render(replace(frame, interior=told))
        light.append(look(out.image, out.landmarks).light.mean())
    assert light[0] < light[1] < light[2] and light[2] - light[0] > 0.06


def test_an_open_mouth_keeps_its_own_teeth() -> None:
    """Shipped weights: nearer to the photo's own mouth than what the explicit renderer paints."""
    portrait = astronaut_face.portrait(512)
    learned = Renderer(portrait, astronaut_face.basis(), Slide.load(), decoder=Decoder.load())
    explicit = Renderer(portrait, astronaut_face.basis(), Slide.load())
    own = astronaut_face.at_rest(portrait).expression[2]
    frame = astronaut_face.moved(portrait, lips=float(own) - 0.6)
    drawn = explicit.render(frame)
    # The photo moved by the mesh alone, its own mouth stretched with it.
    line = np.arange(512, dtype=np.float32)
    field = cv2.resize(drawn.field, (512, 512)) / DENSITY
    place = np.dstack(np.meshgrid(line, line)).astype(np.float32) + field
    photo = cv2.remap(portrait.canvas.image, place, None, cv2.INTER_LINEAR)
    inside = np.zeros(drawn.alpha.shape, np.uint8)
    lips = drawn.landmarks[list(topology.INNER_LIPS), :2]
    cv2.fillPoly(inside, [np.round(lips).astype(np.int32)], 1)
    painted, shown = (
        np.abs(r.render(frame).image.astype(float) - photo)[inside > 0].mean()
        for r in (explicit, learned)
    )
    assert inside.sum() > 100 and shown < 0.8 * painted
