"""The motion of a person in a video, for re-enactment by any photo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice, tee
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import NoFaceError
from sfumato.interior import InteriorAxes, look
from sfumato.landmarks import Face, FaceEncoder
from sfumato.latent import FaceBasis, Motion
from sfumato.media.video import VideoReader
from sfumato.render.light import Light
from sfumato.render.portrait import prepare
from sfumato.render.skinmeter import SkinMeter, calmest, faces_in
from sfumato.render.slide import Slide

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Progress = Callable[[int, "int | None"], None]

_SIZE = 512  # side of the canvas on which skin and light are measured
_LENT = np.float32(2.5)  # standard deviations within which another face takes it over


def follow(
    video: str | Path,
    encoder: FaceEncoder,
    basis: FaceBasis,
    usual: tuple[Slide, Light],
    threads: int = 1,
    progress: Progress | None = None,
) -> Motion:
    """What the person in a video does: landmarks, what is seen between the lips, skin and light.

    The video is read twice: drawn from its calmest frame, all others tell what skin and light do.
    Memory grows by 7 kB a frame: a person's rest pose and neutral face are only known at the end.

    Args:
        usual: what skin and light usually do.
        threads: cores that may be used.
        progress: called with frames done and, of both readings, frames in all or None.

    Raises:
        InputError: The file has no picture.
        NoFaceError: No face is found in it.
    """
    tracks, looks = [], []
    with VideoReader(video) as reader:
        images, seen = tee(reader)
        for image, landmarks in zip(seen, encoder.follow(images), strict=True):
            tracks.append(landmarks)
            looks.append(look(image, landmarks))
            if progress is not None:
                progress(len(tracks), reader.frames and 2 * reader.frames)
    points = np.array(tracks)
    if not np.isfinite(points).any():
        raise NoFaceError(f"{video}: no face found in the video")
    motion = basis.fit_clip(points)[1]
    calm = calmest(motion, faces_in(points))
    with VideoReader(video) as reader:
        photo = next(islice(reader, calm, None))
    matte = encoder.matte(photo, Face(points[calm], 1.0))
    portrait = prepare(photo, points[calm], matte, basis, _SIZE)
    meter = SkinMeter(portrait, basis, *usual, photo.shape)
    skin, light = _measured(video, meter, points, threads, progress)
    return replace(motion, interior=InteriorAxes.load().codes(looks), skin=skin, light=light)


def _measured(
    video: str | Path, meter: SkinMeter, points: Floats, threads: int, progress: Progress | None
) -> list[NDArray[np.float32]]:
    """Skin and light of all frames, around what they usually do in this video.

    Where the one frame that serves as a photo lies is no part of a motion, and what is far from
    usual (a beard, a shadow that wanders) is this person's more than a motion for others.
    """

    def shown(pictures: Iterable[Image]) -> Iterator[Image]:
        for done, picture in enumerate(pictures, len(points) + 1):
            yield picture
            if progress is not None:
                progress(done, 2 * len(points))

    with VideoReader(video) as reader:
        found = meter.follow(shown(reader), points, threads)
    seen = faces_in(points)
    for numbers in found:
        around = numbers[seen] - np.median(numbers[seen], axis=0)
        numbers[seen] = _LENT * np.tanh(around / _LENT)
    return list(found)
