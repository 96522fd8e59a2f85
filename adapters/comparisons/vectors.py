"""Cached image vectors in the store: float32 blobs, kept apart by the encoder's identity."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ShapeError
from .images import as_float32

__all__ = ["KnownEncoder", "count_vectors", "first_vectors", "known_encoders", "read_vectors", "write_vectors"]

_BATCH = 500  # ids in one query; SQLite's oldest limit is 999
_ON_DISK = "<f4"


def read_vectors(
    connection: sqlite3.Connection, encoder: str, ids: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return (D,) float32 by image id for those that are cached; a damaged one is as good as none."""
    wanted = list(dict.fromkeys(ids))
    found: dict[str, npt.NDArray[np.float32]] = {}
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        rows = connection.execute(
            "SELECT image, vector, width FROM vectors JOIN encoders ON encoders.id = vectors.encoder "
            f"WHERE identity = ? AND image IN ({', '.join('?' * len(batch))})",
            (encoder, *batch),
        )
        for image, blob, width in rows.fetchall():
            if len(blob) == width * 4:
                # astype copies: an array over the blob itself could not be written to.
                vector = np.frombuffer(blob, _ON_DISK).astype(np.float32)
                if np.isfinite(vector).all():
                    found[image] = vector
    return {image: found[image] for image in wanted if image in found}


def count_vectors(connection: sqlite3.Connection, encoder: str) -> int:
    """Return how many images have a vector of this encoder."""
    query = "SELECT count(*) FROM vectors WHERE encoder = (SELECT id FROM encoders WHERE identity = ?)"
    return int(connection.execute(query, (encoder,)).fetchone()[0])


def first_vectors(connection: sqlite3.Connection, encoder: str, count: int) -> npt.NDArray[np.float32]:
    """Return up to `count` vectors (M, D) float32 of an encoder, those that were cached first, without damaged ones."""
    query = (
        "SELECT vector, width FROM vectors JOIN encoders ON encoders.id = vectors.encoder WHERE identity = ? "
        "ORDER BY vectors.rowid LIMIT ?"
    )
    rows = [(blob, width) for blob, width in connection.execute(query, (encoder, count)) if len(blob) == 4 * width]
    width = rows[0][1] if rows else 0
    found = np.frombuffer(b"".join(blob for blob, _ in rows), _ON_DISK).reshape(len(rows), width)
    return np.asarray(found[np.isfinite(found).all(axis=1)], dtype=np.float32)


@dataclass(frozen=True)
class KnownEncoder:
    """An encoder that vectors are cached of.

    Attributes:
        identity: Its identity. width: D of its vectors.
        images: How many of the images in question it has a vector of.
    """

    identity: str
    width: int
    images: int


def known_encoders(connection: sqlite3.Connection, person: str) -> list[KnownEncoder]:
    """Return the encoders that know images which a person compared, who knows most first."""
    query = (
        "SELECT identity, width, count(*) AS known FROM vectors JOIN encoders ON encoders.id = vectors.encoder "
        "WHERE image IN (SELECT left_image FROM comparisons WHERE person = :person "
        "UNION SELECT right_image FROM comparisons WHERE person = :person) "
        "GROUP BY identity ORDER BY known DESC, encoders.id DESC"
    )
    return [KnownEncoder(*row) for row in connection.execute(query, {"person": person}).fetchall()]


def write_vectors(connection: sqlite3.Connection, encoder: str, vectors: Mapping[str, Any]) -> None:
    """Insert or replace vectors (D,), inside the caller's transaction.

    Raises:
        ShapeError: NaN, infinity, not (D,), or another D than this encoder's vectors have.
    """
    if not vectors:
        return
    arrays = {image: _checked(image, vector) for image, vector in vectors.items()}
    width = next(iter(arrays.values())).size
    connection.execute("INSERT OR IGNORE INTO encoders (identity, width) VALUES (?, ?)", (encoder, width))
    key, width = connection.execute("SELECT id, width FROM encoders WHERE identity = ?", (encoder,)).fetchone()
    for image, array in arrays.items():
        if array.size != width:
            raise ShapeError(
                f"Cannot keep the vector of image {image[:12]}: its width is {array.size}; encoder {encoder[:12]} has "
                f"{width}. Two encoders share one identity: load the encoder again."
            )
    connection.executemany(
        "INSERT OR REPLACE INTO vectors (encoder, image, vector) VALUES (?, ?, ?)",
        [(key, image, array.astype(_ON_DISK).tobytes()) for image, array in arrays.items()],
    )


def _checked(image: str, vector: Any) -> npt.NDArray[np.float32]:
    try:
        array = as_float32(vector)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"Cannot keep the vector of image {image[:12]}: {error}; expected numbers (D,).") from error
    if array.ndim != 1 or array.size == 0:
        raise ShapeError(f"Cannot keep the vector of image {image[:12]}: its shape is {array.shape}; expected (D,).")
    if not np.isfinite(array).all():
        raise ShapeError(
            f"Cannot keep the vector of image {image[:12]}: it holds NaN or infinity; expected finite numbers. "
            "Encode it in float32."
        )
    return array
