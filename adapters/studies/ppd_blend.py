"""`palate study ppd-blend`: do blends of users do what their weights say? (arXiv:2501.06655)

Three rewards measured from pixels are three synthetic people, who like nothing else and never err; the pairs encoder
reads them like anybody. Pictures of held-out prompts are made along the edges of the triangle between them, and each
reward should rise with its weight: Spearman's rank correlation of its mean over all pictures with the weight. How far
that can go is said beside it: whether rewards go together in the cards that people are asked about, and how alike the
encoder reads their corners.

Shapes: R rewards, B blends, K prompts, F features.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..files.ppd_file import load_ppd
from ..playground.folder import playground_folder
from ..playground.people import FEATURES, TRAITS, Person
from ..playground.training.ppd_cards import Cards, draw_cards
from ..ppd.model import PPD, UserEncoder
from ..ppd.user import User, blend_users
from ..steering import Generator
from ._options import positive
from ._painter import Job, Painter
from ._ppd_people import meet
from ._tables import Array, bootstrap_interval, markdown, provenance

__all__ = ["edges", "ranked", "run", "together"]

_SHARD = 1000  # of cards that nobody is trained on
_SURE = 1e-3  # noise of who never errs


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options, started = _options(argv), time.perf_counter()
    generator = Generator("playground")
    ppd = load_ppd(options.ppd or playground_folder() / "ppd.safetensors")
    cache = None if options.cache is None else Path(options.cache)
    held = draw_cards(generator, options.prompts, "held", options.seed, cache)
    cards = draw_cards(generator, options.captions, "any", _SHARD + options.seed, cache)
    users = _users(ppd, cards, options)
    blends = edges(len(users), options.points)
    painter = Painter(generator, options.bfloat16)
    places = [FEATURES.index(name) for name in options.rewards]

    def scores(weights: Sequence[float] | None) -> Array:
        """(K, R) of one blend; None for the base model."""
        tokens = None if weights is None else blend_users(users, weights).tokens
        jobs = [
            Job(generator.conditioner.plain(text), 9_000_000 + k, tokens, None if tokens is None else ppd)
            for k, text in enumerate(held.captions)
        ]
        found: Array = painter.look(jobs).features[:, places]
        return found

    base = scores(None)
    found = np.stack([scores(weights) for weights in blends])
    sys.stderr.write("\n")
    sys.stdout.write(_scores_table(blends, found, base, options) + "\n")
    sys.stdout.write(_ranks_table(blends, found, options) + "\n")
    sys.stdout.write(
        _alike_table(together(cards.measured.double().numpy()[..., places]), _cosines(ppd, users), options)
    )
    sys.stdout.write(f"\n{time.perf_counter() - started:.0f} seconds. " + provenance("ppd-blend", argv, options.seed))
    return 0


def _users(ppd: PPD, cards: Cards, options: argparse.Namespace) -> list[User]:
    """One for each reward, from answers of somebody who likes nothing else."""
    weights = np.eye(len(FEATURES))
    people = [Person(name, weights[FEATURES.index(name)], noise=_SURE) for name in options.rewards]
    met = meet(people, cards, options.pairs, options.seed)
    return [ppd.user(met.chosen[k], met.rejected[k], person=name) for k, name in enumerate(options.rewards)]


def edges(rewards: int, points: int) -> list[tuple[float, ...]]:
    """All blends on the edges between each two of R rewards, `points` on each with both corners, none twice."""
    found: dict[tuple[float, ...], None] = {}
    for one, other in itertools.combinations(range(rewards), 2):
        for share in np.linspace(0.0, 1.0, points):
            weights = [0.0] * rewards
            weights[one], weights[other] = float(1.0 - share), float(share)
            found[tuple(weights)] = None
    return list(found)


def ranked(blends: Sequence[Sequence[float]], scores: Array) -> dict[tuple[int, int], float]:
    """(reward, the other corner) -> rank correlation of the reward with its weight along that edge.

    Args:
        blends: B of them. scores: (B, R) mean of each reward.
    """
    weights, found = np.array(blends), {}
    for one, other in itertools.permutations(range(weights.shape[1]), 2):
        on_edge = np.isclose(weights[:, one] + weights[:, other], 1.0)
        ranks = [np.argsort(np.argsort(x[on_edge, one])) for x in (weights, scores)]
        found[one, other] = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return found


def together(rewards: Array) -> Array:
    """(R, R) correlation of rewards (K, V, R) over V cards of one caption each: what a choice can't tell apart."""
    found: Array = np.corrcoef((rewards - rewards.mean(1, keepdims=True)).reshape(-1, rewards.shape[-1]).T)
    return found


@torch.no_grad()
def _cosines(ppd: PPD, users: Sequence[User]) -> Array:
    """(R, R) of the users' tokens, with the average user's taken off."""
    assert isinstance(ppd.encoder, UserEncoder)
    nothing = torch.zeros(1, 0, ppd.encoder.config["image_width"])
    average = ppd.encoder(nothing, nothing, None)[0]
    tokens = torch.stack([user.tokens - average for user in users]).flatten(1)
    unit = torch.nn.functional.normalize(tokens, dim=-1)
    found: Array = (unit @ unit.T).double().numpy()
    return found


def _alike_table(correlations: Array, cosines: Array, options: argparse.Namespace) -> str:
    rows = [
        [f"{options.rewards[one]} and {options.rewards[other]}", f"{correlations[one, other]:+.2f}", f"{cosine:+.2f}"]
        for one, other in itertools.combinations(range(len(options.rewards)), 2)
        for cosine in [cosines[one, other]]
    ]
    return markdown(("rewards", "correlation in cards of a caption", "cosine of the embeddings"), rows)


def _scores_table(blends: Sequence[Sequence[float]], scores: Array, base: Array, options: argparse.Namespace) -> str:
    rows = [["base model", *_means(base, options.seed)]]
    for weights, found in zip(blends, scores, strict=True):
        name = " + ".join(f"{w:g} {n}" for w, n in zip(weights, options.rewards, strict=True) if w)
        rows.append([name, *_means(found, options.seed)])
    return markdown(("blend", *options.rewards), rows)


def _means(scores: Array, seed: int) -> list[str]:
    intervals = [bootstrap_interval(column, seed) for column in scores.T]
    return [f"{c.mean():.3f} ({low:.3f} to {high:.3f})" for c, (low, high) in zip(scores.T, intervals, strict=True)]


def _ranks_table(blends: Sequence[Sequence[float]], scores: Array, options: argparse.Namespace) -> str:
    """With intervals over prompts, drawn with replacement."""
    names, prompts = options.rewards, scores.shape[1]
    found, rng = ranked(blends, scores.mean(1)), np.random.default_rng(options.seed)
    drawn = [ranked(blends, scores[:, rng.integers(prompts, size=prompts)].mean(1)) for _ in range(500)]
    rows = []
    for (one, other), value in found.items():
        low, high = np.percentile([again[one, other] for again in drawn], [2.5, 97.5])
        rows.append([f"{names[one]}, from {names[other]}", f"{value:.2f} ({low:.2f} to {high:.2f})"])
    rows.append(["mean", f"{np.mean(list(found.values())):.2f}"])
    return markdown(("reward along an edge", "rank correlation with its weight"), rows)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study ppd-blend", description=(__doc__ or "").split("\n", 1)[0])
    default = ["brightness", "colourfulness", "frame"]
    parser.add_argument("--rewards", type=_rewards, default=default, help=f"two or more of {', '.join(TRAITS)}")
    parser.add_argument("--points", type=positive, default=5, help="on each edge, with both corners (5)")
    parser.add_argument("--prompts", type=positive, default=60, help="held-out prompts, one picture each (60)")
    parser.add_argument("--pairs", type=positive, default=64, help="answers that each reward is read from (64)")
    parser.add_argument("--captions", type=positive, default=150, help="whose cards are compared for that (150)")
    parser.add_argument("--ppd", default=None, help="a file of PPD weights; the playground's own when left out")
    parser.add_argument("--cache", default=None, help="folder to keep drawn cards in between runs")
    parser.add_argument("--bfloat16", action="store_true", help="paint in bfloat16, faster where the processor has it")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(argv))


def _rewards(text: str) -> list[str]:
    names = text.split(",")
    if len(set(names)) != len(names) or len(names) < 2 or not set(names) <= set(TRAITS):
        raise argparse.ArgumentTypeError(f"{text}; expected two or more of {', '.join(TRAITS)}, commas between")
    return names
