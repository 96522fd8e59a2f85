"""Frozen weights in a byte each: what they stand for is what computes, nothing multiplied out waits, files load so."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import joint_singles
import pytest
import torch
from finetune_small import CPU, QUICK, grey_pairs, prepared
from palate.adapters.errors import CancelledError, FineTuneError
from palate.adapters.finetune import memory, sparing
from palate.adapters.finetune.frozen import forget_inputs, hold_in_bytes, in_bytes
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora
from palate.adapters.finetune.memory import need_of, require_memory
from palate.adapters.finetune.noising import Noising
from palate.adapters.finetune.opened import open_model
from palate.adapters.finetune.opened_joint import placed, trained_of
from palate.adapters.finetune.personal import train_personal_lora
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.finetune.sparing import spare_memory
from palate.adapters.finetune.step import Denoiser
from palate.adapters.steering.joint_files import joint_files
from palate.ui.train_options import settings_of
from safetensors import safe_open
from test_finetune_frozen import one_pass, the_same
from test_finetune_memory import CONFIG, SETTINGS
from test_finetune_sparing import FAMILIES, model
from torch import nn

HELD = replace(QUICK, loss="dpo", steps=2, accumulate=2, frozen="int8")


@pytest.fixture(autouse=True)
def the_allocator_and_the_disk_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparing, "_let_go", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def size_of(denoiser: nn.Module) -> int:
    return sum(value.nbytes for value in (*denoiser.parameters(), *denoiser.buffers()))


def multiplied_out(held: nn.Module, like: nn.Module) -> nn.Module:
    """A model of torch's own layers that has the weights which the bytes stand for."""
    plain = copy.deepcopy(like)
    for name, layer in plain.named_modules():
        if type(layer) in (nn.Linear, nn.Conv2d):
            layer.weight.data = held.get_submodule(name).weight
    return plain


def test_numbers_and_scales_by_hand() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.0], [0.0, 0.0, 0.0], [127.0, -254.0, 3.1]])
    numbers, scales = in_bytes(weight)
    assert numbers.dtype is torch.int8
    assert numbers.tolist() == [[127, -64, 0], [0, 0, 0], [64, -127, 2]]  # 63.5 and 1.55, rounded to even and up
    torch.testing.assert_close(scales[[0, 2]], torch.tensor([1 / 127, 2.0]))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_it_lies_within_half_a_step_of_each_rows_largest(kind: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    weight = (torch.randn(16, 3, 3, 3, generator=draw) * torch.logspace(-6, 3, 16).view(-1, 1, 1, 1)).to(kind)
    layer = nn.Conv2d(3, 16, 3)
    layer.weight.data = weight
    hold_in_bytes(holder := nn.Sequential(layer))
    step = weight.float().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    assert holder[0].weight.dtype is kind
    rounding = 0.0 if kind is torch.float32 else 2.0**-8 * 127  # of the product, in steps
    assert ((holder[0].weight.float() - weight.float()).abs() <= (0.505 + rounding) * step).all()


@pytest.mark.parametrize(("half", "checkpointing"), [(False, False), (True, True)], ids=["float32", "bfloat16, again"])
@pytest.mark.parametrize("family", FAMILIES)
def test_outcomes_and_gradients_are_those_of_the_weights_it_stands_for(
    family: str, half: bool, checkpointing: bool
) -> None:
    like, found = model(family), []
    if half:
        like.bfloat16()
    held = copy.deepcopy(like)
    hold_in_bytes(held)
    assert size_of(held) < (0.75 if half else 0.5) * size_of(like)  # tiny rows: their scales count
    for denoiser in (multiplied_out(held, like), held):
        parameters = add_lora(denoiser, 2)
        draw = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in parameters:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
        forget_inputs(denoiser)
        if checkpointing:
            spare_memory(denoiser)
        found.append(one_pass(denoiser, parameters, half))
    (out, gradients, waits), (again, other, as_much) = found
    assert torch.equal(out, again) and the_same(gradients, other)
    assert any(float(one.abs().max()) > 0 for one in gradients)
    assert as_much <= waits  # no weights multiplied out among what waits


def test_painting_goes_by_the_same_weights() -> None:
    like = model()
    held = copy.deepcopy(like)
    hold_in_bytes(held)
    draw = torch.Generator().manual_seed(1)
    noisy, tokens = (
        torch.randn(2, *shape, generator=draw) for shape in ((4, 8, 8), (77, like.config.cross_attention_dim))
    )
    with torch.no_grad():
        found = [
            one(noisy, 250, encoder_hidden_states=tokens).sample for one in (multiplied_out(held, like), held, like)
        ]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_weights_that_change_before_the_backward_pass_are_said() -> None:
    layer = nn.Linear(4, 4).requires_grad_(False)
    hold_in_bytes(holder := nn.Sequential(layer))
    out = holder(torch.randn(1, 4, requires_grad=True))
    layer.weight_bytes.add_(1)
    with pytest.raises(RuntimeError, match="its weights were changed since the forward pass"):
        out.sum().backward()


def test_broken_weights_stay_broken() -> None:
    """What gives no numbers must not become numbers."""
    for odd in (float("nan"), float("inf")):
        layer = nn.Linear(2, 2, bias=False)
        layer.weight.data[0, 0] = odd
        hold_in_bytes(holder := nn.Sequential(layer))
        assert not holder(torch.ones(1, 2)).isfinite().all()


def test_a_held_layer_holds_what_it_loads_and_saves_what_it_holds() -> None:
    with torch.device("meta"):
        bare = nn.Sequential(nn.Linear(5, 3), nn.Conv2d(3, 4, 3, bias=False))
    hold_in_bytes(bare)
    plain = nn.Sequential(nn.Linear(5, 3), nn.Conv2d(3, 4, 3, bias=False))
    bare.load_state_dict(plain.state_dict(), assign=True)
    for layer, other in zip(bare, plain, strict=True):
        numbers, scales = in_bytes(other.weight)
        assert torch.equal(layer.weight_bytes, numbers) and torch.equal(layer.weight_scales, scales)
    twin = copy.deepcopy(plain)
    hold_in_bytes(twin)
    twin.load_state_dict(bare.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(twin.buffers(), bare.buffers(), strict=True))
    assert torch.equal(bare[0].bias, plain[0].bias)


def test_weights_of_another_shape_are_refused_and_of_another_kind_become_its_own() -> None:
    held = nn.Sequential(nn.Linear(4, 4)).bfloat16()
    hold_in_bytes(held)
    with pytest.raises(RuntimeError, match=r"size mismatch for 0.weight: \(8, 5\); expected \(4, 4\)"):
        held.load_state_dict({"0.weight": torch.ones(8, 5), "0.bias": torch.ones(4)})
    held.load_state_dict({"0.weight": torch.ones(4, 4), "0.bias": torch.ones(4)})
    assert held[0].weight.dtype is torch.bfloat16 and torch.equal(held[0].weight, torch.ones(4, 4).bfloat16())


def test_a_lora_that_is_there_already_is_let_alone() -> None:
    denoiser = model()
    parameters = add_lora(denoiser, 2)
    hold_in_bytes(denoiser)
    assert sum(one.requires_grad for one in denoiser.parameters()) == len(parameters) > 0


def test_convolutions_of_another_layout_keep_nothing_either() -> None:
    plain = nn.Conv2d(4, 6, 3, padding=1).requires_grad_(False)
    hold_in_bytes(holder := nn.Sequential(copy.deepcopy(plain)))
    plain.weight.data = holder[0].weight
    given, kept = torch.randn(2, 4, 5, 5).to(memory_format=torch.channels_last).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        out = holder(given)
    (ours,) = torch.autograd.grad(out.square().sum(), given)
    (theirs,) = torch.autograd.grad(plain(given).square().sum(), given)
    torch.testing.assert_close(ours, theirs)
    assert not kept


def trained(folder: Path, settings: TrainSettings, stop: int = 0) -> Mapping[str, torch.Tensor]:
    unet = placed(model(), settings, CPU)
    denoiser = Denoiser(unet, Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100), CPU, torch.float32)
    parameters, steps = trained_of(unet, settings, 6), []
    return train_lora(
        denoiser, parameters, prepared(), None, settings, folder, None, steps.append,
        (lambda: len(steps) == stop) if stop else None,
    ).state  # fmt: skip


@pytest.mark.parametrize("loss", ["mapo", "kto"])
def test_a_training_on_held_weights_goes_on_to_the_bit_and_is_near_the_plain_one(loss: str, tmp_path: Path) -> None:
    settings = replace(HELD, loss=loss)
    whole = trained(tmp_path / "whole", settings)
    with pytest.raises(CancelledError):
        trained(tmp_path / "twice", settings, 1)
    again = trained(tmp_path / "twice", settings)
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    plain = trained(tmp_path / "plain", replace(settings, frozen=None))
    begun = {name: value for name, value in trained(tmp_path / "bare", replace(settings, learning_rate=1e-9)).items()}
    moved = torch.cat([(value - begun[name]).flatten() for name, value in plain.items()])
    apart = torch.cat([(whole[name] - value).flatten() for name, value in plain.items()])
    assert 0 < float(apart.norm()) < 0.35 * float(moved.norm())
    with pytest.raises(FineTuneError, match="begun with frozen int8"):
        with pytest.raises(CancelledError):
            trained(tmp_path / "other", settings, 1)
        trained(tmp_path / "other", replace(settings, frozen=None))


def test_what_it_takes_is_known_before() -> None:
    """Byte by byte: of the tiny model weights, scales, norms and biases."""
    from diffusers import UNet2DConditionModel

    for precision, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        unet = UNet2DConditionModel.from_config(CONFIG).to(kind)
        hold_in_bytes(unet)
        settings = replace(SETTINGS, precision=precision, frozen="int8")
        need, plain = need_of(CONFIG, settings, 128, "cpu"), need_of(CONFIG, replace(settings, frozen=None), 128, "cpu")
        assert need.weights == size_of(unet) < plain.weights
        assert (need.trained, need.activations) == (plain.trained, plain.activations)


def test_what_loading_takes_counts_where_that_is_the_most() -> None:
    """On a processor: a UNet's file comes whole, in full precision; of a single file of Flux its text encoders do."""
    whole = need_of(CONFIG, replace(SETTINGS, frozen=None), 128, "cpu").weights
    settings = replace(SETTINGS, frozen="int8", batch=1, precision="bfloat16")
    need = need_of(CONFIG, settings, 128, "cpu", 1000)
    assert need.loading == whole + 1000 and need.total == max(need.total, need.loading)
    assert need_of(CONFIG, settings, 128, "cuda", 1000).loading == 0
    large = need_of(CONFIG, settings, 128, "cpu", 1000, text=10**9)
    assert large.loading == large.total == 2 * 10**9 + 1000


def test_it_is_said_where_it_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(SETTINGS, batch=1, checkpointing=True, frozen="int8")
    monkeypatch.setattr(memory, "free_bytes", lambda _: need_of(CONFIG, small, 128, "cpu").total)
    with pytest.raises(FineTuneError, match=r"It fits with gradient checkpointing and .* a byte each \(frozen int8\)"):
        require_memory(CONFIG, replace(SETTINGS, batch=8), 128, CPU)
    assert require_memory(CONFIG, replace(small, batch=8), 128, CPU) == 1


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(FineTuneError, match="frozen 'int3'; expected one of int8"):
        TrainSettings(frozen="int3")
    with pytest.raises(FineTuneError, match="all weights with frozen int8: none of them is frozen"):
        TrainSettings(frozen="int8", full=True)


@pytest.mark.parametrize("kind", ["sd35", "flux"])
def test_a_single_file_is_held_as_it_is_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, files = joint_singles.in_parts(kind, tmp_path)
    unet, *others = files.values()
    wanted = open_model(joint_files(unet, others), QUICK, CPU)
    whole = wanted._model.denoiser
    expected = size_of(copy.deepcopy(whole))
    hold_in_bytes(whole)
    found = open_model(joint_files(unet, others), HELD, CPU)._model.denoiser
    assert size_of(found) == size_of(whole) < 0.5 * expected
    ours, theirs = found.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())
    saved = train_personal_lora(
        joint_files(unet, others), grey_pairs(tmp_path), replace(HELD, size=32, batch=2), tmp_path / "run",
        tmp_path / "mine", samples=0,
    ).file  # fmt: skip
    with safe_open(str(saved), framework="pt") as file:
        assert file.metadata()["palate.frozen"] == "int8"
        assert not any("bytes" in name for name in file.keys())  # noqa: SIM118


def test_the_command_line_says_it(tmp_path: Path) -> None:
    from palate.ui.cli import main

    assert main(["train", "lora", "--frozen", "int8", "--full", "--data", str(tmp_path)]) == 2
    from argparse import Namespace

    assert settings_of(Namespace(loss="dpo", frozen="int8")).frozen == "int8"


def test_the_node_has_words_for_it_in_each_language() -> None:
    root = Path(__file__).parents[2]
    for language in ("en", "ja", "zh"):
        found = json.loads((root / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert found["PalateTrainPreferenceLora"]["inputs"]["frozen"]["tooltip"]
