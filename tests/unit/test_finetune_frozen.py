"""Frozen convolutions that keep nothing: the same bits from less that waits, and nothing else is touched."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from finetune_small import CPU, QUICK, prepared
from palate.adapters.errors import CancelledError
from palate.adapters.finetune import opened_joint, recomputed, sparing
from palate.adapters.finetune.activations import kept_for_backward, without_weights
from palate.adapters.finetune.frozen import forget_inputs, hold_in_bytes
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora
from palate.adapters.finetune.noising import Noising
from palate.adapters.finetune.opened_joint import trained_of
from palate.adapters.finetune.predicting import predicted
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.finetune.sparing import spare_memory
from palate.adapters.finetune.step import Denoiser
from palate.adapters.finetune.weights import all_parameters
from test_finetune_sparing import FAMILIES, model
from torch import nn
from torch.nn import functional as F


@pytest.fixture(autouse=True)
def the_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparing, "_let_go", lambda: None)


def one_pass(denoiser, parameters: list[nn.Parameter], half: bool) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """What comes out, the gradients, and the bytes that waited for them."""
    denoiser.train()
    draw = torch.Generator().manual_seed(1)
    given = [torch.randn(2, *shape, generator=draw) for shape in ((4, 8, 8), (77, tiny.WIDTH), (16,), (6,))]
    noisy, tokens, pooled, sizes = given
    own, kept = {value.untyped_storage().data_ptr() for value in denoiser.parameters()}, dict[int, torch.Tensor]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (where := tensor.untyped_storage().data_ptr()) not in own:
            kept[where] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        found = predicted(denoiser, noisy, torch.tensor([250.0, 800.0]), tokens, pooled, sizes)
    waits = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    found.float().square().mean().backward()
    return found.detach(), [parameter.grad for parameter in parameters if parameter.grad is not None], waits


def both(family: str, half: bool, checkpointing: bool, full: bool = False):
    found = []
    for forgetful in (False, True):
        denoiser = model(family)
        if half and not full:
            denoiser.bfloat16()
        parameters = all_parameters(denoiser) if full else add_lora(denoiser, 2)
        if not full:  # the half that begins at zero would hide what comes from the other
            draw = torch.Generator().manual_seed(2)
            with torch.no_grad():
                for parameter in parameters:
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
        if checkpointing:
            spare_memory(denoiser)
        if forgetful:
            forget_inputs(denoiser)
        found.append(one_pass(denoiser, parameters, half))
    return found


def the_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointing"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_has_the_same_bits_and_less_waits(family: str, half: bool, checkpointing: bool) -> None:
    (out, gradients, waits), (again, other, fewer) = both(family, half, checkpointing)
    assert torch.equal(out, again) and the_same(gradients, other)
    assert any(float(one.abs().max()) > 0 for one in gradients)
    if family in ("sd15", "sdxl") and not checkpointing:
        assert fewer < 0.8 * waits
    else:  # transformers have no convolution behind their LoRA
        assert fewer <= waits


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_where_all_weights_are_trained_the_bits_are_the_same_too(family: str, half: bool) -> None:
    """Feed-forwards alone keep less."""
    (out, gradients, waits), (again, other, as_many) = both(family, half, False, full=True)
    assert torch.equal(out, again) and the_same(gradients, other)
    assert as_many < waits if family in ("sd15", "sdxl") else as_many == waits


def convolved(layer: nn.Conv2d, given: torch.Tensor, half: bool) -> tuple[torch.Tensor, torch.Tensor, int]:
    given, kept = given.clone(memory_format=torch.preserve_format).requires_grad_(), []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        out = layer(2 * given)
    out.float().square().sum().backward()
    return out.detach(), given.grad, sum(one.numel() == given.numel() for one in kept)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 1, "bias": False},
        {"kernel_size": 3, "stride": 2, "padding": (1, 0)},
        {"kernel_size": 3, "dilation": 2, "groups": 2},
    ],
    ids=["3", "1", "strided", "groups"],
)
def test_one_convolution_has_the_same_bits(how: dict, half: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, **how).requires_grad_(False)
    plain, given = copy.deepcopy(layer), torch.randn(3, 4, 9, 7)
    forget_inputs(holder := nn.Sequential(layer))
    out, gradient, kept = convolved(plain, given, half)
    again, other, none = convolved(holder[0], given, half)
    assert torch.equal(out, again) and torch.equal(gradient, other) and gradient.dtype == other.dtype
    assert kept and not none
    assert copy.deepcopy(holder).state_dict().keys() == holder.state_dict().keys()


def test_what_it_is_not_for_goes_as_ever() -> None:
    """Another layout, other edges, weights or a bias that are trained: the input waits, as it did."""
    torch.manual_seed(0)
    wide = torch.randn(3, 4, 8, 8).to(memory_format=torch.channels_last)
    for layer, given in (
        (nn.Conv2d(4, 4, 3).requires_grad_(False), wide),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular").requires_grad_(False), wide.contiguous()),
        (nn.Conv2d(4, 4, 3, padding="same").requires_grad_(False), wide.contiguous()),
        (nn.Conv2d(4, 4, 3), wide.contiguous()),
    ):
        plain = copy.deepcopy(layer)
        forget_inputs(nn.Sequential(layer))
        out, gradient, kept = convolved(plain, given, False)
        again, other, as_many = convolved(layer, given, False)
        assert torch.equal(out, again) and torch.equal(gradient, other) and as_many == kept
    layer = nn.Conv2d(4, 4, 3)
    layer.weight.requires_grad_(False)
    forget_inputs(nn.Sequential(layer))
    layer(wide.contiguous().requires_grad_()).sum().backward()
    assert layer.bias.grad is not None


def test_convolutions_with_an_adapter_stay_torchs() -> None:
    from peft import LoraConfig, inject_adapter_in_model

    adapted = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"]), adapted)
    forget_inputs(adapted)
    assert type(adapted[0].base_layer) is nn.Conv2d and type(adapted[1]) is not nn.Conv2d


def test_painting_has_the_same_bits() -> None:
    plain = model()
    forgetful = copy.deepcopy(plain)
    forget_inputs(forgetful)
    draw = torch.Generator().manual_seed(1)
    noisy, tokens = (torch.randn(2, *shape, generator=draw) for shape in ((4, 8, 8), (77, tiny.WIDTH)))
    with torch.no_grad():
        found = [one(noisy, 250, encoder_hidden_states=tokens).sample for one in (plain, forgetful)]
    assert torch.equal(*found)


def test_weights_that_change_before_the_backward_pass_are_said() -> None:
    layer = nn.Conv2d(4, 4, 3).requires_grad_(False)
    forget_inputs(nn.Sequential(layer))
    out = layer(torch.randn(1, 4, 8, 8, requires_grad=True))
    layer.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="its weights were changed since the forward pass"):
        out.sum().backward()


def test_gradients_twice_over_are_refused() -> None:
    """Rather than wrong."""
    layer, given = nn.Conv2d(4, 4, 3).requires_grad_(False), torch.randn(1, 4, 8, 8, requires_grad=True)
    forget_inputs(nn.Sequential(layer))
    (first,) = torch.autograd.grad(F.silu(layer(given)).sum(), given, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def trained(folder: Path, checkpointing: bool, stop: int = 0):
    settings = replace(QUICK, loss="dpo", steps=2, accumulate=2, checkpointing=checkpointing)
    denoiser = Denoiser(model(), Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100), CPU, torch.float32)
    parameters, steps = trained_of(denoiser.unet, settings, 6), []
    return train_lora(
        denoiser, parameters, prepared(), None, settings, folder, None, steps.append,
        (lambda: len(steps) == stop) if stop else None,
    )  # fmt: skip


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_and_one_that_goes_on_have_the_same_bits(
    checkpointing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an earlier version began and this one goes on with, too."""
    asked: list[object] = []
    with monkeypatch.context() as before:
        before.setattr(opened_joint, "forget_inputs", asked.append)
        plain = trained(tmp_path / "plain", checkpointing).state
        with pytest.raises(CancelledError):
            trained(tmp_path / "twice", checkpointing, 1)
    assert len(asked) == 2
    whole, twice = trained(tmp_path / "whole", checkpointing).state, trained(tmp_path / "twice", checkpointing).state
    assert plain.keys() == whole.keys() == twice.keys()
    assert all(torch.equal(value, whole[name]) and torch.equal(value, twice[name]) for name, value in plain.items())


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_what_waits_is_counted_as_it_is(family: str) -> None:
    """Counted and kept differ by what the count of without takes off, within what attention's small change is."""

    def counted(*how: bool) -> int:
        bare = without_weights(FAMILIES[family])
        add_lora(bare, 2)
        return kept_for_backward(bare, 2, 64, torch.float32, *how)

    (_, _, waits), (_, _, fewer) = both(family, False, False)
    assert counted(False) == pytest.approx(fewer, rel=0.15)
    assert counted(False, False, False) - counted(False) == pytest.approx(waits - fewer, rel=0.05)
    assert counted(True, True) < counted(True, True, False)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_silu_keeps_what_its_norm_keeps(half: bool) -> None:
    """And where the norm is trained, or nothing was normed, it goes torch's way."""
    torch.manual_seed(0)
    given = torch.randn(2, 8, 5, 5)
    # Trained or not, normed or not, and bfloat16 that float32 weights norm, as torch can on processors.
    for trained, first, kind in ((False, 0, given.dtype), (True, 0, given.dtype), (False, 1, given.dtype),
                                 (False, 0, torch.bfloat16)):  # fmt: skip
        layers = nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU()).requires_grad_(trained)[first:]
        for weight in layers[0].parameters():
            nn.init.normal_(weight)
        plain, found = copy.deepcopy(layers), []
        forget_inputs(layers)
        for one in (plain, layers):
            kept = dict[int, torch.Tensor]()
            asked = given.to(kind, copy=True).requires_grad_()
            with (
                torch.autograd.graph.saved_tensors_hooks(
                    lambda tensor, kept=kept: kept.setdefault(tensor.untyped_storage().data_ptr(), tensor),
                    lambda one: one,
                ),
                torch.autocast("cpu", torch.bfloat16, enabled=half),
            ):
                out = one(2 * asked)
            out.float().square().sum().backward()
            found.append((out.detach(), asked.grad, sum(tensor.numel() == given.numel() for tensor in kept.values())))
        (out, gradient, waits), (again, other, fewer) = found
        assert torch.equal(out, again) and torch.equal(gradient, other)
        assert fewer == waits - (not trained and not first)


def test_what_is_changed_between_norm_and_silu_counts() -> None:
    torch.manual_seed(0)
    plain = nn.ModuleList([nn.GroupNorm(2, 4), nn.SiLU()]).requires_grad_(False)
    lean = copy.deepcopy(plain)
    forget_inputs(lean)
    found = []
    for norm, act in (plain, lean):
        given = torch.ones(2, 4, 3, 3).cumsum(2).requires_grad_()
        normed = norm(given)
        normed *= 3.0
        act(normed).square().sum().backward()
        found.append(given.grad)
    assert torch.equal(*found)


def gated(
    layer: nn.Module, given: torch.Tensor, half: bool = False
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Size]]:
    """What comes out, the gradient of what goes in, and the shapes that waited for it, but for weights."""
    kept = dict[int, torch.Tensor]()
    asked = given.clone().requires_grad_()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        out = layer(2 * asked)
    out.float().square().sum().backward()
    return out.detach(), asked.grad, [one.shape for one in kept.values() if one.dim() == 3]


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("how", "waits"), [("narrow", 6), ("held", 6), ("wide", 20), ("trained", 20), ("checkpointing", 20)]
)
def test_a_gated_feed_forward_keeps_what_makes_its_halves_or_the_halves_to_the_same_bits(
    how: str, waits: int, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.models.activations import GEGLU

    torch.manual_seed(0)
    if how == "wide":
        monkeypatch.setattr(recomputed, "_NARROW", 5)
    plain = nn.Sequential(nn.Identity(), GEGLU(6, 10)).requires_grad_(how == "trained")
    lean = copy.deepcopy(plain)
    if how == "held":
        hold_in_bytes(lean)
        plain[1].proj.weight.data = lean[1].proj.weight
    lean.is_gradient_checkpointing = how == "checkpointing"
    forget_inputs(lean)
    given = torch.randn(3, 7, 6)
    out, gradient, theirs = gated(plain, given, half)
    for one in (lean, copy.deepcopy(lean)):
        again, other, ours = gated(one, given, half)
        assert torch.equal(out, again) and torch.equal(gradient, other) and gradient.dtype == other.dtype
        assert {shape[-1] for shape in ours} == {waits}
        assert len(ours) < len(theirs)


@pytest.mark.parametrize("changed", ["weight", "bias"])
def test_halves_of_a_layer_that_changed_before_the_backward_pass_are_not_made_again(changed: str) -> None:
    from diffusers.models.activations import GEGLU

    layer = GEGLU(6, 10).requires_grad_(False)
    forget_inputs(holder := nn.Sequential(layer))
    out = holder(torch.randn(1, 6, requires_grad=True))
    getattr(layer.proj, changed).add_(2.0)
    with pytest.raises(RuntimeError, match="its weights were changed since the forward pass"):
        out.sum().backward()


def test_with_checkpointing_no_feed_forward_is_computed_three_times() -> None:
    """Asked for first, or again after it was: blocks keep the halves while they are computed again."""
    from diffusers.models.activations import GEGLU

    def shapes(settings: TrainSettings, first: bool) -> set[int]:
        unet, kept = model(), list[torch.Tensor]()
        if first:
            forget_inputs(unet)
        trained_of(unet, settings, 6)
        layer = next(one for one in unet.modules() if isinstance(one, GEGLU))
        with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
            layer(torch.randn(1, 3, layer.proj.in_features, requires_grad=True))
        return {one.shape[-1] // layer.proj.in_features for one in kept if one.dim() == 3}

    for first in (False, True):
        assert shapes(QUICK, first) == {1} and shapes(replace(QUICK, checkpointing=True), first) == {8}
