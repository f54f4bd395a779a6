"""From stored bytes or arrays to RGB pixels of one size.

Pure functions over PIL and NumPy. The resize is the one that timm evaluates with
(``timm.data.transforms_factory.transforms_imagenet_eval``, crop mode ``center``).
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from zoo_search.core.foreign.jpeg import MOST_SCANS, scans
from zoo_search.data.view import Size, View

Raw = bytes | np.ndarray | Image.Image
"""What a reader hands over: a file's bytes, an array [H, W], [H, W, C], or a PIL image."""
Pixels = npt.NDArray[np.uint8]

Range = tuple[float, float]
"""Stored values that are black and white."""

MAX_PIXELS = 100_000_000
"""Of a stored image, unless ``dataset.max_pixels`` says otherwise: a file of a few kilobytes can
ask for gigabytes."""

_FORMATS = (
    "PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA",
)  # fmt: skip
# By PIL's names: what the endings of image files promise (``sources.folder.EXTENSIONS``). PIL knows
# thirty more; some start other programs (EPS), others are read by nobody who looks for mistakes.

_LONGEST_SIDE = 1_000_000
_BAND = 2**22  # pixels that are made RGB at a time
_LONGEST = 16  # a strip is cut to this many times its short side before it is enlarged


class DecodeError(Exception):
    """The bytes are no image that can be decoded; the message gives the reason."""


def decode(
    raw: Raw, view: View, max_pixels: int = MAX_PIXELS, value_range: Range | None = None
) -> Pixels:
    """Return the pixels of one stored image at one size, ``uint8`` [3, H, W] in RGB.

    It is a file's bytes, an array (``bool``, ``uint8`` or ``uint16``; [H, W] or [H, W, C] with 1, 3
    or 4 channels), or a PIL image. ``value_range``: as for :func:`to_rgb`.

    Raises:
        DecodeError: If the bytes or the array are no image of a known kind, or it has more pixels
            than ``max_pixels``.
    """
    image = resize_crop(to_rgb(raw, max_pixels, value_range), view)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def to_rgb(raw: Raw, max_pixels: int = MAX_PIXELS, value_range: Range | None = None) -> Image.Image:
    """Return an upright PIL image in mode RGB.

    The EXIF orientation is applied. Transparency (RGBA, LA, palettes, tRNS) is composited on
    white. Grey with more than 8 bits is scaled to 0..255 from ``value_range``, by default from the
    full range of 16 bits, 0..65535; 32-bit integers count as 16-bit, which is how PIL stores some
    16-bit files. Images of 8 bits stay as they are. Of an animation the first frame is taken.

    Raises:
        DecodeError: If it cannot be decoded, or has more pixels than ``max_pixels``. Floating-point
            images are refused without a range, because they do not say which value is white;
            colour of 16 bits a channel with one, because its upper 8 bits alone are read.
    """
    try:
        image = _open(raw, max_pixels)
        if value_range is not None and _is_deep_colour(image):
            raise DecodeError(
                "of colour with 16 bits a channel the upper 8 are read, and dataset.value_range "
                "is for grey images; scale such files to 8 bits"
            )
        image.load()
        return _rgb(_upright(image), value_range)
    except DecodeError:
        raise
    except UnidentifiedImageError:
        raise DecodeError("not an image of a known format") from None
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def shrink(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side to ``side`` pixels (bicubic); what is not longer stays as it is."""
    if min(image.size) <= side:
        return image
    return image.resize(_resized(image.size, (side, side), 1.0), Image.Resampling.BICUBIC)


def resize_crop(image: Image.Image, view: View) -> Image.Image:
    """Resize the shorter side to ``size / crop_pct``, then crop the centre to ``size`` (H, W)."""
    image, size = _shorten(image), view.size
    width, height = _resized(image.size, size, view.crop_pct)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[view.interpolation.upper()])
    top, left = round((height - size[0]) / 2.0), round((width - size[1]) / 2.0)
    return image.crop((left, top, left + size[1], top + size[0]))


def _resized(old: tuple[int, int], size: Size, crop_pct: float) -> tuple[int, int]:
    """Return width and height before the crop, rounded as timm and torchvision round them."""
    width, height = old
    scaled = (math.floor(size[0] / crop_pct), math.floor(size[1] / crop_pct))
    if scaled[0] == scaled[1]:
        short = scaled[0]
        if width <= height:
            return short, max(int(short * height / width), size[0])
        return max(int(short * width / height), size[1]), short
    ratio = min(height / scaled[0], width / scaled[1])
    return max(round(width / ratio), size[1]), max(round(height / ratio), size[0])


def _shorten(image: Image.Image) -> Image.Image:
    """Cut the ends off a strip, so that a 1 x 30000 image does not grow to gigabytes."""
    width, height = image.size
    longest = _LONGEST * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that are read, by PIL's names, as far as this PIL knows them."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def check_pixels(image: Image.Image, max_pixels: int) -> None:
    """Refuse a picture by the size that its header says; nothing is decoded yet.

    Raises:
        DecodeError: If it has more pixels than ``max_pixels``, or a side longer than a million:
            each row takes memory of its own.
    """
    width, height = image.size
    if max(width, height) > _LONGEST_SIDE:
        raise DecodeError(f"{width} x {height} pixels have a side of more than {_LONGEST_SIDE:,}")
    if width * height > max_pixels:
        raise DecodeError(
            f"{width} x {height} pixels are more than dataset.max_pixels: {max_pixels:,}"
        )


def check_scans(image: Image.Image, data: bytes) -> None:
    """Refuse a JPEG of few bytes that goes over its pixels thousands of times.

    Raises:
        DecodeError: If it has more than :data:`~zoo_search.core.foreign.jpeg.MOST_SCANS` scans.
    """
    if image.format in ("JPEG", "MPO") and scans(data) > MOST_SCANS:
        raise DecodeError(f"a JPEG of more than {MOST_SCANS} scans")


def _open(raw: Raw, max_pixels: int) -> Image.Image:
    if isinstance(raw, np.ndarray):
        return _from_array(raw)
    if not isinstance(raw, Image.Image):
        if not len(raw):
            raise DecodeError("the file is empty")
        data, raw = raw, Image.open(io.BytesIO(raw), formats=formats())
        check_scans(raw, data)
    check_pixels(raw, max_pixels)
    return raw


def _from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype == np.uint16 and array.ndim == 2:
        return Image.fromarray(np.ascontiguousarray(array))
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shape_ok or 0 in array.shape:
        raise DecodeError(
            f"an array of shape {array.shape} and type {array.dtype} is no image: "
            "[H, W], [H, W, 3] or [H, W, 4] of uint8, or [H, W] of uint16 or bool"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block leaves the image as it lies."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image  # else it would copy
    except Exception:  # the EXIF parser fails in many ways, the pixels are good all the same
        return image


def stored_values(raw: Raw, max_pixels: int = MAX_PIXELS) -> tuple[float, float] | None:
    """Return the least and the largest value of a grey image of more than 8 bits, as it is stored.

    None: it is none, or cannot be decoded.
    """
    try:
        image = _open(raw, max_pixels)
        if not _is_deep(image.mode):
            return None
        values = np.asarray(image)
        return float(np.nanmin(values)), float(np.nanmax(values))
    except Exception:  # decoders raise anything; to_rgb tells what
        return None


def kind_of(raw: Raw, max_pixels: int = MAX_PIXELS) -> str:
    """Return what an image that can be decoded is made of, in words such as ``colour``."""
    image = _open(raw, max_pixels)
    deep = _is_deep(image.mode) or _is_deep_colour(image)
    grey = image.mode in ("1", "L", "LA") or _is_deep(image.mode)
    clear = " with transparency" if image.has_transparency_data else ""
    return f"{'grey' if grey else 'colour'}{clear}{' of more than 8 bits' if deep else ''}"


def _is_deep(mode: str) -> bool:
    return mode in ("I", "F") or mode.startswith("I;16")


def _is_deep_colour(image: Image.Image) -> bool:
    """Say whether a picture that is not loaded yet is colour of which PIL drops the lower bits."""
    tiles = getattr(image, "tile", ())
    return not _is_deep(image.mode) and any(";16" in str(tile[3]) for tile in tiles)


def _rgb(image: Image.Image, value_range: Range | None) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode == "F" and value_range is None:
        raise DecodeError(
            "a floating-point image does not say which value is white; dataset.value_range can"
        )
    if _is_deep(mode):
        return _in_bands(
            image, lambda band: Image.fromarray(_to_8_bit(np.asarray(band), value_range))
        )
    return _in_bands(image, _on_white) if image.has_transparency_data else image.convert("RGB")


def _in_bands(image: Image.Image, made: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return what is made of each pixel as RGB, some rows at a time: on the way it takes memory."""
    whole, rows = Image.new("RGB", image.size), max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        whole.paste(made(image.crop(box)).convert("RGB"), box)
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)


def _to_8_bit(values: npt.NDArray[np.generic], value_range: Range | None) -> Pixels:
    """Scale a range, or 0..65535, to 0..255, rounded to the nearest; what is no number is black."""
    if value_range is None:
        wide = np.clip(values, 0, 65535).astype(np.uint32)
        scaled: Pixels = ((wide + 128) // 257).astype(np.uint8)
        return scaled
    black, white = value_range
    share = np.clip((values.astype(np.float64) - black) / (white - black), 0, 1)
    of_range: Pixels = np.rint(255 * np.nan_to_num(share)).astype(np.uint8)
    return of_range
