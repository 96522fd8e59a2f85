"""`palate study ppd-users`: which of 300 people is this? How much of a person is left in an embedding.

A classifier learns everybody's embeddings, each made from N of many answers, and must then name who gave N others.
Beside it the Bayes-optimal decoder, which knows everybody's true utility and noise and so gets from the same answers
all that they hold: the share of it is what the embedding keeps. And the same decoder with properties that a linear map
reads from the pictures' vectors: what those vectors cost. Source: Dang et al. 2025, arXiv:2501.06655,
whose classifier gets 90 % among the first 16 from four pairs, of people who tell more by each.

Shapes: P people, Q questions each, N answers, K tokens, W their width.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files.ppd_file import load_ppd
from ..playground.folder import playground_folder
from ..playground.training.ppd_cards import Cards, draw_cards
from ..ppd.model import UserEncoder
from ..steering import Generator
from ._options import counts, positive
from ._ppd_people import Met, meet, true_utilities
from ._tables import Array, bootstrap_interval, markdown, provenance

__all__ = ["decoded", "named", "run"]

TOPS = (1, 16)
_SHARD, _OTHER_SHARD = 1000, 2000  # of cards that nobody is trained on
_RIDGE = 1e-5
_BATCH = 512
_HIDDEN = 512
_RATE = 2e-3
Ranks = npt.NDArray[np.int64]


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options, started = _options(argv), time.perf_counter()
    torch.manual_seed(options.seed)
    ppd = load_ppd(options.ppd or playground_folder() / "ppd.safetensors")
    encoder = ppd.encoder
    assert isinstance(encoder, UserEncoder)
    cache = None if options.cache is None else Path(options.cache)
    generator = Generator("playground")
    cards = draw_cards(generator, options.captions, "any", _SHARD + options.seed, cache)
    most = max(options.pairs)
    met = meet(options.people, cards, most * (options.chunks + options.questions), options.seed)
    blurred = _read(met, draw_cards(generator, options.captions, "any", _OTHER_SHARD + options.seed, cache))
    rows = []
    for pairs in options.pairs:
        teach, ask = _split(met, pairs, options.chunks, options.questions)
        ours = named(encoder, teach, ask, options.steps, options.seed)
        bayes, read = (decoded(who, pairs, options.chunks, options.questions) for who in (met, blurred))
        for top in TOPS:
            rows.append(_row(pairs, top, ours, bayes, read, options))
    header = (
        "pairs",
        "among the first",
        "from the embedding, %",
        "Bayes-optimal, %",
        "share of it, %",
        "the same by properties read from vectors, %",
        "chance, %",
    )
    sys.stdout.write(markdown(header, rows))
    sys.stdout.write(f"\n{time.perf_counter() - started:.0f} seconds. " + provenance("ppd-users", argv, options.seed))
    return 0


def _read(met: Met, cards: Cards) -> Met:
    """The same answers, with what a linear map reads from the pictures' vectors instead of what was measured.

    Args:
        met: People and answers.
        cards: Others, which the map is fitted to.
    """
    vectors, measured = cards.vectors.flatten(0, 1).double().numpy(), cards.measured.flatten(0, 1).double().numpy()
    middle, mean = vectors.mean(0), measured.mean(0)
    centred = vectors - middle
    ridge = centred.T @ centred + _RIDGE * len(centred) * np.eye(centred.shape[1])
    weights = np.linalg.solve(ridge, centred.T @ (measured - mean))
    liked, disliked = ((side.double().numpy() - middle) @ weights + mean for side in (met.chosen, met.rejected))
    return replace(met, liked=liked, disliked=disliked)


def _row(pairs: int, top: int, ours: Ranks, bayes: Ranks, read: Ranks, options: argparse.Namespace) -> list[str]:
    found, best, seen = ((ranks < top).mean(axis=1) for ranks in (ours, bayes, read))
    low, high = bootstrap_interval(found, options.seed)
    return [
        str(pairs),
        str(top),
        f"{100 * found.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})",
        f"{100 * best.mean():.1f}",
        f"{100 * found.mean() / max(best.mean(), 1e-9):.0f}",
        f"{100 * seen.mean():.1f}",
        f"{100 * min(1.0, top / options.people):.1f}",
    ]


def _split(met: Met, pairs: int, chunks: int, questions: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Everybody's answers: (P, N chunks, D) to learn from and (P, questions, N, D) to name."""
    first, last = pairs * chunks, pairs * (chunks + questions)
    teach = met.chosen[:, :first], met.rejected[:, :first]
    ask = [side[:, first:last].reshape(len(side), questions, pairs, -1) for side in (met.chosen, met.rejected)]
    return teach, (ask[0], ask[1])


def named(
    encoder: UserEncoder, teach: tuple[Tensor, Tensor], ask: tuple[Tensor, Tensor], steps: int, seed: int
) -> Ranks:
    """(P, Q) place of the true person in the classifier's order, 0 first.

    Args:
        encoder: Makes the embeddings; frozen.
        teach: (P, A, D) chosen and rejected, of which N are drawn anew for each embedding that is learned.
        ask: (P, Q, N, D) likewise, other answers.
        steps: Of the classifier's training.
        seed: Of its order.
    """
    asked = _embedded(encoder, ask)
    people, answers, pairs = *teach[0].shape[:2], ask[0].shape[2]
    generator = torch.Generator().manual_seed(seed)
    middle, spread = asked.flatten(0, 1).mean(0), asked.flatten(0, 1).std(0) + 1e-6
    classifier = nn.Sequential(nn.Linear(asked.shape[-1], _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, people))
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps + 1)
    for _ in range(steps):
        who = torch.randint(people, (_BATCH,), generator=generator)
        drawn = torch.randint(answers, (_BATCH, pairs), generator=generator)
        with torch.no_grad():
            found = encoder(teach[0][who[:, None], drawn], teach[1][who[:, None], drawn], None).flatten(1)
        loss = F.cross_entropy(classifier((found - middle) / spread), who)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        scores = classifier((asked - middle) / spread)
    return _ranks(scores.double().numpy())


def _embedded(encoder: UserEncoder, sides: tuple[Tensor, Tensor]) -> Tensor:
    """(P, C, K W)."""
    chosen, rejected = (side.flatten(0, 1) for side in sides)
    with torch.no_grad():
        parts = [
            encoder(chosen[start : start + _BATCH], rejected[start : start + _BATCH], None).flatten(1)
            for start in range(0, len(chosen), _BATCH)
        ]
    return torch.cat(parts).reshape(*sides[0].shape[:2], -1)


def decoded(met: Met, pairs: int, chunks: int, questions: int) -> Ranks:
    """(P, Q) place of the true person in the order of the likelihood of the same answers, by true utilities."""
    first, last = pairs * chunks, pairs * (chunks + questions)
    chosen, rejected = (side[:, first:last].reshape(-1, side.shape[-1]) for side in (met.liked, met.disliked))
    gaps = true_utilities(met.people, chosen) - true_utilities(met.people, rejected)  # (P, P Q N)
    logs: Array = -np.logaddexp(0.0, -gaps)
    people = len(met.people)
    return _ranks(logs.reshape(people, people, questions, pairs).sum(-1).transpose(1, 2, 0))


def _ranks(scores: Array) -> Ranks:
    """(P, Q) place of person p in row p of scores (P, Q, P); who is as likely comes before."""
    own = scores[np.arange(len(scores)), :, np.arange(len(scores))]
    return np.asarray((scores > own[..., None]).sum(-1), dtype=np.int64)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study ppd-users", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=300, help="to be told apart (300)")
    parser.add_argument("--pairs", type=counts, default=[4, 8, 16], help="answers an embedding is made from: 4,8,16")
    parser.add_argument("--chunks", type=positive, default=60, help="times as many answers of each to learn from (60)")
    parser.add_argument("--questions", type=positive, default=10, help="others of each that are to be named (10)")
    parser.add_argument("--captions", type=positive, default=150, help="whose cards people compare (150)")
    parser.add_argument("--steps", type=positive, default=2000, help="of the classifier's training (2000)")
    parser.add_argument("--ppd", default=None, help="a file of PPD weights; the playground's own when left out")
    parser.add_argument("--cache", default=None, help="folder to keep drawn cards in between runs")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(argv))
