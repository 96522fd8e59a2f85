"""A store of a million comparisons: open it, add to it, refit, and the next pair; a part of `taste_speed.py`."""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.taste import choose_pair, fit_taste
from PIL import Image

PICTURES = 2000
PEOPLE = 100
WIDTH = 64


@dataclass(frozen=True)
class Known:
    """An encoder that has seen all pictures already."""

    identity: str = "benchmark"
    name: str = "benchmark"
    dim: int = WIDTH
    text_projection: None = None

    def encode_images(self, images: list[Image.Image]) -> Any:
        """Never needed."""
        raise AssertionError("every vector is in the store")


def build(folder: Path, comparisons: int, seed: int) -> list[str]:
    """Make the store; its rows are written past the API, a million commits would take an hour."""
    rng = np.random.default_rng(seed)
    with PreferenceStore(folder) as store:
        colours = rng.integers(0, 256, (PICTURES, 2, 2, 3), dtype=np.uint8)
        ids = [store.add_image(Image.fromarray(colour)) for colour in colours]
        vectors = rng.standard_normal((PICTURES, WIDTH)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        store.put_vectors("benchmark", dict(zip(ids, vectors, strict=True)))
        store.add(Comparison("person-00", ids[0], ids[1], "left"))
    file = sqlite3.connect(folder / "store.sqlite")
    columns = [row[1] for row in file.execute("PRAGMA table_info(comparisons)") if row[1] not in ("id", "ranking")]
    example = dict(zip(columns, file.execute(f"SELECT {', '.join(columns)} FROM comparisons").fetchone(), strict=True))
    taste = rng.standard_normal((PEOPLE, WIDTH)) * 3.0

    def rows() -> Any:
        for start in range(0, comparisons - 1, 10_000):
            count = min(10_000, comparisons - 1 - start)
            left = rng.integers(0, PICTURES, count)
            right = (left + rng.integers(1, PICTURES, count)) % PICTURES
            person = rng.integers(0, PEOPLE, count)
            log_odds = np.einsum("ij,ij->i", vectors[left] - vectors[right], taste[person])
            won = rng.random(count) < 1.0 / (1.0 + np.exp(-log_odds))
            for k in range(count):
                row = example | {"person": f"person-{person[k]:02d}", "left_image": ids[left[k]]}
                row |= {"right_image": ids[right[k]], "outcome": "left" if won[k] else "right"}
                yield [row[column] for column in columns]

    marks = ", ".join("?" * len(columns))
    with file:
        file.executemany(f"INSERT INTO comparisons ({', '.join(columns)}) VALUES ({marks})", rows())
    file.close()
    return ids


def _ms(function: Callable[[], Any], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(comparisons: int, seed: int) -> None:
    """Print how long everything takes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "store"
        ids = build(folder, comparisons, seed)
        size = (folder / "store.sqlite").stat().st_size / 1e6
        print(f"\nA store of {comparisons:,} comparisons by {PEOPLE} people ({size:.0f} MB); medians in ms\n")
        rows = [("open and close", _ms(lambda: PreferenceStore(folder).close(), 15))]
        with PreferenceStore(folder) as store:
            rows.append(("add a comparison", _ms(lambda: store.add(Comparison("person-00", *ids[:2], "left")), 30)))
            rows.append(("count one person's answers", _ms(lambda: store.count("person-00"), 15)))
            read = _ms(lambda: store.comparisons("person-00"), 5)
            rows.append((f"read one person's {store.count('person-00'):,} answers", read))
            taste = fit_taste(store, Known(), "person-00")  # type: ignore[arg-type]
            rows.append(("learn them anew", _ms(lambda: fit_taste(store, Known(), "person-00"), 3)))  # type: ignore[arg-type]
            found = store.vectors("benchmark", ids)
            candidates = np.stack([found[i] for i in ids])
            rows.append((f"read the vectors of {PICTURES:,} pictures", _ms(lambda: store.vectors("benchmark", ids), 5)))
            rows.append((f"choose the next pair of {PICTURES:,}", _ms(lambda: choose_pair(taste, candidates), 15)))
        print("| | ms |\n| --- | ---: |")
        for what, took in rows:
            print(f"| {what} | {took:.1f} |")
