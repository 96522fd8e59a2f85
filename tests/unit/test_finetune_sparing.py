"""Memory before time: the same gradients from less that is kept, and no attention computed twice."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import steering_models as tiny
import torch
from finetune_small import CPU, QUICK, prepared
from palate.adapters.errors import CancelledError
from palate.adapters.finetune import sparing
from palate.adapters.finetune.activations import kept_for_backward, without_weights
from palate.adapters.finetune.gradients import KnownOfPairs
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora
from palate.adapters.finetune.losses import LOSSES
from palate.adapters.finetune.memory import need_of
from palate.adapters.finetune.noising import Noising
from palate.adapters.finetune.opened_joint import trained_of
from palate.adapters.finetune.predicting import predicted
from palate.adapters.finetune.sparing import spare_memory
from palate.adapters.finetune.step import Denoiser
from palate.adapters.finetune.weights import all_parameters
from torch.utils.flop_counter import FlopCounterMode

UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": tiny.WIDTH,
    "norm_num_groups": 4,
}
SDXL = {
    **UNET,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 16 + 6 * 4,
}
SD3 = {
    "_class_name": "SD3Transformer2DModel",
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": tiny.WIDTH,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 16,
    "out_channels": 4,
    "pos_embed_max_size": 8,
}
FLUX = {
    "_class_name": "FluxTransformer2DModel",
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": tiny.WIDTH,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (2, 2, 4),
}
FAMILIES = {"sd15": UNET, "sdxl": SDXL, "sd3": SD3, "flux": FLUX}


@pytest.fixture(autouse=True)
def the_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Or all tests after these would run with another."""
    asked: list[object] = []
    monkeypatch.setattr(sparing, "_let_go", lambda: asked.append(None))
    return asked


def model(family: str = "sd15") -> torch.nn.Module:
    import diffusers

    config = dict(FAMILIES[family])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(diffusers, str(config.pop("_class_name")))(**config)


def gradients(denoiser, train: Callable[[object], list[torch.nn.Parameter]], spare: bool, half: bool) -> list:
    parameters = train(denoiser)
    if spare:
        spare_memory(denoiser)
    denoiser.train()
    draw = torch.Generator().manual_seed(1)
    given = [torch.randn(2, *shape, generator=draw) for shape in ((4, 8, 8), (77, tiny.WIDTH), (16,), (6,))]
    noisy, tokens, pooled, sizes = given
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = predicted(denoiser, noisy, torch.tensor([250.0, 800.0]), tokens, pooled, sizes)
    found.float().square().mean().backward()
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


@pytest.mark.parametrize("train", [lambda one: add_lora(one, 2), all_parameters], ids=["lora", "full"])
@pytest.mark.parametrize(("family", "half"), [*((family, False) for family in FAMILIES), ("sd15", True)])
def test_the_gradients_are_the_same_bits(family: str, half: bool, train) -> None:
    fresh = model(family)
    plain = gradients(copy.deepcopy(fresh), train, False, half)
    spared = gradients(fresh, train, True, half)
    assert plain and any(float(one.abs().max()) > 0 for one in plain)
    assert all(torch.equal(one, other) for one, other in zip(plain, spared, strict=True))


def trained(folder: Path, checkpointing: bool, stop: int = 0, **changed: object):
    settings = replace(QUICK, steps=2, accumulate=2, checkpointing=checkpointing, **changed)
    denoiser = Denoiser(model(), Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100), CPU, torch.float32)
    parameters = trained_of(denoiser.unet, settings, 6)
    steps: list[object] = []
    known = KnownOfPairs((torch.eye(6), torch.eye(6).flip(0))) if settings.loss == "rpo" else None
    return train_lora(
        denoiser, parameters, prepared(), None, settings, folder, known, steps.append,
        (lambda: len(steps) == stop) if stop else None,
    )  # fmt: skip


@pytest.mark.parametrize(("loss", "full"), [*((loss, False) for loss in LOSSES), ("mapo", True), ("dpo", True)])
def test_every_loss_trains_to_the_same_bits(loss: str, full: bool, tmp_path: Path, the_allocator_is_left_alone) -> None:
    plain = trained(tmp_path / "plain", False, loss=loss, full=full).state
    assert not the_allocator_is_left_alone
    spared = trained(tmp_path / "spared", True, loss=loss, full=full).state
    assert the_allocator_is_left_alone and all(torch.equal(value, spared[name]) for name, value in plain.items())


def test_a_training_that_was_stopped_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", True, loss="mapo").state
    with pytest.raises(CancelledError):
        trained(tmp_path / "twice", True, 1, loss="mapo")
    again = trained(tmp_path / "twice", True, loss="mapo").state
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_no_attention_is_computed_twice_and_few_convolutions() -> None:
    """Which torch's own checkpoints would; of the text's few tokens it would not matter."""

    def operations(how: Callable[[object], object]) -> tuple[int, int]:
        denoiser = model()
        how(denoiser)
        with FlopCounterMode(display=False) as counter:
            gradients(denoiser, lambda one: add_lora(one, 2), False, False)
        of = counter.get_flop_counts()["Global"]
        return of[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu], of[torch.ops.aten.convolution]

    once, spared, twice = map(
        operations, (lambda _: None, spare_memory, lambda one: one.enable_gradient_checkpointing())
    )
    assert once[0] == spared[0] < twice[0] and once[1] < spared[1] < twice[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_is_counted(family: str) -> None:
    """Less than all, more than the blocks' inputs."""

    def kept(*how: bool) -> int:
        bare = without_weights(FAMILIES[family])
        add_lora(bare, 2)
        return kept_for_backward(bare, 2, 64, torch.float32, *how)

    assert kept(True) < kept(True, True) < kept(False)
    settings = replace(QUICK, precision="float32", checkpointing=True).settled(8)
    found = [need_of(FAMILIES[family], settings, 64, device).activations for device in ("cuda", "cpu")]
    assert found == [2 * kept(True), 2 * kept(True, True)]


def test_large_tensors_are_the_systems_where_glibc_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    asked: list[tuple[int, ...]] = []
    library = SimpleNamespace(mallopt=lambda *given: asked.append(given))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(sparing.sys, "platform", "linux")
    sparing._let_go()
    assert asked == [(-3, 1 << 20)]  # malloc.h: M_MMAP_THRESHOLD
    del library.mallopt  # musl has none
    sparing._let_go()
    monkeypatch.setattr(sparing.sys, "platform", "darwin")
    sparing._let_go()
    assert len(asked) == 1
