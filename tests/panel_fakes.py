"""A quick stand-in for the panel's model and encoder; run as a script it is a whole panel for the browser tests.

python tests/panel_fakes.py STORE [PORT]      prints the panel's address, and ends when its standard input is closed
"""

import contextlib
import hashlib
import os
import random
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import CancelledError, FileFormatError, PPDError
from palate.adapters.finetune.protocol import Finished, LeftOut, Prepared, Sampled, Stepped
from palate.adapters.places import palate_home
from palate.adapters.ppd import User
from palate.adapters.steering import METHODS
from palate.adapters.taste import Suspect, Word
from palate.ui.panel.easel import Facts
from palate.ui.panel.tools import Tools, real_tools
from PIL import Image

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
}
PROMPTS = ("a red star", "a blue fish", "two green trees")


class FakePainter:
    """Paints a plain colour that depends on prompt and seed; a taste makes it brighter."""

    name = "fake"

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps
        self.asked: list[tuple[str, int]] = []
        self.options: dict = {}
        self.gate = threading.Event()
        self.gate.set()

    def images(self, prompt, seeds, taste=None, strength=1.0, on_step=None, cancelled=None, **options):
        followed = (taste is not None and strength) or (options.get("user") is not None and options["user_strength"])
        for step in range(self.steps):
            self.gate.wait(10)
            if cancelled and cancelled():
                raise CancelledError("Stopped.")
            if on_step:
                on_step(step + 1, self.steps)
        self.options = options
        self.asked += [(prompt, seed) for seed in seeds]
        return [self._paint(prompt, seed, 40 if followed else 0) for seed in seeds]

    def _paint(self, prompt, seed, brighter):
        digest = hashlib.sha256(f"{prompt}/{seed}".encode()).digest()
        low, high = np.array([list(digest[:3]), list(digest[3:6])], dtype=np.float64)
        ramp = np.linspace(0, 1, 64)[:, None, None]
        pixels = np.broadcast_to(low * (1 - ramp) + high * ramp + brighter, (64, 64, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class FakeEncoder:
    """A picture's four corner colours, unit norm."""

    identity = "fa4e" * 8
    name = "fake"
    dim = 12
    logit_scale = 10.0
    has_text = True

    def encode_texts(self, texts):
        """A sentence that ends with a colour is that colour all over, any other is grey."""
        grey = (127, 127, 127)
        colours = [np.tile(COLOURS.get(text.split()[-1], grey), 4).astype(np.float32) - 127 for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.stack(colours)), dim=1)

    def encode_images(self, images):
        small = [
            np.asarray(image.convert("RGB").resize((2, 2)), dtype=np.float32).reshape(-1) - 127 for image in images
        ]
        return torch.nn.functional.normalize(torch.tensor(np.stack(small)) + 1e-3, dim=1)


def check_name(name):
    """Refuse one word, as the real one refuses all that CLIP knows."""
    if name in ("", "star"):
        raise FileFormatError(f"Cannot call it {name!r}: CLIP knows that word. Choose another name.")


def embed(painter, tastes, prompts, on_step, cancelled):
    """Train nothing, in three steps."""
    for step in range(3):
        painter.gate.wait(10)
        if cancelled():
            raise CancelledError("Stopped.")
        on_step(step + 1, 3)
    return SimpleNamespace(vectors={}, effect={"degrees": 20.0})


def save_embedding(embedding, path):
    path.write_bytes(b"an embedding")
    return path


class FakePPD:
    """Knows its own users from others."""

    identity, image_encoder = "9bd0" * 8, ""

    def takes(self, user):
        if user.ppd != self.identity:
            raise PPDError(f"Cannot use the embedding of {user.person!r}: it was made by the PPD {user.ppd!r}.")


class FakeTrainer:
    """Trains nothing, in so many steps; `pace` is how long one takes, in seconds, unless it goes on with a training."""

    def __init__(self, steps: int = 20, pace: float = 0.0) -> None:
        self.steps, self.pace = steps, pace
        self.last: int | None = None  # the step after which it waits to be stopped
        self.asked: list[list[str]] = []
        self.reached: dict[str, int] = {}
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, arguments, on_event, cancelled):
        self.asked.append(arguments)
        given = dict(word[2:].split("=", 1) for word in arguments if "=" in word)
        name, chance = given["name"], random.Random(0)
        first = 0 if "--anew" in arguments else self.reached.get(name, 0)
        if "--no-drop-doubted" not in arguments:
            with PreferenceStore.existing(given["store"]) as store:
                one = next(c for c in store.comparisons(given["person"]) if c.chosen)
            told = "Left out: 1 of 34 answers, which a taste of the others doubts."
            on_event(LeftOut(1, 34, told, "doubted.jsonl", ((one.chosen, one.rejected),)))
        on_event(Prepared(4, 4))
        self._sample(name, 0, on_event)
        for step in range(first + 1, self.steps + 1):
            self.gate.wait(10)
            while self.last == step - 1 and not cancelled():
                time.sleep(0.005)
            if cancelled():
                raise CancelledError("Training stopped.")
            if self.pace and not first:
                time.sleep(self.pace)
            share = step / self.steps
            look = {"accuracy": 0.5 + 0.3 * share, "log_loss": 0.7 - 0.1 * share, "chosen_error": 1.0}
            margin = 0.6 * share + chance.gauss(0, 0.2)
            told = look if step % min(10, max(1, self.steps // 10)) == 0 else None
            on_event(Stepped(step, self.steps, 0.7 - margin / 2, margin, 0.5, (1 - share) * 90, told))
            self.reached[name] = step
        self._sample(name, self.steps, on_event)
        self.reached[name] = 0
        file = palate_home() / "loras" / f"{name}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"a LoRA")
        return Finished(str(file), "On 15 comparisons it did not see, it was right in 80 %.", True, self.steps)

    def _sample(self, name, step, on_event):
        folder = palate_home() / "training" / name / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{step}-{number}.png" for number in range(2)]
        for number, file in enumerate(files):
            FakePainter()._paint("sample", number, 60 if step else 0).save(file)
        on_event(Sampled(step, tuple(str(file) for file in files)))


def fake_tools(painter=None, **changes):
    """The real learning on a fake model and a fake encoder."""
    painter, ppd = painter or FakePainter(), FakePPD()
    real = real_tools("playground", None, "cpu")
    values = {name: getattr(real, name) for name in Tools.__dataclass_fields__}
    values |= {
        "painter": lambda: painter,
        "encoder": FakeEncoder,
        "prompts": lambda: PROMPTS,
        "words": lambda: [Word(name, "colour", f"all {name}") for name in COLOURS],
        "moved": lambda painter, prompt, taste, strength, settings: (
            strength * (12.0 if settings.method in ("auto", "encoder") else 6.0)
        ),
        "facts": lambda painter: Facts("fake", ("auto", *METHODS[:3]), 3, 7.5, 64, 64),
        "more_encoders": tuple,
        "check_embedding_name": check_name,
        "embed": embed,
        "save_embedding": save_embedding,
        "second_look": lambda store, encoder, person, most, half_life=None: [
            Suspect(one, 0.9) for one in store.comparisons(person)[:2]
        ],
        "ppd": lambda painter: ppd,
        "user": lambda store, encoder, person, ppd: User(
            torch.full((2, 3), float(store.count(person))), ppd.identity, person=person, pairs=store.count(person)
        ),
        "model": "fake",
        "device": None,
        "trainer": lambda: Path(sys.executable),
        "train": FakeTrainer(1000, 0.1),
        "repeat": lambda store, person: None,  # what comes next must not depend on how much was answered
    }
    return Tools(**(values | changes))


def picture(seed: int) -> Image.Image:
    """Some picture, another one for every seed."""
    return FakePainter()._paint("picture", seed, 0)


def answer_some(store, person="me", number=12, seed=0):
    """Store answers of somebody who likes red."""
    chance = random.Random(seed)
    for _ in range(number):
        left, right = (picture(chance.randrange(10_000)) for _ in range(2))
        redder = np.asarray(left)[..., 0].mean() > np.asarray(right)[..., 0].mean()
        ids = store.add_image(left), store.add_image(right)
        store.add(Comparison(person, *ids, "left" if redder else "right"))


@contextlib.contextmanager
def panel_here(folder, people=(), rules=None):
    """A panel in this process, in a folder of its own, where each of these people gave some answers; gives it."""
    from palate.ui.panel.server import Panel
    from palate.ui.panel.studio import Studio

    places = {"PALATE_HOME": str(folder / "home"), "GRADIO_TEMP_DIR": str(folder / "gradio")}
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        panel = Panel(Studio(folder / "store", fake_tools()), port=0, rules=rules)
        for person, number in people:
            answer_some(panel.studio.store, person=person, number=number)
        thread = threading.Thread(target=panel.run, daemon=True)
        thread.start()
        yield panel
        panel.stop()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


if __name__ == "__main__":
    from palate.ui.panel.server import Panel
    from palate.ui.panel.studio import Studio

    panel = Panel(Studio(sys.argv[1], fake_tools()), port=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    threading.Thread(target=lambda: (sys.stdin.read(), panel.stop()), daemon=True).start()
    sys.stdout.write(f"{panel.url}\n")
    sys.stdout.flush()
    panel.run()
