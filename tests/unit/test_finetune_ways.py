"""Ways of fine-tuning: fixed noise, all weights, averages, optimisers, stages, transformers."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from palate.adapters.errors import CancelledError, FineTuneError
from palate.adapters.finetune.drawing import Drawing
from palate.adapters.finetune.fixed import FixedNoise
from palate.adapters.finetune.judging import Judge, Judgement
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora, load_lora, lora_of
from palate.adapters.finetune.noising import Noising, noising_of
from palate.adapters.finetune.optimizer import make_optimizer
from palate.adapters.finetune.prepared import Batch, Prepared
from palate.adapters.finetune.settings import TrainSettings, lora_rate
from palate.adapters.finetune.several import Several
from palate.adapters.finetune.step import Denoiser
from palate.adapters.finetune.weights import Kept, all_parameters, state_of

CPU, WIDTH, ALONE = torch.device("cpu"), 16, Several()
QUICK = TrainSettings(loss="dpo", steps=4, batch=2, rank=2, learning_rate=1e-3, check_every=2)


@pytest.fixture(scope="module")
def untrained() -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8,),
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=WIDTH,
            norm_num_groups=4,
        )


@pytest.fixture
def denoiser(untrained: torch.nn.Module) -> Denoiser:
    return Denoiser(
        copy.deepcopy(untrained), Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100), CPU, torch.float32
    )


def prepared(count: int = 6, seed: int = 0, apart: float = 0.0, channels: int = 4) -> Prepared:
    """Pairs of latents, of two shapes; with `apart`, chosen ones are shifted one way and rejected ones the other."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for sign in (apart, -apart):
        shapes = [(channels, 8, 8) if apart or k % 3 else (channels, 4, 8) for k in range(count)]
        sides.append(tuple(0.2 * torch.randn(shape, generator=generator) + sign for shape in shapes))
    tokens = torch.randn(3, 7, WIDTH, generator=generator)
    return Prepared(sides[0], sides[1], tuple(k % 2 for k in range(count)), tokens)


def lora(denoiser: Denoiser, folder: Path, settings: TrainSettings = QUICK, **more: object):
    return train_lora(denoiser, add_lora(denoiser.unet, 2), prepared(), prepared(4, 1), settings, folder, **more)


def whole(denoiser: Denoiser, folder: Path, settings: TrainSettings = QUICK, **more: object):
    settings = replace(settings, full=True)
    return train_lora(denoiser, all_parameters(denoiser.unet), prepared(), prepared(4, 1), settings, folder, **more)


# -- noise that is fixed


@pytest.mark.parametrize("one_timestep", [False, True])
def test_errors_that_were_measured_are_those_that_would_be_asked_for(denoiser: Denoiser, one_timestep: bool) -> None:
    data = prepared()
    add_lora(denoiser.unet, 2)
    fixed = FixedNoise(data, denoiser, 3, 0, 0.5, one_timestep)
    fixed.measure(denoiser.reference, 2, ALONE)
    assert fixed.errors.shape == (6, 3, 2)
    for rows, draws in (([0, 3], [2, 1]), ([1, 5], [0, 0])):
        asked = denoiser.errors(*fixed.batch(rows, draws), True)
        chosen, rejected = fixed.reference(rows, draws)
        assert torch.allclose(chosen, asked.ref_chosen) and torch.allclose(rejected, asked.ref_rejected)


def test_draws_cover_the_schedule_and_a_contrast_has_one_timestep(denoiser: Denoiser) -> None:
    import random

    free = FixedNoise(prepared(), denoiser, 4, 0, 0.0, False)
    timesteps = free.batch([1] * 4, range(4))[2]
    assert (timesteps // 25).tolist() == [0, 1, 2, 3]
    assert sorted(free.choose(4, random.Random(0))) == [0, 1, 2, 3]
    shared = FixedNoise(prepared(), denoiser, 4, 0, 0.0, True)
    assert len(set(shared.batch([1, 2, 4], [2] * 3)[2].tolist())) == 1
    assert len(set(shared.choose(3, random.Random(0)))) == 1


def test_with_fixed_noise_no_step_asks_the_reference(denoiser: Denoiser, tmp_path: Path, monkeypatch) -> None:
    """6 pairs in 2 shapes, 3 draws, 2 at a time: 3 + 6 passes before the first step, none after it."""
    asked, during = [], []
    real = denoiser.reference
    monkeypatch.setattr(denoiser, "reference", lambda: asked.append(1) or real())
    settings = replace(QUICK, fixed_noise=3)
    parameters = add_lora(denoiser.unet, 2)
    train_lora(denoiser, parameters, prepared(), None, settings, tmp_path, on_step=lambda _: during.append(len(asked)))
    assert during == [9, 9, 9, 9]


def test_what_was_measured_is_kept_with_the_checkpoint(denoiser, untrained, tmp_path: Path, monkeypatch) -> None:
    settings = replace(QUICK, fixed_noise=3)
    at_once = lora(denoiser, tmp_path / "one", settings)
    stop = iter([False] * 9 + [False, False, True])
    again = Denoiser(copy.deepcopy(untrained), denoiser.noising, CPU, torch.float32)
    with pytest.raises(CancelledError):
        lora(again, tmp_path / "two", settings, cancelled=lambda: next(stop))
    monkeypatch.setattr(FixedNoise, "measure", lambda *_: pytest.fail("measured again"))
    again = Denoiser(copy.deepcopy(untrained), denoiser.noising, CPU, torch.float32)
    in_two = lora(again, tmp_path / "two", settings)
    assert all(torch.equal(value, in_two.state[name]) for name, value in at_once.state.items())


# -- mirrored pairs


def test_both_sides_of_a_pair_are_mirrored_together() -> None:
    plain = prepared()
    mirrored = tuple(tuple(side.flip(-1) for side in sides) for sides in (plain.chosen, plain.rejected))
    batch = replace(plain, mirrored=mirrored).batch([1, 2, 4], CPU, turned=[True, False, True])
    for side, whole in ((batch.chosen, plain.chosen), (batch.rejected, plain.rejected)):
        assert torch.equal(side[0], whole[1].flip(-1)) and torch.equal(side[1], whole[2])
        assert torch.equal(side[2], whole[4].flip(-1))
    assert torch.equal(plain.batch([1], CPU, turned=[True]).chosen[0], plain.chosen[1])  # there are none


def test_about_half_of_the_pairs_are_drawn_mirrored(denoiser: Denoiser) -> None:
    plain = prepared(6, apart=0.1)
    marked = tuple(tuple(torch.full_like(side, 7.0) for side in sides) for sides in (plain.chosen, plain.rejected))
    settings = replace(QUICK, batch=6).settled(6)
    drawing = Drawing(replace(plain, mirrored=marked), denoiser, settings, ALONE, None)
    drawn = torch.cat([drawing.step(number)[0].batch.chosen[:, 0, 0, 0] for number in range(20)])
    assert 0.35 < (drawn == 7.0).float().mean() < 0.65


# -- all weights


@pytest.mark.parametrize("loss", ["dpo", "mapo"])
def test_full_fine_tuning_moves_every_weight_and_keeps_its_reference(
    loss: str, denoiser: Denoiser, untrained: torch.nn.Module, tmp_path: Path
) -> None:
    whole(denoiser, tmp_path, replace(QUICK, loss=loss))
    before = dict(untrained.named_parameters())
    assert all(not torch.equal(now, before[name]) for name, now in denoiser.unet.named_parameters())
    assert (denoiser.frozen is None) == (loss == "mapo")  # mapo needs no reference, so there is none in memory
    if denoiser.frozen is not None:
        assert all(torch.equal(a, b) for a, b in zip(denoiser.frozen.values, before.values(), strict=True))


def test_fixed_noise_takes_the_frozen_copys_place(denoiser: Denoiser, tmp_path: Path) -> None:
    whole(denoiser, tmp_path, replace(QUICK, fixed_noise=2))
    assert denoiser.frozen is None


def test_full_fine_tuning_goes_on_to_the_bit(denoiser: Denoiser, untrained, tmp_path: Path) -> None:
    settings = replace(QUICK, ema=0.9, optimizer="adafactor", save_every=1)
    at_once = whole(denoiser, tmp_path / "one", settings)
    stop = iter([False, False, True])
    for _ in range(2):
        again = Denoiser(copy.deepcopy(untrained), denoiser.noising, CPU, torch.float32)
        try:
            in_two = whole(again, tmp_path / "two", settings, cancelled=lambda: next(stop, False))
        except CancelledError:
            continue
    assert in_two.looks == at_once.looks
    assert all(torch.equal(value, in_two.state[name]) for name, value in at_once.state.items())


def test_full_fine_tuning_has_the_papers_rate() -> None:
    """1e-8 times 4 pairs, 8 batches, 2 processes; rising over a quarter of the steps."""
    settled = TrainSettings(full=True, batch=4, accumulate=8).settled(500, processes=2)
    assert settled.learning_rate == pytest.approx(6.4e-7) and settled.warmup == 0.25
    assert TrainSettings().settled(500).learning_rate == 1e-4


def test_two_processes_look_at_each_pair_as_often_as_one() -> None:
    """1,000 pairs, 8 a batch: 1,000 steps of one process, 500 of two."""
    assert [TrainSettings().settled(1000, processes).steps for processes in (1, 2)] == [1000, 500]


def test_a_small_models_lora_takes_larger_steps() -> None:
    """Stable Diffusion's 320 channels and transformers 1e-4, the playground's 64 3e-3, half-way in between the mean."""
    wide, small, tiny = ({"block_out_channels": [channels, 999]} for channels in (320, 64, 8))
    rates = [TrainSettings().suited(config).learning_rate for config in (wide, {}, small, tiny)]
    assert rates == pytest.approx([1e-4, 1e-4, 3e-3, 3e-3])
    middle = {"block_out_channels": [(320 * 64) ** 0.5]}
    assert lora_rate(middle) == pytest.approx((1e-4 * 3e-3) ** 0.5)
    assert TrainSettings(learning_rate=0.5).suited(small).learning_rate == 0.5
    assert TrainSettings(full=True).suited(small).learning_rate is None


# -- averages, optimisers, precision


def test_an_average_follows_and_is_what_is_kept(denoiser: Denoiser, tmp_path: Path) -> None:
    """After one step of two the average has moved (1 - 0.1) = 0.9 of the way; at 0.0 it is the weights themselves."""
    weights = [torch.nn.Parameter(torch.zeros(2))]
    average = Kept(weights)
    weights[0].data += 1.0
    average.follow(0.999, 0)
    assert torch.allclose(average.values[0], torch.full((2,), 0.9))
    plain = lora(denoiser, tmp_path / "plain")
    same = lora(_fresh(denoiser), tmp_path / "same", replace(QUICK, ema=0.0))
    slow = lora(_fresh(denoiser), tmp_path / "slow", replace(QUICK, ema=0.9))
    assert all(torch.equal(value, same.state[name]) for name, value in plain.state.items())
    assert any(not torch.allclose(value, slow.state[name], atol=1e-6) for name, value in plain.state.items())


def _fresh(denoiser: Denoiser) -> Denoiser:
    """The same model without its LoRA."""
    unet = copy.deepcopy(denoiser.unet)
    unet.delete_adapters("palate")
    return Denoiser(unet, denoiser.noising, CPU, torch.float32)


def test_optimisers_by_name_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [torch.nn.Parameter(torch.ones(2, 2))]
    for name in ("adamw", "adafactor"):
        optimizer = make_optimizer(name, weights, 0.1, CPU)
        weights[0].grad = torch.ones(2, 2)
        before = weights[0].detach().clone()
        optimizer.step()
        assert (weights[0] < before).all()
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(FineTuneError, match=r"bitsandbytes is not here.*pip install bitsandbytes"):
        make_optimizer("adamw8bit", weights, 0.1, CPU)
    with pytest.raises(FineTuneError, match="optimizer 'sgd'; expected one of adamw, adamw8bit, adafactor"):
        TrainSettings(optimizer="sgd")
    with pytest.raises(FineTuneError, match="precision 'float16'"):
        TrainSettings(precision="float16")


def test_half_precision_leaves_the_trained_weights_and_errors_whole(denoiser: Denoiser, tmp_path: Path) -> None:
    denoiser.precision = torch.bfloat16
    found = lora(denoiser, tmp_path)
    assert all(value.dtype == torch.float32 for value in found.state.values())
    batch, noise, timesteps = FixedNoise(prepared(), denoiser, 1, 0, 0.0, False).batch([1, 2], [0, 0])
    assert denoiser.errors(batch, noise, timesteps, False).chosen.dtype == torch.float32


def test_sizes_in_pixels_stay_whole_in_half_precision() -> None:
    """bfloat16 has no 1365, only 1360 and 1368."""
    told = {}

    def unet(noisy: torch.Tensor, *_: object, added_cond_kwargs: dict[str, torch.Tensor], **__: object):
        told.update(added_cond_kwargs)
        return SimpleNamespace(sample=noisy)

    unet.config = SimpleNamespace()
    noising = Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100)
    sizes = torch.tensor([[1365, 767, 0, 0, 1152, 896]])
    batch = Batch(*(torch.zeros(1, 4, 8, 8),) * 2, torch.zeros(1, 7, WIDTH), torch.zeros(1, 5), sizes)
    halves = Denoiser(unet, noising, CPU, torch.bfloat16)
    halves.errors(batch, torch.zeros(1, 4, 8, 8), torch.tensor([5]), False)
    assert told["time_ids"].tolist() == [[1365.0, 767.0, 0.0, 0.0, 1152.0, 896.0]] * 2
    assert told["text_embeds"].dtype == torch.bfloat16


# -- stages


def test_a_stages_reference_is_the_result_of_the_one_before(denoiser: Denoiser, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Judge, "look", lambda _, step: Judgement(step, 0.5, 0.7, 1.0 - 0.01 * step))
    told: list[tuple[int, int]] = []
    settings = replace(QUICK, stages=("sft",))
    found = lora(denoiser, tmp_path, settings, on_step=lambda one: told.append((one.step, one.steps)))
    assert told == [(k, 8) for k in range(1, 9)] and found.settings.loss == "dpo"
    first = torch.load(tmp_path / "stage 1 sft" / "checkpoint.pt", weights_only=True)
    assert first["ended"] and first["best"]["look"]["step"] == 4  # the chosen side was best at the last look
    now = lora_of(denoiser.unet)
    with denoiser.reference():
        before = lora_of(denoiser.unet)
    assert all(torch.equal(before[name], value) for name, value in first["best"]["state"].items())
    assert any(not torch.equal(now[name], value) for name, value in before.items())


def test_a_stopped_second_stage_goes_on_to_the_bit(denoiser: Denoiser, tmp_path: Path) -> None:
    settings = replace(QUICK, stages=("sft",), fixed_noise=2)
    at_once = lora(_plain(denoiser), tmp_path / "one", settings)
    asked = []
    with pytest.raises(CancelledError):
        lora(_plain(denoiser), tmp_path / "two", settings, cancelled=lambda: len(asked.append(1) or asked) > 13)
    in_two = lora(_plain(denoiser), tmp_path / "two", settings)
    assert in_two.looks == at_once.looks
    assert all(torch.equal(value, in_two.state[name]) for name, value in at_once.state.items())


def _plain(denoiser: Denoiser) -> Denoiser:
    return Denoiser(copy.deepcopy(denoiser.unet), denoiser.noising, CPU, torch.float32)


# -- flow matching


def test_flow_matching_has_the_schedulers_own_noise() -> None:
    """SD3's shift of 3: halfway, sigma = 3 * 0.5 / (1 + 2 * 0.5) = 0.75; the model is told 750."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    noising = noising_of(FlowMatchEulerDiscreteScheduler(shift=3.0))
    steps = torch.tensor([499, 999])
    assert torch.allclose(noising.told(steps), torch.tensor([750.0, 1000.0]))
    image, noise = torch.full((2, 1, 1, 1), 4.0), torch.ones(2, 1, 1, 1)
    assert noising.noised(image, noise, steps).flatten().tolist() == pytest.approx([1.75, 1.0])
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs = scheduler.scale_noise(image[:1], scheduler.timesteps[500:501], noise[:1])
    assert torch.allclose(noising.noised(image[:1], noise[:1], steps[:1]), theirs)
    assert torch.equal(noising.target(image, noise, steps), noise - image)


@pytest.mark.parametrize("full", [False, True])
def test_a_transformer_of_sd3s_kind_learns_which_side_is_chosen(full: bool, tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=12,
            out_channels=4,
            pos_embed_max_size=8,
        )
    noising = noising_of(FlowMatchEulerDiscreteScheduler(shift=3.0))
    denoiser = Denoiser(transformer, noising, CPU, torch.float32)
    parameters = all_parameters(transformer) if full else add_lora(transformer, 4)
    settings = TrainSettings(loss="dpo", steps=20, batch=4, rank=4, learning_rate=1e-2, check_every=10, full=full)
    pooled = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    data, held = (replace(prepared(8, seed, 0.5), pooled=pooled) for seed in (0, 1))
    found = train_lora(denoiser, parameters, data, held, settings, tmp_path)
    assert found.best is not None and found.best.accuracy >= 0.8
    if not full:
        before = lora_of(transformer)
        load_lora(transformer, found.state)
        assert before.keys() == found.state.keys() == state_of(transformer, False).keys()
