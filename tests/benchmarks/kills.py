"""Kill -9 at random moments of a session that clicks, learns, saves and trains; then look at what is there.

    python tests/benchmarks/kills.py --kills 500 --seed 0

Every process does one thing after the other and says so on a pipe once it is done: an answer given, a taste learned
and saved (as a file, as a picture), a step of a training whose checkpoint is written each time. After each kill: every
answer that was said to be given is in the store with its pictures, once; every file under a name of its own can be
read; and the training goes on where it stood. At the end of each training, killed all the while, its weights are those
of one that never was, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.files import load_taste, save_taste, save_taste_picture
from palate.adapters.finetune.checkpoint import read_checkpoint
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora
from palate.adapters.finetune.noising import noising_of
from palate.adapters.finetune.prepared import Prepared
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.finetune.step import Denoiser
from palate.adapters.steering.pipelines import load_pipeline
from palate.adapters.taste import fit_taste
from PIL import Image

HELPERS = Path(__file__).parents[1] / "unit" / "steering_models.py"
SETTINGS = TrainSettings(loss="dpo", steps=150, batch=2, rank=2, learning_rate=1e-3, check_every=50, save_every=1)
LONGEST = 1.5  # seconds that a process lives


@dataclass(frozen=True)
class Encoder:
    """Colours as vectors."""

    identity: str = "k" * 64
    name: str = "colours"
    dim: int = 3
    text_projection: None = None

    def encode_images(self, images: Sequence[Image.Image]) -> Any:
        """(N, 3) mean colours, unit norm."""
        colours = np.stack([np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) + 1.0 for image in images])
        return torch.from_numpy(colours / np.linalg.norm(colours, axis=1, keepdims=True))


@dataclass
class Seen:
    """What was acknowledged so far."""

    answers: dict[int, tuple[str, str]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    steps: int = 0

    def hear(self, line: str) -> None:
        """Take one acknowledgement."""
        kind, *rest = json.loads(line)
        if kind == "answer":
            self.answers[rest[0]] = (rest[1], rest[2])
        elif kind == "file":
            self.files.add(rest[0])
        else:
            self.steps = max(self.steps, rest[0])


def session(home: Path, denoiser: Denoiser, data: Prepared, say: Any, seed: int) -> None:
    """What a process does until it is killed or the training is done."""
    rng = random.Random(seed)
    store = PreferenceStore(home / "store")

    def live(step: Any) -> None:
        say("step", step.step)
        colours = [tuple(rng.randrange(256) for _ in range(3)) for _ in range(2)]
        left, right = (store.add_image(Image.new("RGB", (8, 8), colour)) for colour in colours)
        added = store.add(Comparison("mara", left, right, rng.choice(("left", "right", "tie"))))
        say("answer", added.id, left, right)
        if rng.random() < 0.3:
            taste = fit_taste(store, Encoder(), "mara")
            name = f"mara-{rng.randrange(20)}"
            file = save_taste(taste, home / "tastes" / f"{name}.safetensors")
            say("file", str(file))
            if rng.random() < 0.2:
                say("file", str(save_taste_picture(taste, home / "tastes" / f"{name}.png")))

    train_lora(denoiser, add_lora(denoiser.unet, 2), data, None, SETTINGS, home / "training", on_step=live)


def check(home: Path, seen: Seen, deep: bool) -> None:
    """Raise AssertionError where anything that was acknowledged is gone, twice or broken.

    Args:
        home: Where it all lies.
        seen: What was acknowledged.
        deep: Whether every picture is opened, too.
    """
    with PreferenceStore(home / "store") as store:
        comparisons = store.comparisons("mara")
        kept = {one.id: (one.left, one.right) for one in comparisons}
        assert len(kept) == len(comparisons), "an answer is there twice"
        for number, sides in seen.answers.items():
            assert kept.get(number) == sides, f"answer {number} was acknowledged and is gone"
            assert not deep or all(store.image(side).size == (8, 8) for side in sides)
        assert store.count("mara") == len(comparisons)
    for file in (home / "tastes").glob("[!.]*"):
        assert load_taste(file).person == "mara", file
    for name in seen.files:  # or a later one of the same name, that was finished before the kill and not said
        assert Path(name).is_file(), f"{name} was acknowledged and is gone"
    state = read_checkpoint(home / "training")
    step = 0 if state is None else int(state["step"])
    assert step + 1 >= seen.steps, f"the training stood at step {seen.steps}, its checkpoint at {step}"


def main() -> int:
    """Run the sessions and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)  # threads don't survive a fork
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        began = time.monotonic()
        seen, kills, trainings = sessions(home, given.kills, given.seed)
        check(home, seen, deep=True)
        junk = len(list(home.rglob(".palate-*"))) + len(list(home.rglob(".checkpoint-*")))
        trained = f"{trainings} trainings of {SETTINGS.steps} steps to the end with the weights of one never killed"
        print(
            f"{kills} kills in {time.monotonic() - began:.0f} s: {len(seen.answers):,} answers and {len(seen.files)} "
            f"files acknowledged, none lost, doubled or broken; {trained}; {junk} unfinished files left lying about "
            f"(seed {given.seed})"
        )
    return 0


def sessions(home: Path, kills: int, seed: int) -> tuple[Seen, int, int]:
    """Start and kill processes; return what was acknowledged, kills and finished trainings."""
    tiny = SimpleNamespace(**runpy.run_path(str(HELPERS)))
    folder = tiny.write_pipeline(home / "model")
    generator = torch.Generator().manual_seed(0)
    sides = 0.2 * torch.randn(2, 6, 4, 8, 8, generator=generator)
    tokens = torch.randn(3, 77, tiny.WIDTH, generator=generator)
    data = Prepared(tuple(sides[0]), tuple(sides[1]), tuple(k % 2 for k in range(6)), tokens)
    denoiser = _denoiser(folder)
    never = _final(home / "never", _denoiser(folder), data)
    rng, seen, done, trainings = random.Random(seed), Seen(), 0, 0
    while done < kills:
        killed = _one(home, denoiser, data, seen, rng)
        done += killed
        check(home, seen, deep=done % 50 == 0)
        if not killed:
            state = read_checkpoint(home / "training")
            assert state is not None
            same = zip(state["parameters"], never, strict=True)
            assert all(torch.equal(mine, other) for mine, other in same), "a killed training ended elsewhere"
            trainings, seen.steps = trainings + 1, 0
            (home / "training" / "checkpoint.pt").unlink()
    return seen, done, trainings


def _one(home: Path, denoiser: Denoiser, data: Prepared, seen: Seen, rng: random.Random) -> bool:
    """One process; whether it was killed."""
    reading, writing = os.pipe()
    seed, life = rng.randrange(1 << 30), LONGEST * rng.random()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            say = lambda *told: os.write(writing, (json.dumps(told) + "\n").encode())  # noqa: E731
            session(home, denoiser, data, say, seed)  # after the fork its own: the next one finds it untouched
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, encoding="utf-8") as told:
        started = told.readline()  # its life begins with its first step
        time.sleep(life)
        os.kill(child, signal.SIGKILL)
        lines = [started, *told]
    _, status = os.waitpid(child, 0)
    for line in lines:
        if line.endswith("\n"):
            seen.hear(line)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "a session ended with an error"
    return os.WIFSIGNALED(status)


def _denoiser(folder: Path) -> Denoiser:
    pipeline = load_pipeline(folder, torch.float32).pipeline
    return Denoiser(pipeline.unet, noising_of(pipeline.scheduler), torch.device("cpu"), torch.float32)


def _final(home: Path, denoiser: Denoiser, data: Prepared) -> list[torch.Tensor]:
    train_lora(denoiser, add_lora(denoiser.unet, 2), data, None, SETTINGS, home)
    state = read_checkpoint(home)
    assert state is not None
    found: list[torch.Tensor] = state["parameters"]
    return found


if __name__ == "__main__":
    sys.exit(main())
