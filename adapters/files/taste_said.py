"""What a taste file says of itself in its header; `taste_file.py` lists all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import FileFormatError
from ..taste import Accuracy
from .container import header_of, read_metadata, read_number, require_format

__all__ = ["ACCURACY", "FORMAT", "VERSION", "WHAT", "TasteFile", "said_of"]

FORMAT = "palate.taste"
VERSION = 1
WHAT = "a taste that Palate saved"
ACCURACY = {  # key in the file: attribute of Accuracy
    "accuracy": "share",
    "accuracy_low": "low",
    "accuracy_high": "high",
    "accuracy_answers": "predicted",
}


@dataclass(frozen=True)
class TasteFile:
    """What a taste file says of itself, read without its numbers.

    Attributes:
        version: of the format. encoder, encoder_name, base, person, answers, prior_variance, created: as in `Taste`.
        accuracy, author, licence: as in `Taste`.
        width: D. size: of the file in bytes.
    """

    version: int
    encoder: str
    encoder_name: str
    base: str
    person: str
    answers: int
    prior_variance: float
    created: str
    width: int
    size: int
    accuracy: Accuracy | None = None
    author: str = ""
    licence: str = ""


def said_of(file: Path, data: bytes) -> TasteFile:
    """What the bytes of a taste file say of it.

    Raises:
        FileFormatError: they are no taste's, or say what makes no sense.
    """
    metadata = read_metadata(file.name, data, WHAT)
    version = require_format(file.name, metadata, FORMAT, VERSION, WHAT)
    if not metadata.get("encoder"):
        raise FileFormatError(f"Cannot read {file.name!r}: it doesn't say which encoder it belongs to.")
    variance = read_number(file.name, metadata, "prior_variance", float, lowest=0.0)
    if variance == 0.0:
        raise FileFormatError(f"Cannot read {file.name!r}: its 'prior_variance' is 0; expected a number above 0.")
    return TasteFile(
        version=version,
        encoder=metadata["encoder"],
        encoder_name=metadata.get("encoder_name", ""),
        base=metadata.get("base", ""),
        person=metadata.get("person", ""),
        answers=int(read_number(file.name, metadata, "answers", int, lowest=0)),
        prior_variance=variance,
        created=metadata.get("created", ""),
        width=_width(file.name, data),
        size=len(data),
        accuracy=_accuracy(file.name, metadata),
        author=metadata.get("author", ""),
        licence=metadata.get("licence", ""),
    )


def _accuracy(name: str, metadata: dict[str, str]) -> Accuracy | None:
    if "accuracy" not in metadata:
        return None
    share, low, high = (read_number(name, metadata, key, float, lowest=0.0) for key in list(ACCURACY)[:3])
    if not low <= share <= high <= 1.0:
        raise FileFormatError(
            f"Cannot read {name!r}: its accuracy is {share:g} in {low:g} to {high:g}; expected shares in that order. "
            "Save the taste again."
        )
    return Accuracy(share, low, high, int(read_number(name, metadata, "accuracy_answers", int, lowest=1)))


def _width(name: str, data: bytes) -> int:
    """D as the header has it."""
    shape = header_of(name, data, WHAT).shapes.get("weights")
    if shape is None or len(shape) != 1 or shape[0] < 1:
        found = None if shape is None else list(shape)
        raise FileFormatError(
            f"Cannot read {name!r}: its 'weights' have shape {found}; expected (D,) with at least one number."
        )
    return shape[0]
