"""`palate evaluate`: folders of pictures, scored by a taste and by judges, and which folder wins."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from ..adapters.errors import PreferenceError
from .rank import PICTURES
from .tastes import encoder_of, taste_of

__all__ = ["add_evaluate_command", "evaluate"]

_AT_A_TIME = 16
Scores = dict[str, float]  # by name of the picture
Judge = Callable[[Sequence[Any], Sequence[str]], Any]  # (pictures, prompts) -> (N,)


class _Silent(Exception):  # noqa: N818 - becomes an error with the picture's name
    """A picture, by its place, says no prompt, and the judge needs one."""


class EvaluateError(PreferenceError, ValueError):
    """Folders or judges that can't be used."""


def add_evaluate_command(commands: Any, store_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the parser of the command line."""
    find = commands.add_parser("evaluate", help="folders of pictures by a taste and by judges: which one wins")
    find.add_argument("folders", nargs="+", metavar="FOLDER", help="pictures of equal names are compared")
    find.add_argument("--taste", default=None, metavar="FILE", help="judge by this taste")
    find.add_argument("--person", default=None, metavar="NAME", help="judge by this person's answers")
    find.add_argument(
        "--judge",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="clip, pickscore or hps and the CLIP of it, as --encoder takes it; aesthetic and LAION's file; "
        "imagereward and ImageReward.pt",
    )
    find.add_argument("--encoder", default=None, metavar="SPEC", help="the taste's, and CLIP-L/14 for aesthetic")
    find.add_argument("--device", default="cpu", help="cpu (the default), cuda, mps")
    find.add_argument("--json", action="store_true", help="print one JSON object")
    store_option(find)


def evaluate(arguments: argparse.Namespace, store: Path) -> int:
    """Print each folder's mean scores, and for each two folders how often the first wins.

    Raises:
        EvaluateError: no picture, no judge, or no names in common.
    """
    if not (arguments.taste or arguments.person or arguments.judge):
        raise EvaluateError("Cannot evaluate: found no judge; expected --taste, --person or --judge. Give one.")
    folders = [Path(folder).expanduser() for folder in arguments.folders]
    pictures = {str(folder): _pictures(folder) for folder in folders}
    scores = {
        name: {folder: _scored(judge, files) for folder, files in pictures.items()}
        for name, judge in _judges(arguments, store).items()
    }
    from ..adapters.exchange.judges import contest

    means = {name: {folder: _mean(list(found.values())) for folder, found in by.items()} for name, by in scores.items()}
    wins = []
    for name, by in scores.items():
        for one, other in combinations(by, 2):
            common = sorted(by[one].keys() & by[other].keys())
            if common:
                found = contest([by[one][key] for key in common], [by[other][key] for key in common])
                wins.append({"judge": name, "first": one, "second": other} | vars(found))
    if arguments.json:
        print(json.dumps({"means": means, "wins": wins}, ensure_ascii=False))
    else:
        _tell(means, wins)
    if len(folders) > 1 and not wins:
        print("palate: No two pictures have one name, so none were compared one by one.", file=sys.stderr)
    return 0


def _tell(means: Mapping[str, Mapping[str, Mapping[str, float]]], wins: Sequence[Mapping[str, Any]]) -> None:
    for name, by in means.items():
        for folder, mean in by.items():
            print(f"{name:12} {mean['mean']:9.3f} ± {mean['error']:.3f}  {mean['pictures']:.0f} pictures  {folder}")
    for one in wins:
        share, low, high = (round(100 * one[key]) for key in ("wins", "low", "high"))
        told = f"wins {share} % ({low} to {high}) of {one['pairs']} against"
        print(f"{one['judge']:12} {one['first']} {told} {one['second']}")


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Mean, its standard error, and of how many."""
    if not values:
        return {"mean": math.nan, "error": math.nan, "pictures": 0}
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return {"mean": mean, "error": math.sqrt(spread / len(values)), "pictures": len(values)}


def _judges(arguments: argparse.Namespace, store: Path) -> dict[str, Judge]:
    found: dict[str, Judge] = {}
    if arguments.taste or arguments.person:
        found["taste"] = _by_taste(arguments, store)
    for word in arguments.judge:
        name, _, spec = word.partition("=")
        if name not in ("clip", "pickscore", "hps", "aesthetic", "imagereward") or not spec:
            raise EvaluateError(
                f"Cannot judge by {word[:80]!r}; expected clip=SPEC, pickscore=SPEC, hps=SPEC, aesthetic=FILE or "
                "imagereward=FILE."
            )
        if name == "aesthetic":
            found[name] = _by_head(spec, encoder_of(arguments))
        elif name == "imagereward":
            found[name] = _by_image_reward(spec, arguments.device)
        else:
            found[name] = _by_clip(encoder_of(arguments, spec))
    return found


def _by_taste(arguments: argparse.Namespace, store: Path) -> Judge:
    encoder, taste = taste_of(arguments, store)
    return lambda pictures, prompts: taste.utility(encoder.encode_images(list(pictures)))


def _by_clip(encoder: Any) -> Judge:
    from ..adapters.exchange.judges import agreement_with_prompts

    def judge(pictures: Sequence[Any], prompts: Sequence[str]) -> Any:
        if "" in prompts:
            raise _Silent(prompts.index(""))
        return agreement_with_prompts(encoder.encode_images(list(pictures)), encoder.encode_texts(list(prompts)))

    return judge


def _by_image_reward(file: str, device: str) -> Judge:
    from ..adapters.exchange import load_image_reward
    from .terminal import silence

    silence()
    reward = load_image_reward(file, device)

    def judge(pictures: Sequence[Any], prompts: Sequence[str]) -> Any:
        if "" in prompts:
            raise _Silent(prompts.index(""))
        return reward(pictures, prompts)

    return judge


def _by_head(file: str, encoder: Any) -> Judge:
    from ..adapters.exchange.judges import aesthetic_head

    weights, constant = aesthetic_head(file)
    if len(weights) != encoder.dim:
        raise EvaluateError(
            f"Cannot judge by {Path(file).name!r}: it takes {len(weights)} numbers, {encoder.name} has {encoder.dim}; "
            "expected --encoder open_clip:ViT-L-14/openai."
        )
    return lambda pictures, prompts: encoder.encode_images(list(pictures)) @ weights + constant


def _pictures(folder: Path) -> list[Path]:
    files = sorted(one for one in folder.glob("*") if one.suffix.lower() in PICTURES and one.is_file())
    if not files:
        raise EvaluateError(f"Cannot evaluate {str(folder)!r}: found no picture; expected a folder of them.")
    return files


def _scored(judge: Judge, files: Sequence[Path]) -> Scores:
    """Scores by name without ending; what can't be read is told and left out."""
    from ..adapters.comparisons import read_image
    from ..adapters.errors import ImageError
    from ..adapters.exchange import facts_of_picture

    found: Scores = {}
    for start in range(0, len(files), _AT_A_TIME):
        read: list[tuple[str, Any, str]] = []
        for file in files[start : start + _AT_A_TIME]:
            beside = file.with_suffix(".txt")
            try:
                said = beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else ""
                read.append((file.stem, read_image(file), said or facts_of_picture(file).prompt))
            except (ImageError, OSError) as error:
                print(f"palate: {error}", file=sys.stderr)
        if read:
            names, pictures, prompts = zip(*read, strict=True)
            try:
                found |= dict(zip(names, judge(pictures, prompts).tolist(), strict=True))
            except _Silent as silent:
                raise EvaluateError(
                    f"Cannot judge by prompts: {names[silent.args[0]]} says no prompt; expected one inside, or in a "
                    ".txt beside it."
                ) from None
    return found
