"""`palate study ppd-unseen`: personal pictures for people and prompts that nobody trained on (arXiv:2501.06655).

Everybody answers N random pairs, or N chosen ones, and gets pictures of held-out prompts; an arm's picture is compared
with the base model's of the same seed by the person's true utility, measured from the pixels by formula.

- ppd: the user embedding from the first N answers.
- ppd, asked well: likewise, but from answers to the pairs of a pool that are expected to say most of the person, each
  chosen after the answers so far by who knows how people are made.
- ppd, two liked words: the prompt also says the words that a taste from the same answers likes, as people have it
  with `palate prompt`; "all that the answers give" is what `palate generate --for` does: the user at 0.7, two liked
  words, and of three pictures the one that the taste likes best.
- a stranger's: of somebody else's answers, as a control.
- everybody: the average user, known from no answer, which is what Diffusion-DPO on everybody's pairs learns; with
  --dpo and --sft, weights that were trained so.
- in words: the prompt says two more properties, those that a taste from the same answers likes best.
- steering: the prompt's embedding turned along that taste.
- Bayes: what can be told from the answers at all by who knows how people are made: of so many drawn cards of the
  caption, the one with the highest expected utility. No model's picture, but how far any can get.

With --draws, everybody is asked so many times anew, and a row is over all of it: what four answers say is chance.

Shapes: P people, K prompts each, N answers.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..files.ppd_file import load_ppd
from ..playground.captions import named_in
from ..playground.folder import playground_folder
from ..playground.people import features
from ..playground.training.ppd_cards import Cards, draw_cards
from ..playground.world import draw, random_card
from ..ppd.model import PPD
from ..steering import Generator
from ._options import counts, positive, some_of
from ._painter import Painter, Seen, stronger
from ._ppd_asked import Asked, Properties, tokens_of
from ._ppd_people import Crowd, Met, crowd, interview, meet
from ._tables import Array, bootstrap_interval, markdown, provenance

__all__ = ["run"]

_SHARD = 1000  # of cards that nobody is trained on
_ANEW = 10_000  # between the seeds of two draws of questions
_TOLD = 0.7  # strength of the user in `palate generate --for`
_ARMS = ("ppd", "given", "stranger", "everybody", "words", "steering")


def run(argv: Sequence[str]) -> int:
    """Run the study and print its table; returns the exit status."""
    options, started = _options(argv), time.perf_counter()
    generator = Generator("playground")
    assert generator.encoder is not None
    file = options.ppd or playground_folder() / "ppd.safetensors"
    ppd, mild = (stronger(load_ppd(file), strength) for strength in (options.strength, _TOLD))
    cache = None if options.cache is None else Path(options.cache)
    cards = draw_cards(generator, options.captions, "any", _SHARD + options.seed, cache)
    held = draw_cards(generator, options.prompts, "held", options.seed, cache)
    met = meet(options.people, cards, max(options.pairs), options.seed)
    prompts = [
        [held.captions[(person * options.share + k) % options.prompts] for k in range(options.share)]
        for person in range(options.people)
    ]
    asked = Asked(Painter(generator, options.bfloat16), met, prompts)
    base = asked.plain()
    rows = [["base model", "", "", "", _share(asked.kept(base), options.seed)]]
    others = crowd(options.crowd if options.pool or options.cards else 1, cards, options.seed)
    known = [_Known.of(met, cards, others, options, turn) for turn in range(options.draws)]
    arms: dict[tuple[str, int], list[Seen]] = {}
    for turn, told in enumerate(known):
        for name, seen in _arms(replace(asked, met=told.met), ppd, mild, told.well, options, again=turn > 0):
            arms.setdefault(name, []).append(seen)
    rows += [_row(name, asked, seen, base, options.seed) for name, seen in arms.items()]
    if options.cards:
        rows += _ceiling(asked, base, others, known, options)
    sys.stderr.write("\n")
    header = ("arm", "pairs", "wins over the base, %", "gain, in the noise of answers", "prompt kept, %")
    sys.stdout.write(markdown(header, rows))
    sys.stdout.write(f"\n{time.perf_counter() - started:.0f} seconds. " + provenance("ppd-unseen", argv, options.seed))
    return 0


@dataclass(frozen=True, eq=False)
class _Known:
    """One draw of questions: what people answered to random ones, and, asked well, to those that say most of them."""

    met: Met
    well: Met | None

    @classmethod
    def of(cls, met: Met, cards: Cards, others: Crowd, options: argparse.Namespace, turn: int) -> _Known:
        """The same people, asked anew; at turn 0 it is `met` itself."""
        seed, most = options.seed + _ANEW * turn, max(options.pairs)
        asked = meet(met.people, cards, most, seed) if turn else met
        return cls(asked, interview(asked, cards, others, most, options.pool, seed) if options.pool else None)


def _arms(
    asked: Asked, ppd: PPD, mild: PPD, well: Met | None, options: argparse.Namespace, again: bool
) -> list[tuple[tuple[str, int], Seen]]:
    """Each arm's name and pairs, and its pictures; `again` leaves out those that no answer changes."""
    met, four = asked.met, min(4, max(options.pairs))
    some, found = sorted({four, max(options.pairs)}), []
    ways = [("**ppd**", met)] + ([("**ppd**, asked well", well)] if well is not None else [])
    for name, known in ways if "ppd" in options.arms else ():
        for pairs in options.pairs:
            found.append(((name, pairs), asked.personal(ppd, tokens_of(ppd, known, pairs))))
    for pairs in options.pairs if "given" in options.arms else ():
        tokens, tastes = tokens_of(ppd, met, pairs), asked.tastes(pairs)
        worded = asked.personal(ppd, tokens, asked.liked_words(tastes))
        found.append((("**ppd**, two liked words", pairs), worded))
        found.append((("all that the answers give", pairs), asked.given(mild, tokens, tastes)))
    for name, file in (("Diffusion-DPO on everybody's pairs", options.dpo), ("SFT on everybody's", options.sft)):
        if file is not None and not again:
            other = load_ppd(file)
            found.append(((name, 0), asked.personal(other, tokens_of(other, met, 0))))
    for pairs in some if "stranger" in options.arms else ():
        found.append((("a stranger's", pairs), asked.personal(ppd, tokens_of(ppd, met, pairs).roll(1, 0))))
    if "everybody" in options.arms and not again:
        found.append((("everybody, the average user", 0), asked.personal(ppd, tokens_of(ppd, met, 0))))
    for pairs in some if "words" in options.arms else ():
        said = Properties(asked.painter.generator, asked.tastes(pairs))
        found.append((("in words", pairs), asked.plain(said)))
    for pairs in some if "steering" in options.arms else ():
        found.append((("steering", pairs), asked.steered(asked.tastes(pairs))))
    return found


def _ceiling(
    asked: Asked, base: Seen, others: Crowd, known: Sequence[_Known], options: argparse.Namespace
) -> list[list[str]]:
    """Rows of what a picture chosen by the Bayes-optimal judge from drawn cards of the caption wins."""
    rng, chance = random.Random(f"ppd-unseen/{options.seed}"), np.random.default_rng(options.seed)
    shown = {
        prompt: np.stack([features(draw(random_card(rng, **named_in(prompt)))) for _ in range(options.cards)])
        for prompt in dict.fromkeys(prompt for row in asked.prompts for prompt in row)
    }
    plain, rows, name = asked.utilities(base.features), [], f"Bayes, best of {options.cards} drawn cards"
    ways = [(name, [told.met for told in known])]
    if options.pool:
        ways.append((f"{name}, asked well", [told.well for told in known if told.well is not None]))
    for said, draws in ways:
        for pairs in options.pairs:
            found = []
            for met in draws:
                picked = []
                for person, row in enumerate(asked.prompts):
                    chances = others.chances(met.liked[person, :pairs], met.disliked[person, :pairs])
                    likes = others.likes(chances, np.concatenate([shown[prompt] for prompt in row]), chance)
                    best = likes.reshape(len(row), -1).argmax(1)
                    picked.append([shown[prompt][k] for prompt, k in zip(row, best, strict=True)])
                found.append(asked.utilities(np.array(picked).reshape(len(base.features), -1)))
            rows.append([said, str(pairs), *_compared(found, plain, options.seed), "100"])
    return rows


def _row(name: tuple[str, int], asked: Asked, draws: Sequence[Seen], base: Seen, seed: int) -> list[str]:
    found, plain = [asked.utilities(seen.features) for seen in draws], asked.utilities(base.features)
    kept = np.mean([asked.kept(seen) for seen in draws], axis=0)
    return [name[0], str(name[1] or ""), *_compared(found, plain, seed), _share(kept, seed)]


def _compared(draws: Sequence[Array], plain: Array, seed: int) -> tuple[str, str]:
    """Wins of all draws of questions, even ones counted half, and gain, with intervals over people."""
    gap = np.concatenate([found - plain for found in draws], axis=1)
    wins = ((gap > 1e-9) + 0.5 * (np.abs(gap) <= 1e-9)).mean(1)
    low, high = bootstrap_interval(gap.mean(1), seed)
    return _share(wins, seed), f"{gap.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def _share(per_person: Array, seed: int) -> str:
    low, high = bootstrap_interval(per_person, seed)
    return f"{100 * per_person.mean():.1f} ({100 * low:.0f} to {100 * high:.0f})"


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study ppd-unseen", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--people", type=positive, default=60, help="simulated people (60)")
    parser.add_argument("--share", type=positive, default=5, help="prompts of each (5)")
    parser.add_argument("--prompts", type=positive, default=100, help="held-out prompts, shared out (100)")
    parser.add_argument("--pairs", type=counts, default=[1, 2, 4, 8, 16], help="answers: 1,2,4,8,16")
    parser.add_argument("--draws", type=positive, default=1, help="of questions to everybody, for every row (1)")
    parser.add_argument("--captions", type=positive, default=150, help="whose cards people compare (150)")
    parser.add_argument("--cards", type=int, default=64, help="drawn for each prompt, for the ceiling; 0: none (64)")
    parser.add_argument("--crowd", type=positive, default=60_000, help="invented people behind the ceiling (60000)")
    parser.add_argument("--pool", type=int, default=200, help="pairs to choose from in asking well; 0: don't (200)")
    parser.add_argument("--ppd", default=None, help="a file of PPD weights; the playground's own when left out")
    parser.add_argument("--strength", type=float, default=1.0, help="that users act with (1)")
    parser.add_argument("--arms", type=some_of(_ARMS), default=_ARMS, help=f"only some of {'|'.join(_ARMS)}")
    parser.add_argument("--dpo", default=None, help="weights trained by Diffusion-DPO for everybody at once")
    parser.add_argument("--sft", default=None, help="weights trained by SFT likewise")
    parser.add_argument("--cache", default=None, help="folder to keep drawn cards in between runs")
    parser.add_argument("--bfloat16", action="store_true", help="paint in bfloat16, faster where the processor has it")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(argv))
