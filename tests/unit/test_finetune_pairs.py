"""What fine-tuning learns from: noise, pairs, which of them are held out, and how they are judged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import steering_models as tiny
import torch
from finetune_small import CPU, QUICK, prepared
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import FineTuneError, NotEnoughAnswersError
from palate.adapters.finetune.judging import Judgement, surprises
from palate.adapters.finetune.noising import Noising, noising_of
from palate.adapters.finetune.pairs import LabelledPair, pairs_of, split_pairs
from palate.adapters.finetune.prepared import prepare
from palate.adapters.finetune.step import draw_noise
from palate.adapters.finetune.told import Trained
from palate.adapters.steering import TextConditioner
from palate.adapters.steering.pipelines import load_pipeline, prompt_towers
from PIL import Image


def test_noise_and_targets_by_hand() -> None:
    """A quarter of the variance kept: image * 0.5, noise * 0.866; velocity = 0.5 noise - 0.866 image."""
    image, noise, step = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 1.0), torch.tensor([0])
    kept, half = torch.tensor([0.25]), math.sqrt(0.75)
    epsilon, velocity, flow = (Noising(name, kept, 1) for name in ("epsilon", "v_prediction", "flow"))
    assert epsilon.noised(image, noise, step).item() == pytest.approx(1.0 + half)
    assert epsilon.target(image, noise, step).item() == 1.0
    assert velocity.target(image, noise, step).item() == pytest.approx(0.5 - 2 * half)
    assert flow.noised(image, noise, step).item() == pytest.approx(1.0)  # all noise at the last timestep
    assert flow.target(image, noise, step).item() == pytest.approx(-1.0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noising_is_diffusers_own(prediction: str) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=prediction)
    image, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([0, 500, 999])
    ours = noising_of(scheduler)
    assert torch.allclose(ours.noised(image, noise, steps), scheduler.add_noise(image, noise, steps), atol=1e-6)
    wanted = noise if prediction == "epsilon" else scheduler.get_velocity(image, noise, steps)
    assert torch.allclose(ours.target(image, noise, steps), wanted, atol=1e-6)


def test_flow_matching_and_unknown_schedulers() -> None:
    from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

    assert noising_of(FlowMatchEulerDiscreteScheduler()).prediction == "flow"
    with pytest.raises(FineTuneError, match="predicts 'sample'"):
        noising_of(DDPMScheduler(prediction_type="sample"))


def test_timesteps_are_spread_over_the_schedule_or_one_for_all() -> None:
    batch = prepared(8).batch(range(8), CPU)
    noise, steps = draw_noise(batch, 1000, torch.Generator().manual_seed(0), False)
    assert noise.shape == batch.chosen.shape and sorted((steps // 125).tolist()) == list(range(8))
    _, same = draw_noise(batch, 1000, torch.Generator().manual_seed(0), True)
    assert len(set(same.tolist())) == 1


def test_pairs_are_what_the_answers_say(tmp_path: Path) -> None:
    store = PreferenceStore(tmp_path)
    ids = [store.add_image(Image.new("RGB", (8, 8), (40 * k, 0, 0))) for k in range(4)]
    for left, right, outcome in [(0, 1, "left"), (2, 3, "tie"), (0, 2, "skip"), (0, 1, "right"), (2, 1, "right")]:
        store.add(Comparison("me", ids[left], ids[right], outcome, prompt="a star"))
    store.add(Comparison("me", ids[0], "f" * 64, "left"))  # its picture is not here
    store.add(Comparison("me", ids[0], ids[3], "left"))
    store.add(Comparison("me", ids[3], ids[0], "tie"))  # changed their mind
    found = [(pair.chosen.stem, pair.rejected.stem) for pair in pairs_of(store, "me")]
    assert found == [(ids[1], ids[0]), (ids[1], ids[2])]
    with pytest.raises(NotEnoughAnswersError, match="'you': found none"):
        pairs_of(store, "you")


def test_some_pairs_are_held_out_always_the_same_ones() -> None:
    pairs = [LabelledPair(Path(f"{k}a"), Path(f"{k}b")) for k in range(40)]
    kept, held = split_pairs(pairs)
    assert len(held) == 6 and sorted(map(str, kept + held)) == sorted(map(str, pairs))
    assert set(map(str, split_pairs(pairs[::-1])[1])) == set(map(str, held))
    assert split_pairs(pairs[:5]) == (pairs[:5], [])


def test_what_a_ranking_implied_is_trained_on_or_held_out_as_a_whole() -> None:
    """Ten orders of four: 60 pairs, of which nine should be held out; two rankings are the fewest that do."""
    pairs = [
        LabelledPair(Path(f"{number}{left}"), Path(f"{number}{right}"), ranking=number)
        for number in range(10)
        for left, right in ("ab", "ac", "ad", "bc", "bd", "cd")
    ]
    kept, held = split_pairs(pairs)
    assert len(held) == 12 and not {pair.ranking for pair in held} & {pair.ranking for pair in kept}
    assert split_pairs(pairs[:6]) == (pairs[:6], [])  # one answer
    assert len(split_pairs(pairs[:12])[1]) == 6


def test_who_is_trained_on_has_no_picture_of_who_is_held_out() -> None:
    """Chains of three pairs, as where the chosen picture comes again; an even one, whose middle is answered last."""
    chains = [
        LabelledPair(Path(f"{chain}{one}"), Path(f"{chain}{other}"))
        for one, other in ("ab", "cd", "bc")
        for chain in range(12)
    ]
    kept, held = split_pairs(chains)
    pictures = [{picture for pair in side for picture in (pair.chosen, pair.rejected)} for side in (kept, held)]
    assert len(held) == 6 and not pictures[0] & pictures[1]
    assert set(map(str, split_pairs(chains[::-1])[1])) == set(map(str, held))
    # All of them about one picture: then some of those are held out, or nothing would be known.
    best = [LabelledPair(Path("best"), Path(f"{k}")) for k in range(20)]
    assert [len(side) for side in split_pairs(best)] == [17, 3]
    # So many of one picture are trained on, rather than held out for its sake.
    others = [LabelledPair(Path(f"{k}a"), Path(f"{k}b")) for k in range(40)]
    kept, held = split_pairs([*best, *others])
    assert len(held) == 9 and set(map(str, best)) <= set(map(str, kept))


def test_better_than_none_is_said_where_it_is_sure() -> None:
    """Of 10 pairs, 9 right have the interval 0.60 to 0.98, and 8 right 0.49 to 0.94."""

    def told(accuracy: float, log_loss: float = 0.6, held_out: int = 10) -> Trained:
        best = Judgement(3, accuracy, log_loss, 1.0)
        return Trained({}, QUICK, 6, best, (best,), held_out=held_out)

    assert told(0.9).better and "10 comparisons it did not see" in told(0.9).summary
    assert told(0.8).better is None and "too few to be sure" in told(0.8).summary
    assert told(1.0, held_out=3).better is None
    assert told(0.9, log_loss=0.7).better is False and told(0.5).better is False
    assert "none (90 % right, with a surprise of 0.700, where a coin has 0.693)" in told(0.9, log_loss=0.7).summary
    whole = replace(told(0.5), settings=replace(QUICK, full=True)).summary
    assert "this model is no better than it was (50 % right)" in whole


def test_surprise_asks_which_side_and_not_how_far() -> None:
    """Right about three of four alike: the best scale says 0.75 of each, ln 3 = 1.0986, and has their entropy."""
    odds = torch.tensor([1.0, 1.0, 1.0, -1.0])
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert [float(surprises(scale * odds).mean()) for scale in (1e-6, 1.0, 1e6)] == [
        pytest.approx(entropy, abs=1e-3)
    ] * 3
    few = surprises(torch.ones(5))
    assert few.tolist() == pytest.approx([math.log(1 + math.exp(-3))] * 5)  # a few that are right are not certain
    for nothing in (torch.zeros(3), torch.tensor([1.0, -1.0]), torch.tensor([0.5, -1.0])):
        assert surprises(nothing).tolist() == pytest.approx([math.log(2.0)] * len(nothing))


def test_pictures_of_any_shape_become_latents_of_their_bucket(folder: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(folder, torch.float32).pipeline
    sizes = {"square": (20, 20), "wide": (40, 20), "tall": (10, 20)}
    for name, size in sizes.items():
        Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    pairs = [LabelledPair(tmp_path / f"{a}.png", tmp_path / f"{b}.png", "a star") for a, b in
             [("square", "wide"), ("wide", "wide"), ("tall", "square")]]  # fmt: skip
    found = prepare(pairs, pipeline.vae, TextConditioner(prompt_towers(pipeline)), 32, 8)
    shapes = [tuple(latents.shape[1:]) for latents in found.chosen]
    assert shapes == [(16, 16), (12, 20), (20, 12)] and [tuple(x.shape[1:]) for x in found.rejected] == shapes
    assert [tokens.shape for tokens in found.tokens] == 2 * [(77, tiny.WIDTH)] and found.prompts == (0, 0, 0)
    flat = pipeline.vae.encode(torch.full((1, 3, 32, 32), 90 / 127.5 - 1)).latent_dist.mean[0]
    assert torch.allclose(found.chosen[0], flat * pipeline.vae.config.scaling_factor, atol=1e-5)
