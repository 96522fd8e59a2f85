"""The paper's open questions beside `bt-accuracy`'s table: how to step, and what another encoder sees.

(Gallego 2023 leaves three: more comparisons, other encoders, other steps. The first is `--support 100,200,500`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..encoders import ImageTextEncoder, load_encoder
from ..playground.folder import load_clip_state
from ..steering.embedding import preference_gradient
from ._samples import Sample
from ._tables import Array, bootstrap_interval, markdown

__all__ = ["RANDOM", "encoder_table", "other_encoders", "step_log_odds", "step_table"]

STEPS = (1, 3, 7, 20)
REACHES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # step size x logit scale, for x of length 1
SCALES = (1.0, 10.0, 100.0)
RANDOM = "ViT-S-32"  # of open_clip; small, so that it encodes in seconds


def step_log_odds(learn: Sample, count: int, test: Sample, steps: int, reach: float, scale: float) -> Array:
    """(T,) log-odds after so many closed-form steps from each caption's x, as `adapt_text_embedding` takes them."""
    chosen, rejected = (torch.from_numpy(side[:count]) for side in (learn.chosen, learn.rejected))
    x = torch.from_numpy(test.text)
    for _ in range(steps):
        x = x - reach / scale * preference_gradient(x, chosen, rejected, scale)
    return np.asarray((x.numpy() * test.difference).sum(axis=1))


def step_table(tuning: Sequence[Sample], tested: Sequence[Sample], count: int) -> str:
    """Accuracy of the closed form by steps, logit scale and step size, after `count` answers.

    Every cell is of the people tested; the star is where it is best for the people to tune on, the one to believe.
    """
    settings = [(steps, scale, reach) for steps in STEPS for scale in SCALES for reach in REACHES]

    def mean(people: Sequence[Sample], setting: tuple[int, float, float]) -> float:
        steps, scale, reach = setting
        return float(np.mean([_accuracy(s, step_log_odds(s, count, s, steps, reach, scale)) for s in people]))

    best = max(settings, key=lambda setting: mean(tuning, setting)) if tuning else None
    rows = []
    for steps in STEPS:
        for scale in SCALES:
            cells = []
            for reach in REACHES:
                setting = (steps, scale, reach)
                cells.append(f"{100 * mean(tested, setting):.1f}" + (" *" if setting == best else ""))
            rows.append([f"{steps} step{'s' * (steps > 1)}, logit scale {scale:g}", *cells])
    header = ["step size x logit scale", *(f"{reach:g}" for reach in REACHES)]
    return (
        f"Accuracy in % of the closed form after {count} answers; the star is the setting that is best for the "
        f"{len(tuning)} others:\n\n" + markdown(header, rows)
    )


def other_encoders(encoder: ImageTextEncoder) -> Iterator[tuple[str, ImageTextEncoder]]:
    """What to compare an encoder with: the playground's image tower before its projection, and random weights.

    Raises:
        EncoderError: open_clip isn't installed.
    """
    yield encoder.name, encoder
    state = {name: tensor for name, tensor in load_clip_state().items() if name.startswith("vision_model.")}
    width = int(state["vision_model.post_layernorm.weight"].shape[0])
    state["visual_projection.weight"] = torch.eye(width)
    yield "playground, before the projection", ImageTextEncoder(state, "unprojected", load_encoder("playground").facts)
    yield f"open_clip {RANDOM}, random weights: a lower bound", _random_encoder()


def _random_encoder() -> ImageTextEncoder:
    import open_clip

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = dict(open_clip.create_model(RANDOM, pretrained=None).state_dict())
    return ImageTextEncoder(state, "random")


def encoder_table(found: Sequence[tuple[str, int, dict[str, Array], float]], count: int, seed: int) -> str:
    """Accuracy by encoder.

    Args:
        found: Name, width, per-person accuracies (P,) by method, and seconds spent on encoding.
        count: Answers learned from.
        seed: Of the intervals.
    """
    methods = list(found[0][2])
    rows = []
    for name, width, accuracy, seconds in found:
        cells = []
        for method in methods:
            low, high = bootstrap_interval(accuracy[method], seed)
            cells.append(f"{100 * accuracy[method].mean():.1f} ({100 * low:.1f} to {100 * high:.1f})")
        rows.append([name, str(width), *cells, f"{seconds:.0f}"])
    header = ["encoder", "width", *methods, "seconds to encode"]
    return f"Accuracy in % after {count} answers, by what sees the pictures:\n\n" + markdown(header, rows)


def _accuracy(sample: Sample, log_odds: Array) -> float:
    hits = np.where(log_odds == 0.0, 0.5, (log_odds > 0.0) == sample.left)
    return float(hits.mean())
