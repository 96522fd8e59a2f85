"""`palate rank`: a folder of pictures in the order of a taste, without a browser."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import ImageError
from ..adapters.places import typed_path
from .tastes import TasteCommandError, taste_of, taste_options
from .terminal import progress_line

if TYPE_CHECKING:
    from ..adapters.taste import Taste

__all__ = ["PICTURES", "add_rank_command", "rank"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
_AT_A_TIME = 16  # pictures in memory


def add_rank_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add `palate rank` to the parser of the command line."""
    rank = commands.add_parser("rank", help="a folder of pictures, best first")
    rank.add_argument("folder", metavar="FOLDER", help="of pictures; folders in it are left alone")
    taste_options(rank, store_option)


def rank(arguments: argparse.Namespace, store: Path) -> int:
    """Print a folder's pictures, best first.

    Raises:
        TasteCommandError: no such folder, or no picture in it.
        EncoderMismatchError: the taste was learned with another encoder.
    """
    files = _pictures(typed_path(arguments.folder))
    encoder, taste = taste_of(arguments, store)
    found, lost = _rated(files, encoder, taste)
    found.sort(key=lambda one: -one[1])
    if arguments.json:
        ranked = [{"file": str(file), "utility": round(utility, 6)} for file, utility in found]
        print(json.dumps({"person": taste.person, "ranked": ranked, "unreadable": [str(file) for file in lost]}))
        return 0
    for file, utility in found:
        print(f"{utility:+9.3f}  {file}")
    for file in lost:
        print(f"palate: {file} can't be read as a picture; left out.", file=sys.stderr)
    return 0


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TasteCommandError(f"Cannot rank {str(folder)!r}: found no such folder; expected one with pictures in it.")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
    if not files:
        raise TasteCommandError(f"Cannot rank {str(folder)!r}: found no picture; expected {', '.join(PICTURES)}.")
    return files


def _rated(files: Sequence[Path], encoder: Any, taste: Taste) -> tuple[list[tuple[Path, float]], list[Path]]:
    """Pictures with their utility in nats, and those that can't be read."""
    from ..adapters.comparisons.images import read_image

    tell = progress_line("Looking at pictures", sys.stderr)
    found: list[tuple[Path, float]] = []
    lost: list[Path] = []
    for start in range(0, len(files), _AT_A_TIME):
        read = []
        for file in files[start : start + _AT_A_TIME]:
            try:
                read.append((file, read_image(file)))
            except ImageError:
                lost.append(file)
        if read:
            utilities = taste.utility(encoder.encode_images([image for _, image in read])).tolist()
            found += [(file, utility) for (file, _), utility in zip(read, utilities, strict=True)]
        if tell is not None:
            tell(min(start + _AT_A_TIME, len(files)), len(files))
    return found, lost
