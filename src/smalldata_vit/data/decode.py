"""One decoder for all image files, and one policy for what the formats leave open. RGB, 8 bits, whatever the file is.

- EXIF orientation is applied; an EXIF block that cannot be read counts as none.
- 16-bit values are scaled by the range of the type (0..65535), 12 bits stored in 16 therefore stay dark.
- Floating-point values are taken as 0..1; others are an error, because nobody knows their range.
- Transparent pixels are composited on `BACKGROUND`.
- Of an animation, or a file with several pictures, the first is taken.
- A cut-off or damaged file is an error, and so is one whose header claims more than `MOST_PIXELS`. A flipped byte that
  leaves a JPEG decodable cannot be noticed without checksums.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

POLICY = 1
"""Version of all rules above; images decoded under another one are decoded again."""
BACKGROUND = (255, 255, 255)
"""What is seen through transparent pixels: white, the paper that most such pictures were made for."""
MOST_PIXELS = 50_000_000
"""In one image, by its header, before anything is allocated."""
ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "tif", "tiff", "gif", "ppm", "pgm", "pbm", "pnm"),
        *("ico", "avif", "jp2", "j2k", "mpo"),
    )
)
"""Files that are read as images, by the end of their names in lower case."""

_ORIENTATION = 0x0112
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = frozenset({5, 6, 7, 8})
"""Orientations that exchange height and width."""


class BadImage(ValueError):
    """A file that is no usable image; says which and why."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


def readable(name: str) -> str:
    """A file's name with bytes that are no text written as escapes, so that every log and record can hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def decode(path: Path) -> np.ndarray:
    """The file as uint8 (height, width, 3); BadImage if it cannot be read whole."""
    with _opened(path) as image:
        image.load()
        return to_rgb(_upright(image), readable(str(path)))


def decode_scaled(path: Path, shorter_side: int) -> np.ndarray:
    """`shrunk(decode(path), shorter_side)`; of JPEG files only as many frequencies are decoded as that size needs.

    The decoder hands over 1/2, 1/4 or 1/8 of the size, never less than is asked for, and the rest of the way is an
    antialiased resize; so it is several times faster. The size is the same. Of 255 levels, photographs at a half to a
    quarter of their size differ by 0.5 to 1.5 on average (the most detailed of 240 by 5), black and white drawings by
    up to 13.
    """
    with _opened(path) as image:
        width, height = image.size
        tall, wide = shrunk_size(height, width, shorter_side)
        reduced = image.draft(image.mode, (wide, tall)) if image.format == "JPEG" else None
        image.load()
        if reduced is None:
            return shrunk(to_rgb(_upright(image), readable(str(path))), shorter_side)
        picture = Image.fromarray(to_rgb(image, readable(str(path))))
        small = picture.resize((wide, tall), Image.Resampling.BICUBIC, box=reduced[1])
        return np.array(_turned(small, _orientation(image)))


def header_size(path: Path) -> tuple[int, int]:
    """Height and width that `decode` gives, from the file's header alone; BadImage if there is none."""
    with _opened(path) as image:
        width, height = image.size
        # Pillow turns TIFF files itself, and tells their size as it will be.
        lying = image.format != "TIFF" and _orientation(image) in _LYING
        return (width, height) if lying else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file, with its header read; whatever goes wrong until it is closed is a BadImage."""
    name = readable(str(path))
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise BadImage(name, f"{width} x {height} pixels by its header, more than {MOST_PIXELS:,}")
            yield image
    except BadImage:
        raise
    # Pillow's plug-ins raise whatever their parsing runs into; all of it means that this file is no image.
    except Exception as error:
        raise BadImage(name, _reason(error, path)) from error


def to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """An image in any of Pillow's modes as uint8 (height, width, 3); `name` is for the message of BadImage."""
    if image.mode == "F":
        return _grey(_unit_range(np.asarray(image), name), None)
    if image.mode == "I" or image.mode.startswith("I;"):
        return _grey(*_sixteen_bits(image, name))
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        below = Image.new("RGBA", whole.size, (*BACKGROUND, 255))
        return np.array(Image.alpha_composite(below, whole).convert("RGB"))
    return np.array(image.convert("RGB"))


def shrunk(picture: np.ndarray, shorter_side: int) -> np.ndarray:
    """The picture with at most this many pixels on its shorter side, antialiased; itself when it has no more."""
    height, width = shrunk_size(picture.shape[0], picture.shape[1], shorter_side)
    if (height, width) == picture.shape[:2]:
        return picture
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def shrunk_size(height: int, width: int, shorter_side: int) -> tuple[int, int]:
    """Height and width of a picture that has at most this many pixels on its shorter side."""
    if min(height, width) <= shorter_side:
        return height, width
    scale = shorter_side / min(height, width)
    return max(round(height * scale), shorter_side), max(round(width * scale), shorter_side)


def _upright(image: Image.Image) -> Image.Image:
    return _turned(image, _orientation(image))


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURN.get(orientation)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    # A broken block raises many kinds of errors; the picture beside it is sound.
    except Exception:
        return 1


def _sixteen_bits(image: Image.Image, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise BadImage(name, f"integers from {low} to {high}: only 0..65535 has a known meaning")
    through = image.info.get("transparency")
    hidden = values == through if isinstance(through, int) else None
    return np.rint(values / 257).astype(np.uint8), hidden


def _unit_range(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise BadImage(name, "floating-point values that are not finite")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise BadImage(name, f"floating-point values from {low:g} to {high:g}: only 0..1 has a known meaning")
    return np.rint(values * 255).astype(np.uint8)


def _grey(values: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    picture = np.repeat(values[:, :, None], 3, axis=2)
    if hidden is not None:
        picture[hidden] = BACKGROUND
    return picture


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to a file that is not there"
    if isinstance(error, PermissionError):
        return "it may not be read"
    if isinstance(error, UnidentifiedImageError):
        return "an empty file" if path.stat().st_size == 0 else "no image format that is known"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {MOST_PIXELS:,} pixels by its header"
    return f"{error} ({type(error).__name__})" if str(error) else type(error).__name__
