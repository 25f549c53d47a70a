"""What a video shows of skin that landmarks do not tell: analysis by synthesis.

One frame of the video serves as a photo and is driven to the others by their landmarks. The
optical flow (DIS, Kroeger et al. 2016) from what is drawn to what was there, read at every vertex
of the mesh, becomes the ``skin`` of the motion: how far along each axis of
:class:`sfumato.render.slide.Slide` the skin lies beside where it usually would.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from sfumato.facefit import blur_in_time, fill_gaps, steady
from sfumato.geometry import topology
from sfumato.geometry.crop import transform
from sfumato.geometry.pose import compose
from sfumato.latent import FaceBasis, Motion, MotionFrame
from sfumato.motionfile import N_SKIN
from sfumato.render.portrait import Portrait
from sfumato.render.renderer import Renderer
from sfumato.render.slide import Slide

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]

MOST = 4.0  # standard deviations
_FLOW_SIDE = 384  # pixels of the canvas, made small
_BLUR = 3.0  # of them: the flow
_FARTHEST = 0.12  # face units: longer flow is a mistake
_of_this_thread = threading.local()
# Face units: error of the flow at a vertex, as if vertices erred each by itself.
_NOISE = 0.01
_TURNED = 0.1  # radians that make a frame as unlike rest as a face in usual motion does
AROUND = 0.1  # weight of a vertex in hair, neck and shoulders


class SkinMeter:
    """Measures the skin in frames of one video. Holds no state that a frame could change.

    Args:
        portrait: made of one of the video's frames.
        slide: where skin usually lies, and the axes; None: nothing is known, flow alone is told.
        shape: (height, width, ...) of the video's pictures.
    """

    def __init__(
        self, portrait: Portrait, basis: FaceBasis, slide: Slide | None, shape: tuple[int, ...]
    ) -> None:
        self._renderer = Renderer(portrait, basis, slide)
        self._basis, self._person = basis, portrait.latents
        self._size, self._matrix = portrait.canvas.size, portrait.canvas.matrix
        whole = np.full(shape[:2], 255, np.uint8)
        self._valid = cv2.warpAffine(whole, self._matrix, (self._size, self._size)) > 254
        self._axes = None if slide is None else slide.axes.reshape(N_SKIN, -1).astype(np.float64)

    def flow(self, picture: Image, motion: MotionFrame) -> Floats:
        """How far skin lies beside where ``motion`` is drawn: (V, 2), face units, upright.

        NaN where the video does not show a vertex.

        Args:
            picture: (H, W, 3) uint8 RGB, a frame of the video.
        """
        drawn = self._renderer.render(motion).image
        side = (self._size, self._size)
        there = cv2.warpAffine(picture, self._matrix, side, flags=cv2.INTER_LINEAR)
        real = np.asarray(np.where(self._valid[..., None], there, drawn), np.uint8)
        zoom = self._size / _FLOW_SIDE
        flow = zoom * _dis().calc(_small_grey(drawn), _small_grey(real), None)  # type: ignore[call-overload]  # stubs want a flow
        flow = cv2.GaussianBlur(flow, (0, 0), _BLUR)
        vertices = self._renderer.vertices(motion)[:, :2]
        at = ((vertices + 0.5) / zoom - 0.5).astype(np.float32)
        moved = cv2.remap(flow, at[None], None, cv2.INTER_LINEAR)[0]  # type: ignore[call-overload]  # stubs want a second map
        moved[~_inside(self._valid, vertices)] = np.nan
        pose = compose(self._person.pose, motion.pose)
        cos, sin = np.cos(pose.roll), np.sin(pose.roll)
        return np.asarray(moved @ np.array([[cos, -sin], [sin, cos]]) / pose.scale)

    def skin(self, picture: Image, motion: MotionFrame) -> NDArray[np.float32]:
        """What the picture shows, (N_SKIN,) standard deviations; ``motion`` is its landmarks'.

        The likeliest numbers where axes vary by a standard deviation and flow errs by ``_NOISE``.
        """
        assert self._axes is not None, "without a slide there are no axes"
        flow = self.flow(picture, motion)
        seen = believed(flow)
        weight = np.where(np.arange(len(flow)) < topology.N_FACE, 1.0, AROUND) * seen / _NOISE**2
        weighted = self._axes * np.repeat(weight, 2)
        left = weighted @ self._axes.T + np.eye(N_SKIN)
        right = weighted @ np.where(seen[:, None], flow, 0.0).ravel()
        return np.asarray(np.clip(np.linalg.solve(left, right), -MOST, MOST), np.float32)

    def follow(
        self, pictures: Iterable[Image], tracks: Floats, threads: int = 1
    ) -> NDArray[np.float32]:
        """:meth:`skin` of frames that follow each other, (T, N_SKIN), smoothed in time.

        Args:
            tracks: (T, 478, 3) landmarks in pixels of the video; where they are NaN, as no face was
                found, the skin lies as usual.
            threads: frames that are measured at the same time.
        """
        seen = faces_in(tracks)
        places = transform(self._matrix, steady(fill_gaps(tracks)))
        motions = (self._basis.fit_frame(self._person, place) for place in places)
        pairs = zip(pictures, motions, strict=True)
        found: list[NDArray[np.float32]] = []
        with ThreadPoolExecutor(threads) as pool:
            while some := list(islice(pairs, threads)):
                found += pool.map(lambda pair: self.skin(*pair), some)
        skin: NDArray[np.float32] = blur_in_time(np.array(found)).astype(np.float32)
        skin[~seen] = 0
        return skin


def faces_in(tracks: Floats) -> NDArray[np.bool_]:
    """Which frames of tracks (T, 478, 3) show a face: (T,)."""
    return np.asarray(np.isfinite(tracks).all(axis=(1, 2)))


def calmest(motion: Motion, seen: NDArray[np.bool_]) -> int:
    """The frame nearest to rest among those that were ``seen`` (T,): it serves as the photo."""
    face = np.square(motion.expression).mean(axis=1)
    turn = np.square(motion.pose[:, :3] / _TURNED).sum(axis=1)
    return int(np.argmin(np.where(seen, face + turn, np.inf)))


def believed(flow: Floats) -> NDArray[np.bool_]:
    """Which vertices of flow (..., V, 2) in face units are seen and not mistaken: (..., V)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.linalg.norm(flow, axis=-1) < _FARTHEST)


def _dis() -> cv2.DISOpticalFlow:
    """One for every thread, kept: its buffers take a third of the time to make."""
    if not hasattr(_of_this_thread, "dis"):
        _of_this_thread.dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found: cv2.DISOpticalFlow = _of_this_thread.dis
    return found


def _small_grey(picture: Image) -> Image:
    small = cv2.resize(picture, (_FLOW_SIDE, _FLOW_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _inside(valid: NDArray[np.bool_], points: Floats) -> NDArray[np.bool_]:
    """Which points (V, 2) lie where ``valid`` (S, S) says yes."""
    at = np.rint(points).astype(int)
    inside = ((at > 1) & (at < len(valid) - 2)).all(axis=1)
    at = np.clip(at, 0, len(valid) - 1)
    return np.asarray(inside & valid[at[:, 1], at[:, 0]])
