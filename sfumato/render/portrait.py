"""Everything that is computed once per photo: the canvas, its layers and the fitted face."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato import contact
from sfumato.geometry import rotation, topology
from sfumato.latent import FaceBasis, Latents
from sfumato.render import background, matte, skin
from sfumato.render.eyes import EyeLayer, prepare_eyes
from sfumato.render.lids import Lid, prepare_lids
from sfumato.render.mouth import MouthLayer, prepare_mouth
from sfumato.render.opening import fit_openings

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Pixels = TypeVar("Pixels", Image, Floats)
Pads = tuple[int, int, int, int]  # top, bottom, left, right

DENSITY = 2  # texture pixels per canvas pixel: bilinear sampling then keeps the photo's sharpness
_FACE_HEIGHTS = 2.15  # side of the canvas, as the corpus is cropped
_PINNED_FACE_HEIGHTS = 3.0  # room for motion to die out around the hair
_RAISED = 0.08  # face heights by which the canvas sits above the face: hair needs room to move
_LEAST_FACE_HEIGHTS = 1.7  # a tight photo is cut tighter rather than extended, down to here
_MARGIN = 8  # the texture reaches 1/8 of the side beyond the canvas


@dataclass(frozen=True)
class Canvas:
    """The square part of the photo that moves.

    Attributes:
        image: (S, S, 3) uint8 RGB at output size.
        texture: (R, R, 3) uint8 RGB, R = 2.5 S: twice as dense, with a margin on every side.
        crop: left, top and side of it in the photo, photo pixels; it may reach beyond the photo.
        landmarks: (478, 3) float32 in canvas pixels.
    """

    image: Image
    texture: Image
    crop: tuple[int, int, int]
    landmarks: Floats

    @property
    def size(self) -> int:
        """Side S of the canvas in pixels."""
        return int(self.image.shape[0])

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) photo pixels to canvas pixels."""
        left, top, side = self.crop
        scale = self.size / side
        shift = [(0.5 - corner) * scale - 0.5 for corner in (left, top)]
        return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])

    def brought(self, picture: Image) -> Image:
        """Another picture (H, W, 3) of the photo's size on the canvas, (S, S, 3); mirrored beyond.

        As sharp as :attr:`image` is: another way to enlarge (bilinear) takes a third of the fine
        detail, and what is drawn from the photo would be compared with something softer.
        """
        dense = _cut(picture, self.crop, _reach(self.size), cv2.BORDER_REFLECT_101)
        inner = _inner(self.size)
        return _shrunk(dense[inner, inner], self.size)

    def to_texture(self, points: Floats) -> Floats:
        """Canvas pixels (..., 2) to texture pixels."""
        margin = self.size / _MARGIN
        result: Floats = ((points + 0.5 + margin) * DENSITY - 0.5).astype(np.float32)
        return result


@dataclass(frozen=True)
class Portrait:
    """A photo, ready to be moved.

    Attributes:
        canvas: the moving part of the photo.
        latents: the face in the photo, in canvas pixels.
        person: (R, R, 4) uint8, the person's colours premultiplied by the matte, and the matte.
        background: (S, S, 3) uint8, what lies behind.
        mesh: rest shape of the person.
        eyes: the eyes' own layer.
        lids: skin for closing eyes.
        mouth: the mouth's own layer.
        pinned: top, bottom, left, right: does motion die out at that border of the canvas?
    """

    canvas: Canvas
    latents: Latents
    person: Image
    background: Image
    mesh: skin.Mesh
    eyes: EyeLayer
    lids: tuple[Lid, ...]
    mouth: MouthLayer
    pinned: tuple[bool, bool, bool, bool]

    @property
    def alpha(self) -> Image:
        """(S, S) uint8, the person's matte on the canvas."""
        inner = _inner(self.canvas.size)
        return _shrunk(np.ascontiguousarray(self.person[inner, inner, 3]), self.canvas.size)


def prepare(
    photo: Image,
    landmarks: Floats,
    coarse_matte: Floats,
    basis: FaceBasis,
    size: int = 512,
    pinned: bool = False,
) -> Portrait:
    """Cut a photo into layers and fit the face.

    Args:
        photo: (H, W, 3) uint8 RGB.
        landmarks: (478, 3) float32 in photo pixels.
        coarse_matte: (H, W) float32 in 0..1, the person.
        basis: the face model.
        size: side of the moving square in pixels, a multiple of 8.
        pinned: let motion die out at every border, so that the canvas fits back into the photo
            (see :func:`sfumato.render.renderer.paste`). Where the photo itself ends, at the bottom
            or a side, it always does: what lies beyond is not known. At the top hair may move in.
    """
    heights = _PINNED_FACE_HEIGHTS if pinned else _FACE_HEIGHTS
    crop = _choose_crop(photo.shape, landmarks, heights)
    canvas = _cut_canvas(photo, landmarks, crop, size)
    latents = basis.fit(canvas.landmarks)
    canvas, latents = _with_openings(canvas, latents)
    _, below, left, right = _pads(photo.shape, crop)
    density_one = size + 2 * size // _MARGIN
    wide = _shrunk(canvas.texture, density_one)
    coarse = _cut(coarse_matte, crop, density_one, cv2.BORDER_REPLICATE)
    alpha = matte.refine(wide, coarse, _face_core(canvas, density_one))
    alpha, everyone = _continued(alpha, _pads_in(photo.shape, crop, density_one))
    behind = background.fill(wide, everyone, coarse)
    front = matte.foreground(wide, alpha, behind)
    margin = size // _MARGIN
    inner = slice(margin, margin + size)
    eyes = prepare_eyes(canvas.image, canvas.landmarks)
    in_texture = canvas.to_texture(canvas.landmarks[:, :2])
    person = _premultiplied(canvas.texture, front - wide, alpha)
    return Portrait(
        canvas=canvas,
        latents=latents,
        person=person,
        background=np.ascontiguousarray(behind[inner, inner]),
        mesh=skin.build(canvas.landmarks, size, margin),
        eyes=eyes,
        lids=prepare_lids(canvas.texture, person[..., 3], in_texture, eyes),
        mouth=prepare_mouth(canvas.image, canvas.landmarks),
        pinned=(
            pinned and crop[1] > 0,
            pinned or below > 0,
            pinned or left > 0,
            pinned or right > 0,
        ),
    )


def _choose_crop(shape: tuple[int, ...], landmarks: Floats, heights: float) -> tuple[int, int, int]:
    """Left, top and side (a multiple of 8) of a canvas some face heights wide, photo pixels."""
    face = landmarks[: topology.N_FACE]
    height = float(np.linalg.norm(face[10] - face[topology.CHIN]))
    room = max(_LEAST_FACE_HEIGHTS * height, min(shape[:2]))
    side = 8 * max(8, round(min(heights * height, room) / 8))
    corner = []
    for axis, extent in ((0, shape[1]), (1, shape[0])):
        ideal = (face[:, axis].min() + face[:, axis].max() - side) / 2 - axis * _RAISED * height
        # Rather off centre than beyond the photo, within reason.
        inside = np.clip(ideal, min(0, extent - side), max(0, extent - side))
        corner.append(round(ideal + float(np.clip(inside - ideal, -0.2 * side, 0.2 * side))))
    # No thin strip of photo above the canvas: nothing there could follow the hair.
    top = 0 if 0 < corner[1] < 0.04 * side else corner[1]
    return corner[0], top, side


def _with_openings(canvas: Canvas, latents: Latents) -> tuple[Canvas, Latents]:
    """Eyes where the picture shows them: what is unusual belongs to the person."""
    landmarks = fit_openings(canvas.image, canvas.landmarks).astype(np.float32)
    pose = latents.pose
    turn = rotation.matrix(pose.yaw, pose.pitch, pose.roll)
    moved = (landmarks - canvas.landmarks) @ turn / pose.scale
    # Irises are placed from the middles of the eyes, which moved too.
    for iris, middle in zip(
        (topology.LEFT_IRIS, topology.RIGHT_IRIS), contact.eye_middles(moved), strict=True
    ):
        moved[list(iris)] -= middle
    residual = (latents.residual + moved).astype(np.float32)
    return replace(canvas, landmarks=landmarks), replace(latents, residual=residual)


def _cut_canvas(photo: Image, landmarks: Floats, crop: tuple[int, int, int], size: int) -> Canvas:
    left, top, side = crop
    scale, reach = size / side, _reach(size)
    texture = _soften_beyond(
        _cut(photo, crop, reach, cv2.BORDER_REFLECT_101), _pads_in(photo.shape, crop, reach)
    )
    inner = _inner(size)
    points = landmarks * np.float32(scale)
    points[:, :2] += np.array([(0.5 - corner) * scale - 0.5 for corner in (left, top)], np.float32)
    return Canvas(
        image=_shrunk(texture[inner, inner], size),
        texture=_calmed(texture) if side > DENSITY * size else texture,
        crop=crop,
        landmarks=points.astype(np.float32),
    )


def _reach(size: int) -> int:
    """Side of the texture of a canvas of ``size``, its margin included."""
    return DENSITY * (size + 2 * size // _MARGIN)


def _inner(size: int) -> slice:
    """Rows, or columns, of the texture that are the canvas."""
    margin = DENSITY * size // _MARGIN
    return slice(margin, margin + DENSITY * size)


def _cut(picture: Pixels, crop: tuple[int, int, int], side: int, border: int) -> Pixels:
    """The crop with its margin, ``side`` pixels wide, continued beyond the photo's edge."""
    pads, part = _pads(picture.shape, crop), crop[2] // _MARGIN
    left, top, full = crop[0] - part, crop[1] - part, crop[2] + 2 * part
    inside = picture[max(top, 0) : max(top + full, 0), max(left, 0) : max(left + full, 0)]
    whole = cv2.copyMakeBorder(inside, *pads, border)
    method = cv2.INTER_AREA if full > side else cv2.INTER_LANCZOS4
    result = cv2.resize(whole, (side, side), interpolation=method)
    return result.astype(picture.dtype, copy=False)


def _calmed(texture: Image) -> Image:
    """Damp detail finer than the output can show; it would shimmer as the head moves.

    With this blur the sharpness of a moving picture with natural detail swings by +-11 % around
    the photo's own, without it by +-16 % above it.
    """
    return cv2.GaussianBlur(texture, (0, 0), 0.5).astype(np.uint8, copy=False)


def _shrunk(picture: Image, side: int) -> Image:
    result = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return result.astype(np.uint8, copy=False)


def _pads(shape: tuple[int, ...], crop: tuple[int, int, int]) -> Pads:
    """How far the crop with its margin lies beyond the photo: top, bottom, left, right."""
    left, top, extent = crop
    part = extent // _MARGIN
    return (
        max(part - top, 0),
        max(top + extent + part - shape[0], 0),
        max(part - left, 0),
        max(left + extent + part - shape[1], 0),
    )


def _pads_in(shape: tuple[int, ...], crop: tuple[int, int, int], side: int) -> Pads:
    """The same in pixels of the crop with its margin, when that is ``side`` pixels wide."""
    full = crop[2] + 2 * (crop[2] // _MARGIN)
    top, bottom, left, right = (round(pad * side / full) for pad in _pads(shape, crop))
    return top, bottom, left, right


def _continued(alpha: Floats, pads: Pads) -> tuple[Floats, Floats]:
    """The matte without and with what was mirrored beyond the photo.

    There is no second person there, but in the picture that the background is filled from there
    is. Only who is clearly cut off by the photo's edge goes on beyond it.
    """
    side = alpha.shape[0]
    top, bottom, left, right = pads
    inside = alpha[top : side - bottom, left : side - right]
    cut_off = cv2.erode(inside, np.ones((2 * (side // 50) + 1,) * 2, np.uint8))
    single = cv2.copyMakeBorder(cut_off, *pads, cv2.BORDER_REPLICATE).astype(np.float32)
    single[top : side - bottom, left : side - right] = inside
    double = cv2.copyMakeBorder(inside, *pads, cv2.BORDER_REFLECT_101).astype(np.float32)
    return single, np.maximum(single, double)


def _soften_beyond(picture: Image, pads: Pads) -> Image:
    """Blur what was mirrored, more and more away from the photo's edge."""
    if not any(pads):
        return picture
    side = picture.shape[0]
    outside = np.ones((side, side), np.uint8)
    outside[pads[0] : side - pads[1], pads[2] : side - pads[3]] = 0
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, 3) / side
    result: Floats = picture.astype(np.float32)
    for sigma, start in ((0.004, 0.004), (0.012, 0.02), (0.03, 0.05)):
        soft = _blurred(picture, sigma * side)
        part = np.clip((distance - start / 2) / start, 0, 1)[..., None]
        result += part * (soft - result)
    extended: Image = np.clip(result + 0.5, 0, 255).astype(np.uint8)
    return extended


def _blurred(picture: Image, sigma: float) -> Floats:
    """Gaussian blur; a wide one is computed on a smaller picture."""
    shrink = max(1, int(sigma / 4))
    small = _shrunk(picture, picture.shape[0] // shrink)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return cv2.resize(soft, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _face_core(canvas: Canvas, side: int) -> NDArray[np.bool_]:
    """Pixels well inside the face oval, on the canvas with its margin."""
    oval = canvas.landmarks[list(topology.FACE_OVAL), :2]
    inner = oval.mean(axis=0) + 0.92 * (oval - oval.mean(axis=0)) + canvas.size / _MARGIN
    core = np.zeros((side, side), np.uint8)
    cv2.fillPoly(core, [np.round(inner).astype(np.int32)], 1)
    return core > 0


def _premultiplied(texture: Image, correction: Floats, alpha: Floats) -> Image:
    """RGBA texture of the person; the colour correction and matte come at half its density."""
    size = texture.shape[1::-1]
    grown = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
    colour = texture + cv2.resize(correction, size, interpolation=cv2.INTER_LINEAR)
    colour = np.clip(colour, 0, 255) * grown[..., None]
    return np.dstack([colour + 0.5, grown * 255 + 0.5]).astype(np.uint8)
