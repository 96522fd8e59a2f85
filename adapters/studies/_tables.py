"""What every study's output has: intervals over people, Markdown tables, and where it was run."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]


def bootstrap_interval(per_person: Array, seed: int, resamples: int = 2000) -> tuple[float, float]:
    """95 % percentile interval of the mean over people, people drawn with replacement.

    Args:
        per_person: (P,) one number per person.
        seed: the same seed gives the same interval.
        resamples: how often people are drawn again.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(per_person), (resamples, len(per_person)))
    low, high = np.percentile(per_person[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def with_interval(values: Array, seed: int, form: str) -> str:
    """The mean of (P,) numbers and its interval, each written as `form`, such as "{:.2f}"."""
    low, high = bootstrap_interval(values, seed)
    return f"{form} ({form} to {form})".format(values.mean(), low, high)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def provenance(study: str, argv: Sequence[str], seed: int) -> str:
    """The lines under a table: command, seed, machine, versions."""
    command = shlex.join(["palate", "study", study, *argv])
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    return f"`{command}` · seed {seed} · {machine} · {versions}\n"
