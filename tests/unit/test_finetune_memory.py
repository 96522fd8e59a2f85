"""What a training takes of memory, known before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import ldm_files as ldm
import pytest
import torch
from palate.adapters.errors import FineTuneError
from palate.adapters.finetune import memory
from palate.adapters.finetune.memory import denoiser_of, free_bytes, need_of, require_memory
from palate.adapters.finetune.pairs import LabelledPair
from palate.adapters.finetune.personal import train_personal_lora
from palate.adapters.finetune.settings import TrainSettings

CPU = torch.device("cpu")
CONFIG = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
SETTINGS = TrainSettings(loss="dpo", batch=2, precision="float32", checkpointing=False).settled(20)


def test_weights_and_moments_are_counted_exactly() -> None:
    """AdamW on all float32 weights: 4 bytes each, 4 of its gradient, 8 of its moments, 4 of the frozen copy."""
    from diffusers import UNet2DConditionModel

    count = sum(parameter.numel() for parameter in UNet2DConditionModel.from_config(CONFIG).parameters())
    full = replace(SETTINGS, full=True)
    assert need_of(CONFIG, full, 128, "cpu").weights == 4 * count
    assert need_of(CONFIG, full, 128, "cpu").trained == 16 * count
    assert need_of(CONFIG, replace(full, loss="mapo"), 128, "cpu").trained == 12 * count  # no reference
    assert need_of(CONFIG, replace(full, fixed_noise=4), 128, "cpu").trained == 12 * count
    assert need_of(CONFIG, replace(full, loss="mapo", ema=0.99), 128, "cpu").trained == 16 * count
    assert need_of(CONFIG, replace(full, loss="mapo", optimizer="adamw8bit"), 128, "cpu").trained == 6 * count
    assert need_of(CONFIG, replace(SETTINGS, precision="bfloat16"), 128, "cuda").weights == 2 * count


def test_activations_are_those_of_a_real_run() -> None:
    """The real model keeps its LoRA's and attention's small change beside what is counted."""
    from diffusers import UNet2DConditionModel
    from palate.adapters.finetune.frozen import forget_inputs
    from palate.adapters.finetune.lora import add_lora

    unet = UNet2DConditionModel.from_config(CONFIG)
    add_lora(unet, 4)
    forget_inputs(unet)
    own, kept = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = unet(torch.randn(4, 4, 16, 16), torch.zeros(4), encoder_hidden_states=torch.randn(4, 77, 24)).sample
    assert out.requires_grad
    assert need_of(CONFIG, SETTINGS, 128, "cpu").activations == pytest.approx(sum(kept.values()), rel=0.15)


def test_more_pairs_take_more_and_computing_again_takes_less() -> None:
    one, four = (need_of(CONFIG, replace(SETTINGS, batch=batch), 128, "cpu").activations for batch in (1, 4))
    again = need_of(CONFIG, replace(SETTINGS, batch=4, checkpointing=True), 128, "cpu").activations
    assert four == 4 * one and again < 0.7 * four


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_models_layers_are_read_from_its_header(family: str, tmp_path: Path) -> None:
    file = ldm.write_checkpoint(tmp_path / "base.safetensors", family)
    config, others = denoiser_of(file)
    need = need_of(config, SETTINGS, 64, "cpu", others)
    inside = [shape for name, shape in ldm.shapes(family).items() if name.startswith("model.diffusion_model.")]
    outside = [shape for name, shape in ldm.shapes(family).items() if not name.startswith("model.diffusion_model.")]
    assert need.weights == 4 * sum(torch.Size(shape).numel() for shape in inside)
    assert others == 4 * sum(torch.Size(shape).numel() for shape in outside)
    assert denoiser_of(tmp_path / "nothing") is None and denoiser_of("playground") is not None


def test_as_many_pairs_at_once_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replace(SETTINGS, batch=8)
    for at_once in (8, 4, 1):
        room = need_of(CONFIG, replace(SETTINGS, batch=at_once), 128, "cpu").total
        monkeypatch.setattr(memory, "free_bytes", lambda _, room=room: room)
        assert require_memory(CONFIG, wanted, 128, CPU) == at_once
    monkeypatch.setattr(memory, "free_bytes", lambda _: None)
    assert require_memory(CONFIG, wanted, 128, CPU) is None


def test_what_would_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replace(SETTINGS, batch=8)
    again = need_of(CONFIG, replace(SETTINGS, batch=1, checkpointing=True), 128, "cpu").total
    monkeypatch.setattr(memory, "free_bytes", lambda _: again)
    with pytest.raises(FineTuneError, match=r"even one pair at a time takes .* It fits with gradient checkpointing \("):
        require_memory(CONFIG, wanted, 128, CPU)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1000)
    with pytest.raises(FineTuneError, match="Nothing smaller fits either"):
        require_memory(CONFIG, wanted, 128, CPU)


def test_nothing_is_loaded_before_it_is_known_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 10_000_000)
    monkeypatch.setattr("palate.adapters.finetune.opened.load_pipeline", lambda *_: pytest.fail("loaded"))
    pairs = [LabelledPair(Path(f"{k}a.png"), Path(f"{k}b.png")) for k in range(8)]
    with pytest.raises(FineTuneError, match=re.compile("Cannot train: even one pair .* found 0.0 GB free", re.S)):
        train_personal_lora("playground", pairs, TrainSettings(), tmp_path / "run", tmp_path / "mine")


def test_free_memory_is_known_here() -> None:
    assert free_bytes(CPU) > 1 << 20
