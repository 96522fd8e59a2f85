"""The training loop and its checkpoints."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from finetune_small import CPU, QUICK, prepared, trained
from palate.adapters.errors import CancelledError, FineTuneError
from palate.adapters.finetune.annotators import PastSelves
from palate.adapters.finetune.checkpoint import only_training
from palate.adapters.finetune.drawing import Draw
from palate.adapters.finetune.gradients import KnownOfPairs
from palate.adapters.finetune.judging import Judge, Judgement
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora
from palate.adapters.finetune.losses import LOSSES
from palate.adapters.finetune.noising import noising_of
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.finetune.step import Denoiser, draw_noise
from palate.adapters.finetune.training import Training
from palate.adapters.steering.pipelines import load_pipeline


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"sft"}))
def test_every_loss_learns_which_side_is_chosen(loss: str, denoiser: Denoiser, tmp_path: Path) -> None:
    data, held = prepared(8, apart=0.5), prepared(6, 1, apart=0.5)
    settings = TrainSettings(loss=loss, steps=30, batch=4, rank=4, learning_rate=1e-2, check_every=10)
    embeddings = (torch.eye(8), torch.eye(8)) if loss == "rpo" else None
    found = train_lora(denoiser, add_lora(denoiser.unet, 4), data, held, settings, tmp_path, KnownOfPairs(embeddings))
    assert found.best is not None and found.best.accuracy >= 0.8 and found.better


def test_a_stopped_training_goes_on_to_the_bit(folder: Path, tmp_path: Path) -> None:
    def fresh() -> Denoiser:
        pipeline = load_pipeline(folder, torch.float32).pipeline
        return Denoiser(pipeline.unet, noising_of(pipeline.scheduler), CPU, torch.float32)

    settings = replace(QUICK, loss="adaptive_dpo")
    at_once = trained(fresh(), tmp_path / "one", settings)
    asked = iter([False, False, False, False, True])
    with pytest.raises(CancelledError, match="go on"):
        trained(fresh(), tmp_path / "two", settings, cancelled=lambda: next(asked))
    in_two = trained(fresh(), tmp_path / "two", settings)
    assert all(torch.equal(value, in_two.state[name]) for name, value in at_once.state.items())
    assert in_two.looks == at_once.looks and in_two.steps == 6


def test_batches_apart_add_up_to_one_large_batch(denoiser: Denoiser, tmp_path: Path) -> None:
    gradients = {}
    for name, parts in {"one": [range(4)], "two": [range(2), range(2, 4)]}.items():
        for loss in ("dpo", "rpo"):
            training = Training(
                denoiser,
                [p for p in denoiser.unet.parameters() if p.requires_grad] if gradients else add_lora(denoiser.unet, 2),
                prepared(),
                None,
                replace(QUICK, loss=loss).settled(6),
                tmp_path,
                KnownOfPairs((tiny.drawn(6, 5), tiny.drawn(6, 5, seed=2))),
            )
            generator = torch.Generator().manual_seed(0)
            noise, steps = torch.randn(4, 4, 8, 8, generator=generator), torch.full((4,), 300)
            drawn = [Draw(tuple(k), training.data.batch(k, CPU), noise[list(k)], steps[list(k)]) for k in parts]
            training.optimizer.zero_grad()
            training.gradients.add(drawn)
            gradients[name, loss] = [parameter.grad.clone() for parameter in training.parameters]
    for loss in ("dpo", "rpo"):
        pairs = zip(gradients["one", loss], gradients["two", loss], strict=True)
        assert all(torch.allclose(one, two, rtol=1e-3, atol=1e-5) for one, two in pairs)


def test_doubts_reach_the_loss_and_a_watcher_sees_every_batch(denoiser: Denoiser, tmp_path: Path) -> None:
    seen: list[list[int]] = []
    found = trained(
        denoiser,
        tmp_path,
        replace(QUICK, loss="cdpo"),
        known=KnownOfPairs(None, torch.full((6,), 0.5), lambda rows, errors, past: seen.append(list(rows))),
    )
    # Of no answer is anything known, so nothing is learned.
    assert all(not value.any() for name, value in found.state.items() if name.endswith(".up"))
    assert len(seen) == 6 and all(len(rows) == 2 for rows in seen)


@pytest.mark.parametrize(("loss", "variant"), [("mapo", "paper_exponent"), ("adaptive_dpo", "released")])
def test_a_variant_is_another_training(folder: Path, tmp_path: Path, loss: str, variant: str) -> None:
    found = []
    for name in ("", variant):
        pipeline = load_pipeline(folder, torch.float32).pipeline
        model = Denoiser(pipeline.unet, noising_of(pipeline.scheduler), CPU, torch.float32)
        settings = replace(QUICK, loss=loss, variant=name, beta=5000.0 if loss == "adaptive_dpo" else 8.0)
        found.append(trained(model, tmp_path / (name or "ours"), settings).state)
    assert any(not torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_past_selves_take_the_policys_place_and_give_it_back(denoiser: Denoiser) -> None:
    parameters = add_lora(denoiser.unet, 2)
    past = PastSelves(parameters)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.5)
    batch = prepared().batch([0, 1], CPU)
    noise, steps = draw_noise(batch, 1000, torch.Generator().manual_seed(0), False)
    before = [parameter.detach().clone() for parameter in parameters]
    now = denoiser.errors(batch, noise, steps, True)
    then = past.errors(denoiser, batch, noise, steps, now)[0]
    assert torch.equal(then.chosen, then.ref_chosen) and not torch.equal(now.chosen, now.ref_chosen)
    assert all(torch.equal(value, parameter) for value, parameter in zip(before, parameters, strict=True))
    past.follow(0)  # a tenth of the way stays: diffusers' averages follow fast at first
    assert torch.allclose(past.averages[0].values[0], parameters[0] - 0.05, atol=1e-6)


def test_what_goes_wrong_is_said_and_the_checkpoint_stays(denoiser: Denoiser, tmp_path: Path) -> None:
    parameters = add_lora(denoiser.unet, 2)
    asked = iter([False, False, True])
    with pytest.raises(CancelledError):
        train_lora(denoiser, parameters, prepared(), None, QUICK, tmp_path, cancelled=lambda: next(asked))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        broken = replace(prepared(), chosen=tuple(torch.full((4, 8, 8), math.nan) for _ in range(6)))
    with pytest.raises(FineTuneError, match="loss is nan at step 3"):
        train_lora(denoiser, parameters, broken, None, QUICK, tmp_path)
    with pytest.raises(FineTuneError, match=r"begun with seed 0 \(now 1\), and .*--anew"):
        train_lora(denoiser, parameters, prepared(), None, replace(QUICK, seed=1), tmp_path)
    with only_training(tmp_path), pytest.raises(FineTuneError, match="another training is at work"):
        train_lora(denoiser, parameters, prepared(), None, QUICK, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(FineTuneError, match="damaged or no checkpoint"):
        train_lora(denoiser, parameters, prepared(), None, QUICK, tmp_path)
    with pytest.raises(FineTuneError, match="no embeddings"):
        train_lora(denoiser, parameters, prepared(), None, replace(QUICK, loss="rpo"), tmp_path / "rpo")


def test_it_stops_when_the_chosen_side_gets_worse(denoiser: Denoiser, tmp_path: Path, monkeypatch) -> None:
    errors = iter([0.99, 1.27, 1.01, 1.27, 1.28])
    monkeypatch.setattr(Judge, "look", lambda _, step: Judgement(step, 0.5, 0.7 + step, next(errors)))
    found = trained(denoiser, tmp_path, replace(QUICK, steps=30))
    assert "worse at the chosen pictures" in found.stopped and found.steps == 15
    assert found.best.step == 3 and found.better is False and "no better than none" in found.summary
    monkeypatch.setattr(Judge, "look", lambda _, step: Judgement(step, 0.5, 0.7, 1.3))
    denoiser.unet.delete_adapters("palate")
    assert trained(denoiser, tmp_path / "whole", QUICK).stopped == ""  # all of its steps were done


def test_of_looks_that_few_pairs_cannot_tell_apart_the_last_is_kept(denoiser: Denoiser, tmp_path: Path, monkeypatch):
    """0.66 is within 0.05 of 0.62 and 0.68 isn't; 0.64 is, but by then it is worse at the chosen pictures."""

    def best_of(costs: list[float], errors: list[float], folder: str) -> int:
        looks = zip(costs, errors, strict=True)
        monkeypatch.setattr(Judge, "look", lambda _, step: Judgement(step, 0.5, *next(looks), uncertainty=0.05))
        found = trained(denoiser, tmp_path / folder, replace(QUICK, steps=3 * len(costs)))
        denoiser.unet.delete_adapters("palate")
        return found.best.step // 3

    fine = [1.0] * 4
    assert best_of([0.69, 0.62, 0.66, 0.68], fine, "later") == 3
    assert best_of([0.60, 0.66, 0.69, 0.67], fine, "worse") == 1
    assert best_of([0.69, 0.62, 0.66, 0.64], [1.0, 1.0, 1.1, 1.3], "chosen") == 3


def test_what_ended_is_told_again_and_makes_room_for_a_training_of_other_pairs(folder: Path, tmp_path: Path) -> None:
    def run(settings: TrainSettings = QUICK, about: str = "first", **more: object):
        pipeline = load_pipeline(folder, torch.float32).pipeline
        model = Denoiser(pipeline.unet, noising_of(pipeline.scheduler), CPU, torch.float32)
        return trained(model, tmp_path, settings, about=about, **more)

    asked = iter([False, False, True])
    with pytest.raises(CancelledError):
        run(cancelled=lambda: next(asked))
    with pytest.raises(FineTuneError, match="begun with another model or other pairs, and stopped"):
        run(about="second")
    whole, steps = run(), []
    again = run(on_step=steps.append)
    assert steps == [] and again.looks == whole.looks
    run(about="second", on_step=steps.append)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]


def test_what_ended_early_is_not_trained_on(denoiser: Denoiser, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Judge, "look", lambda _, step: Judgement(step, 0.5, 0.7 + step, 1.3))
    parameters, steps = add_lora(denoiser.unet, 2), []
    settings = replace(QUICK, steps=30)
    first = train_lora(denoiser, parameters, prepared(), prepared(4, 1), settings, tmp_path)
    again = train_lora(denoiser, parameters, prepared(), prepared(4, 1), settings, tmp_path, on_step=steps.append)
    assert (first.steps, again.steps, steps) == (6, 6, []) and again.stopped == first.stopped != ""


def test_a_seed_of_64_bits_is_one(denoiser: Denoiser, tmp_path: Path) -> None:
    assert trained(denoiser, tmp_path, replace(QUICK, seed=2**64 - 1)).steps == 6


def test_settings_are_chosen_by_how_much_there_is_and_wrong_ones_named() -> None:
    few, many = TrainSettings(loss="dpo").settled(20), TrainSettings(loss="dpo").settled(500)
    assert few.rank < many.rank and few.steps <= many.steps and few.beta == 5000.0
    # Looks at held-out pairs, 8 forward passes each, cost less than half of the steps (3 passes for each pair).
    for pairs in (few, many):
        held, looks = min(60, round(0.15 * (20 if pairs is few else 500))), -(-pairs.steps // pairs.check_every)
        assert looks <= 8 and 8 * held * looks < 0.5 * 3 * pairs.steps * pairs.batch
    with pytest.raises(FineTuneError, match="loss 'dop'; expected one of sft"):
        TrainSettings(loss="dop")
    with pytest.raises(FineTuneError, match="rank is 0; expected 1 to 128"):
        TrainSettings(rank=0)
    for seed in (-1, 2**64):
        with pytest.raises(FineTuneError, match="seed is "):
            TrainSettings(seed=seed)
    with pytest.raises(FineTuneError, match="with dpo: variant 'released'; expected none"):
        TrainSettings(loss="dpo", variant="released")
    with pytest.raises(FineTuneError, match="variant 'paper'; expected one of code, paper_exponent"):
        TrainSettings(loss="mapo", variant="paper")
