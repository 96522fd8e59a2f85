"""`palate study bt-generation`: whether pictures steered by a taste are liked better (Gallego 2023, arXiv:2308.07929).

Each person teaches a taste with N answers and then gets a share of the held-out prompts, of which every arm paints a
picture from the same seed. Who likes what is said by each person's true utility, measured from the pixels by formula;
no learned model judges. The prompt counts as kept when everything that it names is measured right.

- original; and the best of k seeds by true utility (an oracle) and by the learned taste (ranking).
- every way of steering that the model has and every objective, by the person's own taste; a portable embedding.
- liked words: the prompt says more, as `palate prompt` makes it, or the negative prompt; and both at once.
- a user: the denoiser is told who it is for, by a PPD that reads the same answers; and with words and steering.
- in words: the same, by what a caption of the world would say, in its own form: what text can reach.
- a stranger's taste, and one from PERFECT noiseless answers: what is lost by few and noisy answers.

How far to turn is tuned for each arm on other people and other prompts, with as many settings tried for each: the
highest utility among those that keep KEEP of the prompts that the original keeps.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from ..comparisons import PreferenceStore
from ..errors import SteeringError
from ..files.ppd_file import load_ppd
from ..playground import playground_folder
from ..playground.captions import sample_caption
from ..playground.training.cards import held_out_cards, training_cards
from ..ppd.model import PPD
from ..steering import Generator, SteeringSettings
from ._generation import PLAIN, Arm, Study
from ._generation_report import report
from ._options import positive
from ._painter import Painter
from ._samples import draw_pool
from ._voters import Voter, simulated_voters, stored_voters
from ._votes import prompt_kept

__all__ = ["ARMS", "KEEP", "chosen_arms", "run", "tuned"]

TURNS = (8.0, 12.0, 18.0, 27.0, 40.0)  # degrees
KEEP = 0.95
_PRACTICE = 24  # prompts that an embedding is trained on


def _arm(name: str, method: str, objective: str, whose: str = "own", as_tuned: str = "", main: bool = False) -> Arm:
    return Arm(name, SteeringSettings(method=method, objective=objective, limit=180.0), whose, as_tuned, main=main)


MAIN, POSITIVE, BEST = "encoder, Bradley-Terry", "encoder, positive only", "encoder, direction"
ARMS = (
    _arm(POSITIVE, "encoder", "positive", main=True),
    _arm(MAIN, "encoder", "bradley_terry", main=True),
    _arm(BEST, "encoder", "direction", main=True),
    _arm("token_input, positive only", "token_input", "positive"),
    _arm("token_input, Bradley-Terry", "token_input", "bradley_terry"),
    _arm("token_input, direction", "token_input", "direction"),
    _arm("eos_token, Bradley-Terry", "eos_token", "bradley_terry"),
    _arm("eos_token, direction", "eos_token", "direction"),
    Arm("portable embedding"),
    Arm("one liked word", liked=1),
    Arm("two liked words", liked=2, main=True),
    Arm("two disliked words in the negative prompt", disliked=2),
    Arm("two liked words, two disliked", liked=2, disliked=2, main=True),
    replace(_arm("encoder, direction, two liked words", "encoder", "direction", main=True), liked=2),
    Arm("a user (PPD)", user=1.0, main=True),
    Arm("a user, two liked words", user=1.0, liked=2, main=True),
    Arm("a user at 0.7, two liked words", user=0.7, liked=2, main=True),
    Arm("a user at 0.5, two liked words", user=0.5, liked=2, main=True),
    replace(_arm("a user, direction, two liked words", "encoder", "direction", main=True), user=1.0, liked=2),
    Arm("in words: one more property", words=1),
    Arm("in words: two more properties", words=2),
    _arm("a stranger's taste", "encoder", "direction", "stranger", BEST),
    _arm("a perfect taste", "encoder", "direction", "perfect", BEST),
)
# Also the best of several seeds.
RANKED = (
    BEST,
    "two liked words",
    "encoder, direction, two liked words",
    *(f"a user{strength}, two liked words" for strength in ("", " at 0.7", " at 0.5")),
)
POOLED = _arm("pooled, direction", "pooled", "direction")  # where the model takes a pooled vector


def chosen_arms(parts: Sequence[str], pooled: bool) -> list[Arm]:
    """Arms with one of these parts in their name, and those that they are tuned as; all when there are none."""
    arms = [*ARMS, POOLED] if pooled else list(ARMS)
    picked = [arm for arm in arms if not parts or any(part in arm.name for part in parts)]
    names = {arm.name for arm in picked} | {arm.as_tuned for arm in picked}
    if not picked:
        raise SteeringError(
            f"Cannot run the study on {'|'.join(parts)!r}: no arm is called so; expected one of: "
            f"{', '.join(arm.name for arm in arms)}. Give a part of a name to --arms."
        )
    return [arm for arm in arms if arm.name in names]


def tuned(study: Study, arms: Sequence[Arm], turns: Sequence[float], seeds: int = 1) -> dict[str, float]:
    """The turn of each arm: of those that keep KEEP of the prompts, the one people gain most by; else the smallest."""
    original, spread = study.original(seeds), study.spread()[:, None]
    best: dict[str, float] = {}
    for arm in arms:
        if arm.as_tuned:
            best[arm.name] = best[arm.as_tuned]
            continue
        found = {turn: study.look(arm, turn) for turn in turns}
        gains = {
            turn: float(((outcome.utility - original.alike(outcome).utility) / spread).mean())
            for turn, outcome in found.items()
            if prompt_kept(outcome, original) >= KEEP
        }
        best[arm.name] = max(gains, key=lambda turn: gains[turn]) if gains else min(turns)
    return best


def run(argv: Sequence[str]) -> int:
    """Run the study and print its tables; returns the exit status."""
    options, started = _options(argv), time.perf_counter()
    generator = Generator(options.model, encoder=options.encoder)
    if generator.encoder is None:
        raise SteeringError(
            f"Cannot run the study on {generator.name!r}: it comes without a CLIP; expected the one that its text "
            "encoder belongs to. Name it with --encoder."
        )
    painter = Painter(generator, options.bfloat16)
    tuning, study = _studies(options, painter)
    tuning.ppd = study.ppd = _ppd(options)
    arms = chosen_arms(options.arms, generator.conditioner.takes_pooled)
    arms = [arm for arm in arms if not arm.user or study.ppd is not None]
    turning = [arm for arm in arms if arm.turns]
    turns = {arm.name: options.turns[0] for arm in turning}
    if tuning.voters:
        turns = tuned(tuning, turning, options.turns, options.seeds)
    arms = [arm for arm in arms if arm.whose != "perfect" or study.voters[0].perfect is not None]
    arms = [arm for arm in arms if arm.whose != "stranger" or len(study.voters) > 1]
    arms = [arm for arm in arms if not arm.words or options.data is None]
    found = {PLAIN.name: replace(study.original(options.seeds), diversity=study.diversity(PLAIN, 0.0, options.diverse))}
    for arm in arms:
        turn = turns.get(arm.name, 0.0)
        found[arm.name] = replace(study.look(arm, turn), diversity=study.diversity(arm, turn, options.diverse))
    seeds = options.seeds
    found[f"best of {seeds} seeds, ranked by the taste"] = study.best_of(seeds, "taste")
    for arm in (arm for arm in arms if arm.name in RANKED):
        turn = turns.get(arm.name, 0.0)
        ranked = study.best_of(seeds, "taste", replace(arm, main=False), turn)
        found[f"{arm.name}, best of {seeds} seeds, ranked"] = ranked
    found[f"best of {seeds} seeds by true utility (oracle)"] = study.best_of(seeds, "utility")
    sys.stderr.write("\n")
    paint = painter.seconds / max(painter.painted, 1)
    spent = time.perf_counter() - started
    sys.stdout.write(
        report(argv, options, found, study.spread(), (POSITIVE, MAIN), turns, len(tuning.voters), paint, spent)
    )
    return 0


def _ppd(options: argparse.Namespace) -> PPD | None:
    """The file that was asked for, or what comes with the playground."""
    if options.ppd is not None:
        return load_ppd(options.ppd)
    return load_ppd(playground_folder() / "ppd.safetensors") if options.model == "playground" else None


def _studies(options: argparse.Namespace, painter: Painter) -> tuple[Study, Study]:
    """People to tune on, with prompts of their own, and others to test on."""
    encoder, seed = painter.generator.encoder, options.seed
    assert encoder is not None
    if options.data is not None:
        with PreferenceStore.existing(options.data) as store:
            people = stored_voters(store, encoder, options.answers, seed)
        held = len(people) >= 4
        parts = (people[::4] if held else [], [v for i, v in enumerate(people) if not held or i % 4])
        studies = [_stored_study(painter, part, options.share, 1_000_000 * k) for k, part in enumerate(parts)]
        return studies[0], studies[1]
    pool = draw_pool(encoder, options.captions, random.Random(f"bt-generation/{seed}"))
    tested = simulated_voters(encoder, pool, options.people, options.answers, seed)
    others = simulated_voters(encoder, pool, options.tuning_people, options.answers, seed + 10_000)
    prompts = _held_out_prompts(f"bt-generation/{seed}", 10 + seed, options.prompts + options.tuning_prompts)
    mine, theirs = prompts[: options.prompts], prompts[options.prompts :]
    each = max(options.share, -(-len(mine) // len(tested)))
    practice = _practice(seed)
    return (
        Study(
            painter, others, theirs, _shares(len(others), len(theirs), options.tuning_share), 5_000_000, each, practice
        ),
        Study(painter, tested, mine, _shares(len(tested), len(mine), each), 0, options.fewer, practice),
    )


def _stored_study(painter: Painter, voters: list[Voter], share: int, first_seed: int) -> Study:
    """Everybody gets prompts of their own, as many as the one with the fewest has, at most `share`."""
    each = min([share, *(len(voter.prompts) for voter in voters)])
    prompts = [prompt for voter in voters for prompt in voter.prompts[:each]]
    return Study(
        painter, voters, prompts, [[i * each + k for k in range(each)] for i in range(len(voters))], first_seed
    )


def _held_out_prompts(name: str, seed: int, count: int) -> list[str]:
    """Different captions of cards whose subject, colour and background were never trained on together."""
    rng = random.Random(name)
    found: dict[str, None] = {}
    for card in held_out_cards(seed, 4 * count + 20):
        found[sample_caption(card, rng)] = None
        if len(found) == count:
            break
    return list(found)


def _practice(seed: int) -> list[str]:
    """Captions of cards that the models know, for a portable embedding to be trained on."""
    rng = random.Random(f"bt-generation/practice/{seed}")
    return [sample_caption(card, rng) for card in training_cards(rng, _PRACTICE)]


def _shares(people: int, prompts: int, each: int) -> list[list[int]]:
    return [[(person * each + k) % prompts for k in range(min(each, prompts))] for person in range(people)]


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palate study bt-generation", description=(__doc__ or "").split("\n", 1)[0])
    number = positive
    parser.add_argument("--people", type=number, default=40, help="simulated people to test (40)")
    parser.add_argument("--tuning-people", type=number, default=10, help="others to tune on (10)")
    parser.add_argument("--prompts", type=number, default=100, help="held-out prompts, shared out (100)")
    parser.add_argument("--tuning-prompts", type=number, default=30, help="other prompts, for tuning (30)")
    parser.add_argument("--answers", type=number, default=50, help="answers a taste is learned from (50)")
    parser.add_argument("--seeds", type=number, default=4, help="seeds the best is taken of (4)")
    parser.add_argument("--captions", type=number, default=150, help="captions whose cards people compare (150)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="playground", help="playground, a diffusers folder or a checkpoint")
    parser.add_argument("--encoder", default=None, help="the CLIP that goes with it, as palate panel takes it")
    parser.add_argument("--ppd", default=None, help="PPD weights for the arms with a user; the playground's own")
    parser.add_argument("--data", default=None, help="folder of a store: real people, judged by their other answers")
    parser.add_argument("--share", type=number, default=10, help="prompts that a person sees at least (10)")
    parser.add_argument("--fewer", type=number, default=4, help="of these for arms beside the three voted on (4)")
    parser.add_argument("--diverse", type=number, default=10, help="prompts that diversity is measured on (10)")
    parser.add_argument("--turns", type=_degrees, default=TURNS, help="degrees to choose from: 8,12,18,27,40")
    parser.add_argument("--arms", type=_parts, default=(), help="only arms with one of these, a|b|c, in their name")
    parser.add_argument("--bfloat16", action="store_true", help="paint in bfloat16, faster where the processor has it")
    parser.add_argument("--quick", action="store_true", help="a few people and prompts, to see that it works")
    options = parser.parse_args(list(argv))
    options.tuning_share = 5
    if options.quick:
        options.people, options.prompts, options.tuning_people, options.tuning_prompts = 2, 3, 1, 1
        options.captions, options.seeds, options.turns, options.tuning_share, options.diverse = 6, 2, TURNS[:1], 1, 1
    return options


def _degrees(text: str) -> tuple[float, ...]:
    turns = tuple(float(part) for part in text.split(","))
    if not all(0 < turn <= 180 for turn in turns):
        raise argparse.ArgumentTypeError(f"{text}; expected degrees in (0, 180], with commas between")
    return turns


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split("|") if part)
