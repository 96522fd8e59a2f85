"""`palate study flips`: what mistaken answers cost a fine-tuning, and how much of its gain each way to bear them keeps.

N comparisons of one utility, of which a share is turned over, fixed by index, train a LoRA by each method; its pictures
are judged by that utility, from the pixels, beside the base's of the same seeds. Several utilities, each a training of
its own, are what the intervals go over. Beside it: how well each measure of doubt tells the answers that were turned.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from ..finetune.gradients import KnownOfPairs
from ..finetune.losses import BETAS
from ._bench import cards_of, common_options, opened, parsed, settings_of, training_options
from ._gains import Gain, gain_of, planted_utility
from ._minority import Watcher, auroc, by_measures, doubts_about, without_doubted
from ._options import positive
from ._postcards import Answers, Postcards, embeddings_of, flipped, pairs_of
from ._tables import Array, markdown, provenance, with_interval
from ._tuning import Tuned, Workshop

__all__ = ["METHODS", "Method", "run"]


@dataclass(frozen=True)
class Method:
    """One way to train on answers some of which are mistaken.

    Attributes:
        loss, variant: As in `TrainSettings`.
        told: Whether the loss is told the share that was turned over.
        doubted: Whether each pair has the doubt of a taste that learned all others.
        voted: Whether answers are replaced by the vote of three measures.
        dropped: Whether pairs are left out whose answer that taste doubts by more than half.
    """

    loss: str
    variant: str = ""
    told: bool = False
    doubted: bool = False
    voted: bool = False
    dropped: bool = False


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "DPO": Method("dpo"),
        "cDPO, flip rate 0.1": Method("cdpo"),
        "rDPO, told the flip rate": Method("rdpo", told=True),
        "Adaptive-DPO as released": Method("adaptive_dpo", "released"),
        "Adaptive-DPO, Palate's metric": Method("adaptive_dpo"),
        "cDPO, doubted by a taste of the others": Method("cdpo", doubted=True),
        "majority vote of measures": Method("dpo", voted=True),
        "DPO without the doubted answers": Method("dpo", dropped=True),
        "MaPO": Method("mapo"),
        "MaPO without the doubted answers": Method("mapo", dropped=True),
    }
)
_CLEAN = {"dpo": "DPO", "mapo": "MaPO"}  # whose gain on clean answers is the whole; DPO's for the others
_METRICS = {
    "released": "Adaptive-DPO: confidence x stability, as released",
    "confidence": "Adaptive-DPO: confidence alone",
    "score": "Adaptive-DPO, Palate's metric",
}


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options = _options(argv)
    started = time.perf_counter()
    workshop, _ = opened(options)
    cards = cards_of(options, workshop)
    gains: dict[tuple[str, float], list[Gain]] = {}
    found: dict[tuple[str, float], list[float]] = {}
    for number in range(options.utilities):
        person, answers = planted_utility(cards, options.pairs, options.seed + number)
        for rate in options.rates:
            for name in options.methods:
                # Told that nothing was turned over, rDPO is DPO.
                if rate == 0.0 and name not in _CLEAN.values() and (options.only_noisy or METHODS[name].told):
                    continue
                given = flipped(answers, rate, options.seed + number)
                tuned = _trained(workshop, cards, given, METHODS[name], rate, number, options)
                gains.setdefault((name, rate), []).append(gain_of(workshop, tuned, person))
                _told(found, name, rate, given, tuned)
            doubt, truth = doubts_about(cards, given).double().numpy(), -given.truth
            for name, suspicion in (("a taste of the other answers", doubt), ("oracle: true utility", truth)):
                found.setdefault((name, rate), []).append(auroc(suspicion, given.planted))
            sys.stderr.write(f"\rutility {number + 1} of {options.utilities}, {100 * rate:.0f} % turned over ")
    sys.stdout.write(_report(argv, options, gains, found, time.perf_counter() - started))
    return 0


def _trained(
    workshop: Workshop, cards: Postcards, given: Answers, method: Method, rate: float, number: int, options: Any
) -> Tuned:
    if method.voted:
        given = by_measures(cards, given)
    if method.dropped:
        given = without_doubted(cards, given)
    beta = options.beta or BETAS["dpo"]
    settings = settings_of(
        options,
        method.loss,
        options.seed + number,
        variant=method.variant,
        beta=BETAS["mapo"] if method.loss == "mapo" else beta,
        flip_rate=min(rate, 0.45) if method.told else 0.1,
    )
    watcher = Watcher(beta) if method.loss == "adaptive_dpo" else None
    known = KnownOfPairs(
        embeddings_of(cards, given) if method.loss == "rpo" else None,
        doubts_about(cards, given) if method.doubted else None,
        watcher,
    )
    # DPO on clean answers is DPO, whatever it is called here.
    name = f"utility {options.seed + number} of {options.seed}/{len(cards.captions)}/{rate:g}"
    name += f"/{method.voted}/{method.doubted}" + ("/dropped" if method.dropped else "")
    return workshop.train(
        pairs_of(cards, given), settings, name, watch=None if watcher is None else watcher.kept, known=known
    )


def _told(found: dict[tuple[str, float], list[float]], name: str, rate: float, given: Answers, tuned: Tuned) -> None:
    """How well the metrics of this training tell planted answers, over the later half of its visits."""
    watched: Mapping[str, Tensor] = tuned.watched or {}
    if "rows" not in watched:
        return
    late = slice(len(watched["rows"]) // 2, None)
    planted = given.planted[watched["rows"][late].numpy()]
    for metric, title in _METRICS.items():
        # Each is taken from the training that it steers.
        if (metric == "score") == (METHODS[name].variant == ""):
            value = auroc(watched[metric][late].double().numpy(), planted)
            found.setdefault((title, rate), []).append(value)


def _report(
    argv: Sequence[str],
    options: argparse.Namespace,
    gains: Mapping[tuple[str, float], Sequence[Gain]],
    found: Mapping[tuple[str, float], Sequence[float]],
    spent: float,
) -> str:
    rows = []
    for name in options.methods:
        clean = gains.get((_CLEAN.get(METHODS[name].loss, _CLEAN["dpo"]), 0.0))
        for rate in options.rates:
            if (name, rate) in gains:
                rows.append([name, f"{100 * rate:.0f} %", *_cells(gains[name, rate], clean, options.seed)])
    header = ["method", "turned over", "gain, SD of utility", "share of the clean gain, %", "wins, %", "kept, %"]
    titles = list(dict.fromkeys(name for name, _ in found))
    rates = [rate for rate in options.rates if rate]
    told = [[title, *(_mean(found.get((title, rate)), options.seed) for rate in rates)] for title in titles]
    return "\n".join(
        [
            f"{options.utilities} utilities, {options.pairs} comparisons each of one utility whose noise lets it agree "
            f"with 87 % of them; {options.steps} steps of {options.batch} pairs, rank {options.rank}, rate "
            f"{options.learning_rate:g}, beta {options.beta or BETAS['dpo']:g}; {options.prompts} prompts, "
            f"{options.sampling} sampling "
            "steps; the clean gain is MaPO's for MaPO, DPO's for the others; 95 % bootstrap interval over utilities:\n",
            markdown(header, rows),
            "How often a planted answer looks odder than another (area under the curve):\n",
            markdown(["measure", *(f"{100 * rate:.0f} %" for rate in rates)], told),
            f"{spent / 60:.0f} minutes. " + provenance("flips", argv, options.seed),
        ]
    )


def _cells(found: Sequence[Gain], clean: Sequence[Gain] | None, seed: int) -> list[str]:
    gain = np.array([one.gain for one in found])
    share = "–"
    if clean is not None and len(clean) == len(found):
        whole = np.array([one.gain for one in clean])
        share = _ratio(gain, whole, seed)
    wins, kept = (np.array([getattr(one, name) for one in found]) for name in ("wins", "kept"))
    return [
        with_interval(gain, seed, "{:+.2f}"),
        share,
        with_interval(100 * wins, seed, "{:.0f}"),
        f"{100 * kept.mean():.0f}",
    ]


def _ratio(gain: Array, whole: Array, seed: int, resamples: int = 2000) -> str:
    """Sum over sum, trainings drawn again together."""
    drawn = np.random.default_rng(seed).integers(0, len(gain), (resamples, len(gain)))
    below = whole[drawn].mean(axis=1)
    shares = 100 * gain[drawn].mean(axis=1) / np.where(np.abs(below) > 1e-9, below, np.nan)
    low, high = np.nanpercentile(shares, [2.5, 97.5])
    return f"{100 * gain.mean() / whole.mean():.0f} ({low:.0f} to {high:.0f})"


def _mean(values: Sequence[float] | None, seed: int) -> str:
    return "–" if not values else with_interval(np.array(values), seed, "{:.2f}")


def _methods(text: str) -> list[str]:
    parts = [part.strip().lower() for part in text.split("|")]
    # A whole name is that method alone: "dpo" is part of most.
    whole = {name.lower() for name in METHODS} & set(parts)
    meant = {name: [part for part in parts if part in name.lower()] for name in METHODS}
    names = [name for name, found in meant.items() if name.lower() in whole or set(found) - whole]
    if not names:
        raise argparse.ArgumentTypeError(f"{text}; expected parts of: {'; '.join(METHODS)}")
    return names


def _rates(text: str) -> tuple[float, ...]:
    rates = tuple(float(part) for part in text.split(","))
    if not all(0.0 <= rate < 0.5 for rate in rates):
        raise argparse.ArgumentTypeError(f"{text}; expected shares in [0, 0.5), with commas between")
    return rates


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = common_options("flips", __doc__, "two short trainings, to see that it works")
    parser.add_argument("--utilities", type=positive, default=4, help="each a training of its own")
    parser.add_argument("--pairs", type=positive, default=400)
    parser.add_argument("--rates", type=_rates, default=(0.0, 0.1, 0.2, 0.3), metavar="0,0.1,...")
    parser.add_argument("--methods", type=_methods, default=list(METHODS), help="only these, parts of names, a|b|c")
    parser.add_argument("--only-noisy", action="store_true", help="of clean answers DPO and MaPO alone learn")
    training_options(parser)
    parser.add_argument("--beta", type=float, default=None, help="of all losses but MaPO; by default DPO's")
    return parsed(parser, argv, {"utilities": 1, "pairs": 8, "steps": 2, "batch": 2})
