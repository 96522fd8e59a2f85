"""Answers out of the store, for other tools: two folders, JSON lines, or a data set for the Hugging Face hub.

Each pair of pictures counts once, with its last answer. People's names are replaced unless asked for.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..comparisons import Comparison, PreferenceStore
from ..errors import NotEnoughAnswersError, StoreError

__all__ = ["EXPORTS", "Exported", "export_answers"]

_DECIDED = ("left", "right", "tie")
_AT_A_TIME = 100  # rows


@dataclass(frozen=True)
class Exported:
    """What was written. folder: Where. answers: How many. people: Of how many. lost: Answers without their pictures."""

    folder: Path
    answers: int
    people: int
    lost: int


def export_answers(
    store: PreferenceStore,
    folder: Path,
    kind: str = "jsonl",
    people: Sequence[str] = (),
    named: bool = False,
) -> Exported:
    """Write answers into a new folder, which is there whole or not at all.

    Args:
        store: Where they are.
        folder: To be made; must not exist yet or be empty.
        kind: "folders": `chosen` and `rejected`, pictures with equal names and prompts in text files; "jsonl":
            `answers.jsonl` and `images`; "datasets": parquet with a data card, for `datasets.load_dataset(folder)`.
        people: Whose; empty is everybody.
        named: Whether they keep their names; else they are "person 1", "person 2", ...

    Raises:
        NotEnoughAnswersError: nobody of these preferred anything.
        StoreError: the folder is in use or can't be written.
    """
    names = {name: name if named else f"person {number}" for number, name in enumerate(people or store.people(), 1)}
    rows, lost = _rows(store, names)
    if kind == "folders":
        rows = [row for row in rows if row["outcome"] != "tie"]
    if not rows:
        raise NotEnoughAnswersError(
            f"Cannot export answers: found none that prefers a picture which is still there ({lost} without pictures); "
            "expected one or more. Compare some pictures first."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"Cannot export to {folder}: it is in use; expected a new or empty folder. Choose another.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".palate-", dir=folder.parent))
        try:
            EXPORTS[kind](store, rows, draft)
            draft.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"Cannot export to {folder}: {error.strerror or error}; expected room on the disk.") from error
    return Exported(folder, len(rows), len({row["person"] for row in rows}), lost)


def _rows(store: PreferenceStore, names: Mapping[str, str]) -> tuple[list[dict[str, Any]], int]:
    """One row for each pair of pictures of each person, oldest first, and how many have lost a picture."""
    latest: dict[object, Comparison] = {}
    for one in store.comparisons():
        if one.person in names and one.outcome in _DECIDED:
            key = one.person, frozenset((one.left, one.right))
            latest.pop(key, None)
            latest[key] = one
    kept = [one for one in latest.values() if store.has_image(one.left) and store.has_image(one.right)]
    return [_row(one, names[one.person]) for one in kept], len(latest) - len(kept)


def _row(one: Comparison, person: str) -> dict[str, Any]:
    found = {"prompt": one.prompt, "person": person, "outcome": one.outcome, "left": one.left, "right": one.right}
    told = found | {"left_seed": one.left_seed, "right_seed": one.right_seed, "model": one.model}
    # The best of four that isn't much better than the next best may well be of the worst: of that pair nobody said it.
    unsaid = one.much is None or (one.ranking is not None and not one.much)
    return told if unsaid else told | {"much": one.much}


def _chosen(row: Mapping[str, Any]) -> tuple[str, str]:
    """Ids of the preferred image and of the other; as shown for a tie."""
    left, right = str(row["left"]), str(row["right"])
    return (right, left) if row["outcome"] == "right" else (left, right)


def _as_folders(store: PreferenceStore, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    for side in ("chosen", "rejected"):
        (folder / side).mkdir()
    for number, row in enumerate(rows, 1):
        for side, image in zip(("chosen", "rejected"), _chosen(row), strict=True):
            shutil.copyfile(store.image_path(image), folder / side / f"{number:06}.png")
        (folder / "chosen" / f"{number:06}.txt").write_text(row["prompt"], encoding="utf-8")


def _as_lines(store: PreferenceStore, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    (folder / "images").mkdir()
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as out:
        for row in rows:
            for side in ("left", "right"):
                file = folder / "images" / f"{row[side]}.png"
                if not file.exists():
                    shutil.copyfile(store.image_path(row[side]), file)
            chosen, rejected = _chosen(row)
            told = {side: f"images/{row[side]}.png" for side in ("left", "right")}
            if row["outcome"] != "tie":
                told |= {"chosen": f"images/{chosen}.png", "rejected": f"images/{rejected}.png"}
            out.write(json.dumps(row | told, ensure_ascii=False) + "\n")


def _as_data_set(store: PreferenceStore, rows: Sequence[dict[str, Any]], folder: Path) -> None:
    try:
        from datasets import Features, Image, Value
        from pyarrow import Table
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise StoreError(
            "Cannot export a data set: `datasets` is not installed here. `python install.py train` brings it."
        ) from error

    def told(row: Mapping[str, Any]) -> dict[str, Any]:
        pictures = [{"bytes": store.image_path(one).read_bytes(), "path": None} for one in _chosen(row)]
        label = 0.5 if row["outcome"] == "tie" else 1.0
        found = {"chosen": pictures[0], "rejected": pictures[1], "label": label, "much": row.get("much")}
        return found | {key: row[key] for key in _TEXTS}

    said = {"label": Value("float32"), "much": Value("bool"), **{key: Value("string") for key in _TEXTS}}
    schema = Features(chosen=Image(), rejected=Image(), **said).arrow_schema
    (folder / "data").mkdir()
    with ParquetWriter(folder / "data" / "train-00000-of-00001.parquet", schema) as table:
        for start in range(0, len(rows), _AT_A_TIME):  # a group of rows in memory, as readers of the file have it, too
            part = [told(row) for row in rows[start : start + _AT_A_TIME]]
            table.write_table(Table.from_pylist(part, schema=schema))
    (folder / "README.md").write_text(_card(rows), encoding="utf-8")


_TEXTS = ("prompt", "person", "model")


def _card(rows: Sequence[Mapping[str, Any]]) -> str:
    people, prompts = len({row["person"] for row in rows}), len({row["prompt"] for row in rows})
    ties = sum(row["outcome"] == "tie" for row in rows)
    return (
        "---\ntags:\n- preference\n- text-to-image\n- palate\n"
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n\n"
        f"# Which picture people preferred\n\n{len(rows)} comparisons of {people} "
        f"{'person' if people == 1 else 'people'} over {prompts} {'prompt' if prompts == 1 else 'prompts'}, {ties} of "
        "them ties, collected with Palate. Each pair of pictures is there once a person, with the last answer.\n\n"
        "| column | |\n|---|---|\n| `chosen`, `rejected` | the pictures; of a tie, as they were shown |\n"
        "| `label` | 1, or 0.5 for a tie |\n| `much` | whether the chosen one is much better; empty where that wasn't "
        "asked |\n| `prompt` | what both were made from |\n"
        "| `person` | who answered |\n| `model` | what made the pictures, where known |\n"
    )


EXPORTS: dict[str, Callable[[PreferenceStore, Sequence[dict[str, Any]], Path], None]] = {
    "folders": _as_folders,
    "jsonl": _as_lines,
    "datasets": _as_data_set,
}
