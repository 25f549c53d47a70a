"""Photos in and pictures out, always as RGB with the head up.

Pillow reads what cameras, phones, scanners and browsers write; what it does not know (HEIC, EXR,
DPX and the like) is tried with ffmpeg. Sizes are checked in the header, before any pixel is
decoded, so that a small file cannot fill the memory.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from sfumato.errors import InputError
from sfumato.media.files import check_output, one_line, output_errors, replacing, require_file
from sfumato.media.formats import self_contained

Pixels = NDArray[np.uint8]

MAX_PIXELS = 80_000_000
MAX_BYTES = 300_000_000
_JPEG = 88  # quality of what the server sends
BACKDROP = (224, 224, 224)  # what shows through a transparent photo: a light neutral wall
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
# What Pillow may read: pictures that it decodes itself. Left out are those that start a program
# (EPS runs Ghostscript, which a stranger's file may keep busy for ever), are drawn by the system
# (WMF), hold a file of any kind (IPTC) or are only recognised (BUFR, GRIB, HDF5, MPEG).
_USUAL = ("BMP", "DIB", "GIF", "JPEG", "PPM", "PNG")
# fmt: off
_RARE = (
    "AVIF", "BLP", "CUR", "PCX", "DCX", "DDS", "FITS", "FLI", "FTEX", "GBR", "JPEG2000", "ICNS",
    "ICO", "IM", "IMT", "MCIDAS", "TIFF", "MSP", "PCD", "PIXAR", "PSD", "QOI", "SGI", "SPIDER",
    "SUN", "TGA", "WEBP", "XBM", "XPM", "XVTHUMB",
)
# fmt: on


def load_image(path: str | Path) -> Pixels:
    """Read a photo.

    EXIF rotation is applied, colours are brought to sRGB, alpha lies over a light grey, 16 bits
    become 8, and of an animation the first picture is taken.

    Args:
        path: Any picture that Pillow or ffmpeg reads without another program.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        InputError: Missing, unreadable, empty, broken, or more than 80 megapixels.
    """
    path = require_file(path, "photo")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has more than 300 MB: save the photo smaller.")
    return _decoded(path, str(path), MAX_PIXELS)


def decode_image(data: bytes, name: str = "the photo", pixels: int = MAX_PIXELS) -> Pixels:
    """The same for a photo whose file was read already.

    Args:
        data: content of the file.
        name: what errors call it.
        pixels: that it may have at most.

    Raises:
        InputError: Unreadable, empty, broken, or too many pixels.
    """
    return _decoded(io.BytesIO(data), name, pixels)


def jpeg(image: Pixels) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG file, as the server sends pictures."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG])[1].tobytes()


def save_image(
    path: str | Path,
    image: Pixels,
    *,
    force: bool = False,
    finish: Callable[[Path], None] | None = None,
) -> Path:
    """Write a picture, complete or not at all.

    Args:
        path: Ends in .png (lossless) or .jpg.
        image: (H, W, 3) uint8 RGB.
        force: Whether an existing file may be replaced.
        finish: Called with the finished file before it gets its name: the place to sign.

    Raises:
        OutputError: The place cannot be written, or is taken and ``force`` is off.
    """
    target = check_output(path, force, PICTURE_SUFFIXES)
    with replacing(target) as partial:
        with output_errors(target):
            Image.fromarray(image).save(partial, quality=95, subsampling=0)
        if finish is not None:
            finish(partial)
    return target


def _decoded(source: Path | io.BytesIO, name: str, pixels: int) -> Pixels:
    # Pillow's many parsers raise whatever they trip over, so everything counts as a broken file.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns where we refuse or do not mind
            image = _opened(source)
    except Image.DecompressionBombError:
        raise _too_large(name, pixels) from None
    except UnidentifiedImageError:
        return _load_with_ffmpeg(source, name, pixels)
    except Exception as error:
        raise _broken(name, error) from None
    with image:
        if image.width * image.height > pixels:
            raise _too_large(name, pixels)
        try:
            return np.array(_upright_rgb(image), dtype=np.uint8)
        except Exception as error:
            raise _broken(name, error) from None


def _opened(source: Path | io.BytesIO) -> Image.Image:
    """The picture, its pixels not decoded yet."""
    Image.preinit()
    try:
        return Image.open(source, formats=_USUAL)
    except UnidentifiedImageError:
        Image.init()  # loads all parsers, which takes a tenth of a second
        return Image.open(source, formats=[name for name in _RARE if name in Image.OPEN])


def _upright_rgb(image: Image.Image) -> Image.Image:
    icc = image.info.get("icc_profile")
    with contextlib.suppress(SyntaxError, ValueError):  # broken EXIF is worth no refusal
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if not image.has_transparency_data:
        return _to_srgb(image, icc)
    image = image.convert("RGBA")
    backdrop = Image.new("RGB", image.size, BACKDROP)
    backdrop.paste(_to_srgb(image.convert("RGB"), icc), mask=image.getchannel("A"))
    return backdrop


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Through the embedded profile (wide-gamut phones, CMYK scans), else by Pillow's formulas."""
    if icc and image.mode in {"RGB", "CMYK", "L"}:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(
                image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that is broken or of another colour space is worth no refusal
        else:
            if converted is not None:
                return converted
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """16 bit, 32 bit or float grey to 8 bit; Pillow's own conversion would clip at 255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = 65535.0 if image.mode.startswith("I") else 1.0
    top = max(top, float(values.max(initial=0.0)))
    grey = np.clip(values * (255.0 / top) + 0.5, 0.0, 255.0).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _load_with_ffmpeg(source: Path | io.BytesIO, name: str, pixels: int) -> Pixels:
    if isinstance(source, io.BytesIO):
        source.seek(0)
    file = f"file:{source}" if isinstance(source, Path) else source
    try:
        with av.open(file, "r", metadata_errors="ignore", options=self_contained()) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > pixels:
                raise _too_large(name, pixels)
            if (container.duration or 0) > av.time_base / 10:
                raise InputError(f"{name} is a video: save one picture of it as the photo.")
            if len(container.streams.video) > 1:  # phones cut HEIC pictures into tiles
                raise InputError(f"{name} is a picture in tiles: save it as PNG or JPEG.")
            frame = next(container.decode(stream))
    except (av.error.FFmpegError, IndexError, StopIteration, ValueError):
        raise InputError(
            f"{name} is no picture that can be read, or it is broken: save it as PNG or JPEG."
        ) from None
    turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    return np.ascontiguousarray(turned)


def _too_large(name: str, pixels: int) -> InputError:
    return InputError(f"{name} has more than {pixels // 10**6} megapixels: scale it down.")


def _broken(name: str, error: Exception) -> InputError:
    reason = one_line(error, 80) or type(error).__name__
    return InputError(f"{name} is broken ({reason}): copy or save the photo again.")
