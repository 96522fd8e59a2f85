"""Any picture that a person or a host has, turned into plain 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..errors import ImageError

__all__ = ["MAX_PIXELS", "as_float32", "encode_png", "pixel_hash", "read_image"]

logger = logging.getLogger(__name__)

MAX_PIXELS = 64 * 1024 * 1024  # 8192 x 8192: 192 MiB as RGB
# Resampling overshoots [0, 1] a little and is clipped; [-1, 1] and [0, 255] are other ranges, and mistakes here.
_OVERSHOOT = 0.5
# Pillow opens more kinds by their content, whatever the name says; its EPS reader starts Ghostscript on the file.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")


def read_image(source: Any) -> Image.Image:
    """Return the picture as an RGB image of its own, upright, first frame, transparency over white.

    Args:
        source: A PIL image of any mode, a path, an (H, W, 3) array or tensor of floats in
            [0, 1], or a uint8 numpy array.

    Raises:
        ImageError: missing, broken, truncated, empty, more than `MAX_PIXELS`, NaN, or another shape or range.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if isinstance(source, Image.Image):
        return _to_rgb(source, "the picture")
    return _from_array(source)


def encode_png(image: Image.Image) -> bytes:
    """Return an RGB image as a PNG file without any metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)  # a third of the time of 6 for a few per cent more bytes
    return buffer.getvalue()


def pixel_hash(image: Image.Image) -> str:
    """Return a hash of size and pixels, which no version of a PNG encoder can change."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def as_float32(values: Any) -> npt.NDArray[np.float32]:
    """Return numbers from numpy, lists, or a torch tensor on any device, as a float32 array on the CPU."""
    torch = sys.modules.get("torch")  # where torch was never imported, nothing is a tensor
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float32)


def _read_file(path: Path) -> Image.Image:
    try:
        if not path.is_file() and path.exists():  # reading a pipe or a device may never end
            raise ImageError(f"Cannot read {path}: it is no file; expected a picture. Pick another.")
        Image.init()
        with Image.open(path, formats=[kind for kind in _FORMATS if kind in Image.OPEN]) as image:
            return _to_rgb(image, str(path))
    except FileNotFoundError:
        raise ImageError(f"Cannot read {path}: there is no such file; expected a picture. Check the path.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(_too_large(str(path), str(error))) from error
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(_unreadable(str(path), error)) from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(name, f"it has {width} x {height} pixels"))
    if width == 0 or height == 0:
        raise ImageError(f"Cannot use {name}: it is {width} x {height}; expected at least one pixel. Pick another.")
    try:
        if getattr(image, "is_animated", False):
            image.seek(0)
        image.load()
        rgb = _mode_to_rgb(_upright(image))
        # A copy of nothing but the pixels: no profile, no text, no link to an open file.
        return Image.frombytes("RGB", rgb.size, rgb.tobytes())
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders meet broken files with almost any exception
        raise ImageError(_unreadable(name, error)) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image) or image
    except Exception as error:  # broken EXIF says nothing about the pixels
        logger.info("EXIF orientation ignored: %s", error)
        return image


def _mode_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_rgb(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _deep_to_rgb(image: Image.Image) -> Image.Image:
    """Turn 16-bit, 32-bit and float greys into 8 bits; Pillow itself would clip them at 255."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ImageError("Cannot use the picture: it holds NaN or infinity; expected finite values. Export it again.")
    highest = float(values.max())
    if image.mode == "F":
        scale = 255.0 if highest <= 1.0 else 1.0
    else:
        # Mode I is how Pillow opens many 16-bit files; 32-bit greys use their own highest value as white.
        scale = 255.0 / max(65535.0, highest) if highest > 255 or image.mode != "I" else 1.0
    grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _from_array(source: Any) -> Image.Image:
    values: npt.NDArray[Any]
    values = source if isinstance(source, np.ndarray) and source.dtype == np.uint8 else _floats(source)
    if values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
        raise ImageError(
            f"Cannot use the picture: its shape is {tuple(values.shape)}; expected (height, width, 3). "
            "Pass one image of a batch at a time."
        )
    if values.shape[0] * values.shape[1] > MAX_PIXELS:
        raise ImageError(_too_large("the picture", f"it has {values.shape[1]} x {values.shape[0]} pixels"))
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # also true for NaN
            found = "it holds NaN" if np.isnan(values).any() else f"its values go from {low:g} to {high:g}"
            raise ImageError(f"Cannot use the picture: {found}; expected values in [0, 1]. Scale it first.")
        values = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(values))


def _floats(source: Any) -> npt.NDArray[np.float32]:
    try:
        return as_float32(source)
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"Cannot use the picture: found {type(source).__name__}; expected a PIL image, a path, "
            "or an (H, W, 3) array in [0, 1]."
        ) from error


def _too_large(name: str, found: str) -> str:
    return f"Cannot use {name}: {found}; expected at most {MAX_PIXELS} pixels (8192 x 8192). Make it smaller first."


def _unreadable(name: str, error: Exception) -> str:
    reason = str(error) or type(error).__name__
    return f"Cannot read {name}: {reason}; expected a whole picture (PNG, JPEG, WebP). Save it again, or pick another."
