"""The training of a PPD: what it is given, the loop, its checkpoint, and several processes."""

from __future__ import annotations

import math
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from palate.adapters.errors import CancelledError, FineTuneError, OutOfMemoryError, PPDError
from palate.adapters.finetune.checkpoint import only_training, read_checkpoint, write_checkpoint
from palate.adapters.finetune.judging import Judgement
from palate.adapters.finetune.noising import Noising
from palate.adapters.finetune.step import Denoiser
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.batches import PersonalDenoiser, Queries, batch_of, spread_queries
from palate.adapters.ppd.data import PreparedPPD, split_people, support_of
from palate.adapters.ppd.diffusers import user_branch
from palate.adapters.ppd.layers import layers_of, width_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.adapters.ppd.settings import PPDSettings
from palate.adapters.ppd.trained import TrainedPPD
from palate.adapters.ppd.training import train_ppd

CPU, D = torch.device("cpu"), 6
QUICK = PPDSettings(steps=5, batch=2, check_every=3, learning_rate=1e-3, save_every=0.0, judged_pairs=4, most=4)
NOISING = Noising("epsilon", torch.linspace(0.99, 0.01, 1000), 1000)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are written after each step here; whether they survive a power cut is not asked."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def unet():
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=tiny.WIDTH,
            norm_num_groups=4,
        ).eval()


def fresh(unet, seed: int = 0) -> PPD:
    attention = UserAttention(layers_of(unet), width_of(unet), seed)
    return PPD(attention, PairsEncoder(D, tiny.WIDTH, tokens=2, hidden=32, layers=1, seed=seed), "playground")


def people(count: int = 6, each: int = 5, seed: int = 0, apart: float = 0.3) -> PreparedPPD:
    """Pictures are shifted up or down; every second person chooses those that are up, the others those that are down.

    The vectors say which is which.
    """
    draw = torch.Generator().manual_seed(seed)
    pictures = 2 * count * each
    up = torch.arange(pictures) % 2 == 0
    latents = 0.3 * torch.randn(pictures, 4, 8, 8, generator=draw)
    latents += apart * (2.0 * up.float() - 1.0)[:, None, None, None]
    vectors = 0.1 * torch.randn(pictures, D, generator=draw)
    vectors[:, 0] += 2.0 * up.float() - 1.0
    rows = []
    for person in range(count):
        for number in range(each):
            first = 2 * (person * each + number)
            rows.append((first + person % 2, first + 1 - person % 2, number % 2, person))
    conditioning = torch.randn(3, 77, tiny.WIDTH, generator=draw)
    names = tuple(f"p{person}" for person in range(count))
    return PreparedPPD(latents, torch.nn.functional.normalize(vectors, dim=1), torch.tensor(rows), conditioning, names)


def trained(unet, folder: Path, settings: PPDSettings = QUICK, ppd: PPD | None = None, **more: object) -> TrainedPPD:
    return train_ppd(ppd or fresh(unet), unet, NOISING, people(), people(4, seed=1), settings, folder, **more)


def weights(ppd: PPD) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in ppd.state_dict().items()}


def alike(one: PPD, other: PPD) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


# -- data


def test_support_is_the_persons_own_and_never_the_pair_itself() -> None:
    data, rng = people(), random.Random(0)
    for index in range(len(data)):
        person = data.pair(index).person
        found = support_of(data, person, index, 16, rng)
        assert sorted([*found, index]) == list(data.pairs_of(person))
    assert len(support_of(data, 0, 0, 2, rng)) == 2


def test_support_has_no_picture_of_the_pair_itself() -> None:
    """Person 0's pairs 0 and 1 share a picture, as in Pick-a-Pic, where the chosen one comes again."""
    data = people()
    rows = data.rows.clone()
    rows[1, 1] = rows[0, 0]
    chained = replace(data, rows=rows)
    assert sorted(support_of(chained, 0, 0, 16, random.Random(0))) == [2, 3, 4]
    two = replace(data, rows=rows[:2], names=("p0",))
    assert support_of(two, 0, 0, 16, random.Random(0)) == [] and len(Queries(two, [0, 1], 4, 0)) == 0


def test_people_are_held_out_by_their_own_hash() -> None:
    names = [f"person {k}" for k in range(200)]
    kept, held = split_people(names, 0.1, 0)
    assert 10 <= len(held) <= 30 and sorted(kept + held) == sorted(names)
    assert split_people(names[::-1], 0.1, 0) == (kept, held)
    assert set(split_people(names[:150], 0.1, 0)[1]) == set(held) & set(names[:150])
    assert split_people(names, 0.1, 1)[1] != held
    assert len(split_people(names[:2], 0.1, 3)[1]) == 1 and split_people(names[:1], 0.1, 0) == (names[:1], [])


def test_pairs_of_some_people_are_those_pairs() -> None:
    data = people()
    some = data.of(["p4", "p1"])
    assert some.people == 2 and len(some) == 10
    assert torch.equal(some.pair(some.pairs_of(0)[0]).chosen, data.pair(data.pairs_of(4)[0]).chosen)


def test_pairs_that_cannot_be_trained_on_are_refused() -> None:
    data = people(2, 2)
    with pytest.raises(PPDError, match="has 1 pairs; expected 2 or more"):
        replace(data, rows=data.rows[:3])
    with pytest.raises(PPDError, match="found no pairs"):
        replace(data, rows=data.rows[:0])
    with pytest.raises(PPDError, match="not among those that were prepared"):
        replace(data, latents=data.latents[:2])


def test_queries_are_spread_over_the_people_and_stay_the_same() -> None:
    data = people(6, 5)
    rows = spread_queries(data, 9, 0)
    counts = torch.bincount(data.rows[rows, 3], minlength=6)
    assert len(rows) == 9 and counts.min() == 1 and counts.max() == 2
    one, two = (Queries(data, rows, 4, 0).batch([0, 1], CPU) for _ in range(2))
    assert torch.equal(one.liked, two.liked) and one.mask.all()


def test_a_batch_has_its_people_beside_it() -> None:
    data = people()
    batch = batch_of(data, [0, 7], [[1, 2], []], CPU, [True, False])
    assert batch.mask.tolist() == [[True, True], [False, False]]
    assert torch.equal(batch.liked[0, 1], data.vectors(2)[0]) and torch.equal(batch.disliked[0, 0], data.vectors(1)[1])
    assert torch.equal(batch.pairs.tokens[0], data.conditioning[-1]) and batch.pairs.sizes is None


# -- errors of a pair


def test_the_reference_is_the_branch_off_and_both_start_alike(unet) -> None:
    data, ppd = people(), fresh(unet)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with user_branch(unet, ppd) as branch:
        personal = PersonalDenoiser(Denoiser(unet, NOISING, CPU, torch.float32), ppd.encoder, branch)
        batch = batch_of(data, [0, 1], [[1], [2, 3]], CPU)
        found = personal.errors(batch, noise, torch.tensor([10, 500]), True)
        assert torch.equal(found.chosen, found.ref_chosen) and torch.equal(found.rejected, found.ref_rejected)
        assert found.chosen.requires_grad and not found.ref_chosen.requires_grad
        torch.nn.init.normal_(ppd.attention.values[0].weight)
        other = personal.errors(batch, noise, torch.tensor([10, 500]), True)
        assert torch.equal(other.ref_chosen, found.ref_chosen) and not torch.equal(other.chosen, found.chosen)
        with personal.nobody():
            assert torch.equal(personal.errors(batch, noise, torch.tensor([10, 500]), False).chosen, found.ref_chosen)


# -- the loop


def test_it_learns_who_likes_what_and_says_so_of_people_it_never_saw(unet, tmp_path: Path) -> None:
    settings = replace(QUICK, steps=20, batch=8, check_every=10, learning_rate=2e-2, user_dropout=0.0, judged_pairs=16)
    before = weights_of(unet)
    found = train_ppd(fresh(unet), unet, NOISING, people(8, 6), people(8, 4, seed=5), settings, tmp_path)
    assert found.best is not None and found.best.accuracy > 0.8 and found.better is True
    assert found.summary.endswith("better than the base.")
    assert all(torch.equal(value, before[name]) for name, value in weights_of(unet).items())


def weights_of(unet) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in unet.state_dict().items()}


@pytest.mark.parametrize("killed_after", [1, 3, 4])
def test_a_killed_training_goes_on_to_the_bit(unet, tmp_path: Path, killed_after: int) -> None:
    """The kill comes in the middle of a step, after the checkpoint of an earlier one."""

    class Killed(BaseException):
        pass

    def kill(step) -> None:
        if step.step == killed_after:
            raise Killed

    whole = trained(unet, tmp_path / "whole")
    with pytest.raises(Killed):
        trained(unet, tmp_path / "parts", on_step=kill)
    steps = []
    parts = trained(unet, tmp_path / "parts", on_step=lambda step: steps.append(step.step))
    assert steps[0] == killed_after  # its step was done, but not yet kept
    assert alike(whole.ppd, parts.ppd) and whole.looks == parts.looks and torch.equal(whole.hits, parts.hits)


def test_batches_are_shared_out_without_changing_the_step(unet, tmp_path: Path) -> None:
    one = trained(unet, tmp_path / "a", replace(QUICK, batch=8, steps=1))
    other = trained(unet, tmp_path / "b", replace(QUICK, batch=2, accumulate=4, steps=1))
    for name, value in weights(one.ppd).items():
        assert torch.allclose(value, weights(other.ppd)[name], atol=1e-6), name
    assert not alike(one.ppd, fresh(unet))


def test_checkpointed_activations_change_nothing(unet, tmp_path: Path) -> None:
    plain = trained(unet, tmp_path / "a", replace(QUICK, steps=2))
    saved = trained(unet, tmp_path / "b", replace(QUICK, steps=2, gradient_checkpointing=True))
    unet.disable_gradient_checkpointing()
    assert not unet.training
    for name, value in weights(plain.ppd).items():
        assert torch.allclose(value, weights(saved.ppd)[name], atol=1e-6), name


@pytest.mark.parametrize("loss", ["sft", "cdpo", "rdpo", "ipo", "kto", "mapo"])
def test_other_losses_train_too(unet, tmp_path: Path, loss: str) -> None:
    ppd = fresh(unet)
    trained(unet, tmp_path, replace(QUICK, loss=loss, steps=2, check_every=2), ppd)
    assert not alike(ppd, fresh(unet))


def test_bfloat16_keeps_the_weights_in_float32(unet, tmp_path: Path) -> None:
    found = trained(unet, tmp_path, replace(QUICK, steps=2, precision="bfloat16", schedule="cosine"))
    assert {value.dtype for value in found.ppd.parameters()} == {torch.float32}


def test_progress_is_told_and_cancelling_keeps_the_place(unet, tmp_path: Path) -> None:
    told = []
    with pytest.raises(CancelledError, match="same name"):
        trained(unet, tmp_path, on_step=told.append, cancelled=lambda: len(told) == 4)
    assert [step.step for step in told] == [1, 2, 3, 4] and told[2].judgement is not None
    assert told[0].loss == pytest.approx(math.log(2), abs=1e-5) and told[0].margin == 0.0
    assert read_checkpoint(tmp_path)["step"] == 4


# -- what goes wrong


def test_nan_ends_it_and_the_last_checkpoint_is_safe(unet, tmp_path: Path) -> None:
    data = people()

    def break_it(step) -> None:
        if step.step == 3:
            data.latents.fill_(math.nan)

    with pytest.raises(PPDError, match=r"the loss is nan at step 4\. The last checkpoint is safe"):
        train_ppd(fresh(unet), unet, NOISING, data, None, QUICK, tmp_path, on_step=break_it)
    kept = read_checkpoint(tmp_path)
    assert kept["step"] == 3 and all(torch.isfinite(value).all() for value in kept["parameters"].values())


def test_a_gradient_that_is_no_number_never_reaches_the_weights(unet, tmp_path: Path) -> None:
    ppd = fresh(unet)
    ppd.attention.values[0].weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(PPDError, match="the gradient is nan at step 1"):
        trained(unet, tmp_path, ppd=ppd)
    assert alike(ppd, fresh(unet))


def test_a_full_disk_leaves_the_last_checkpoint(unet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def full(state, file) -> None:
        if state["step"] == 3:
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FineTuneError, match="No space left"):
        trained(unet, tmp_path)
    assert read_checkpoint(tmp_path)["step"] == 2


def test_two_trainings_in_one_folder(unet, tmp_path: Path) -> None:
    with only_training(tmp_path), pytest.raises(FineTuneError, match="another training is at work"):
        trained(unet, tmp_path)


def test_a_stopped_training_is_not_taken_for_another(unet, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        trained(unet, tmp_path, cancelled=lambda: True)
    with pytest.raises(FineTuneError, match=r"begun with seed 0 \(now 1\)"):
        trained(unet, tmp_path, replace(QUICK, seed=1))


def test_a_training_that_another_version_stopped_says_so_and_how_to_go_on(unet, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        trained(unet, tmp_path, cancelled=lambda: True)
    saved = read_checkpoint(tmp_path)
    del saved["settings"]["clip"]
    write_checkpoint(tmp_path, saved)
    with pytest.raises(FineTuneError, match=r"another version of Palate began it.*--anew"):
        trained(unet, tmp_path)


def test_memory_that_runs_out_is_named(unet, tmp_path: Path) -> None:
    def crowded(step) -> None:
        raise MemoryError("not enough")

    with pytest.raises(OutOfMemoryError, match="train this PPD: memory ran out"):
        trained(unet, tmp_path, on_step=crowded)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"loss": "rpo"}, "loss 'rpo'; expected one of sft"),
        ({"fewest": 5, "most": 4}, "fewest <= most"),
        ({"user_dropout": 1.5}, "user_dropout is 1.5; expected 0 to 1"),
        ({"precision": "half"}, "precision 'half'"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict, match: str) -> None:
    with pytest.raises(PPDError, match=match):
        PPDSettings(**wrong)


def test_the_verdict_counts_people_not_pairs(unet) -> None:
    """Shares 1, 1, 0.5 of three people: mean 0.833, standard error 0.289 / sqrt(3) = 0.167, so 0.507 at least."""
    hits, owners = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 1, 1, 2, 2])
    look = Judgement(5, 5 / 6, 0.5, 1.0)
    found = TrainedPPD(fresh(unet), QUICK, 5, look, (look,), hits, owners)
    assert found.interval[0] == pytest.approx(0.507, abs=1e-3) and found.better is True
    assert replace(found, people=torch.tensor([0, 0, 0, 1, 1, 1])).better is None
    assert replace(found, best=replace(look, log_loss=0.7)).better is False
    assert "nobody knows" in replace(found, best=None).summary
