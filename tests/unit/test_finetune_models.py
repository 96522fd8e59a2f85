"""Whole models: SDXL from answers to a file, LoRAs merged into checkpoints, checkpoints of full fine-tuning."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import ldm_files as ldm
import numpy as np
import pytest
import steering_models as tiny
import torch
from finetune_small import grey_pairs
from palate.adapters.errors import FileFormatError, StoreError
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune.lora import add_lora, lora_of
from palate.adapters.finetune.merging import merge_lora, save_checkpoint
from palate.adapters.finetune.personal import train_personal_lora
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.steering import Generator
from palate.adapters.steering.pipelines import load_pipeline
from PIL import Image
from safetensors import safe_open

QUICK = TrainSettings(loss="dpo", steps=4, batch=2, rank=2, learning_rate=1e-3, check_every=2, size=16)


def random_lora(unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A LoRA that is on the model and does something."""
    for number, parameter in enumerate(add_lora(unet, 2)):
        parameter.data = 0.2 * tiny.drawn(*parameter.shape, seed=number)
    return lora_of(unet)


def test_sdxl_from_answers_to_a_lora_that_diffusers_loads_whole(tmp_path: Path, caplog) -> None:
    model = ldm.write_checkpoint(tmp_path / "model.safetensors", "sdxl")  # two layers a block, as all names count
    file = train_personal_lora(model, grey_pairs(tmp_path), QUICK, tmp_path / "run", tmp_path / "mine").file
    pipeline = load_pipeline(model, torch.float32).pipeline
    caplog.clear()
    pipeline.load_lora_weights(str(file))
    assert not [record for record in caplog.records if "unexpected keys" in record.getMessage().lower()]
    with safe_open(str(file), framework="pt") as read:
        layers = [key for key in read.keys() if key.endswith("lora_down.weight")]  # noqa: SIM118
        assert read.metadata()["ss_base_model_version"] == "sdxl_base_v1-0"
    loaded = [name for name, _ in pipeline.unet.named_parameters() if ".lora_A." in name]
    assert len(loaded) == len(layers) > 0
    moved = [value for name, value in pipeline.unet.named_parameters() if ".lora_B." in name]
    assert any(value.abs().max() > 0 for value in moved)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_lora_merged_into_a_single_file_does_what_it_does_beside_it(family: str, tmp_path: Path) -> None:
    """By every host's names: the file is read by diffusers' loader, and only the denoiser's attentions differ."""
    base = ldm.write_checkpoint(tmp_path / "base.safetensors", family, {"step": torch.tensor(7)})
    unet = load_pipeline(base, torch.float32).pipeline.unet
    file = save_lora(random_lora(unet), tmp_path / "mine", family)
    merged = merge_lora(base, file, tmp_path / "merged")
    assert merged.name == "merged.safetensors"
    theirs = load_pipeline(merged, torch.float32).pipeline.unet
    unet.fuse_lora()
    unet.unload_lora()
    for (name, one), other in zip(theirs.named_parameters(), unet.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-3), name
    with safe_open(str(base), framework="pt") as old, safe_open(str(merged), framework="pt") as new:
        assert set(old.keys()) == set(new.keys())
        changed = {key for key in old.keys() if not torch.equal(old.get_tensor(key), new.get_tensor(key))}  # noqa: SIM118
    assert changed and all(".attn" in key and key.startswith("model.diffusion_model.") for key in changed)


def test_merged_at_half_strength_is_half_the_way_and_a_folder_becomes_a_folder(tmp_path: Path) -> None:
    base = tiny.write_pipeline(tmp_path / "base")
    unet = load_pipeline(base, torch.float32).pipeline.unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    file = save_lora(random_lora(unet), tmp_path / "mine", "sd15")
    unets = [
        load_pipeline(merge_lora(base, file, tmp_path / str(strength), strength), torch.float32).pipeline.unet
        for strength in (0.5, 1.0)
    ]
    half, whole = (unet.state_dict() for unet in unets)
    for name, value in before.items():
        assert torch.allclose(half[name] - value, (whole[name] - value) / 2, atol=3e-3)
    assert any(not torch.allclose(whole[name], value, atol=1e-2) for name, value in before.items())
    with pytest.raises(StoreError, match="it is there already"):
        merge_lora(base, file, tmp_path / "1.0")


def test_a_lora_of_another_model_is_not_merged(tmp_path: Path) -> None:
    base = ldm.write_checkpoint(tmp_path / "base.safetensors", "sd15")
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    for name, width, said in (
        (layer, 5, "its layer lora_unet_down_blocks"),
        ("nowhere.to_q", 5, "no layer lora_unet_n"),
    ):
        state = {f"{name}.down": torch.ones(2, width), f"{name}.up": torch.ones(width, 2)}
        file = save_lora(state, tmp_path / "mine", "sd15")
        with pytest.raises(FileFormatError, match=said):
            merge_lora(base, file, tmp_path / "merged")
    assert not (tmp_path / "merged.safetensors").exists()


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_every_weight_of_full_fine_tuning_finds_its_place_in_a_single_file(family: str, tmp_path: Path) -> None:
    base = ldm.write_checkpoint(tmp_path / "base.safetensors", family)
    unet = load_pipeline(base, torch.float32).pipeline.unet
    state = {name: value.detach() + 0.25 for name, value in unet.named_parameters()}
    saved = save_checkpoint(base, state, tmp_path / "tuned")
    found = dict(load_pipeline(saved, torch.float32).pipeline.unet.named_parameters())
    assert found.keys() == state.keys()
    assert all(torch.allclose(found[name], value, atol=2e-3) for name, value in state.items())


def test_a_disk_that_fills_leaves_no_half_of_a_checkpoint(tmp_path: Path, monkeypatch) -> None:
    base = ldm.write_checkpoint(tmp_path / "base.safetensors", "sd15")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match="No space left on device"):
        save_checkpoint(base, {}, tmp_path / "tuned")
    folder = tiny.write_pipeline(tmp_path / "folder")
    monkeypatch.setattr(
        "diffusers.DiffusionPipeline.save_pretrained", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(StoreError, match="No space left"):
        save_checkpoint(folder, {}, tmp_path / "tuned folder")
    shutil.rmtree(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["base.safetensors"]


# -- from answers to whole models, with pictures before and after


def test_full_fine_tuning_from_answers_to_a_checkpoint(tmp_path: Path) -> None:
    base = tiny.write_pipeline(tmp_path / "base")
    settings = replace(QUICK, full=True, loss="mapo", learning_rate=1e-2, flip=True)
    found = train_personal_lora(base, grey_pairs(tmp_path), settings, tmp_path / "run", tmp_path / "tuned")
    tuned = dict(load_pipeline(found.file, torch.float32).pipeline.unet.named_parameters())
    assert all(torch.allclose(tuned[name], value, atol=1e-3) for name, value in found.trained.state.items())
    before = load_pipeline(base, torch.float32).pipeline.unet
    assert any(not torch.allclose(tuned[name], value, atol=5e-3) for name, value in before.named_parameters())


def test_samples_before_and_after_and_a_merged_model(tmp_path: Path) -> None:
    base, told = tiny.write_pipeline(tmp_path / "base"), []
    found = train_personal_lora(
        base,
        grey_pairs(tmp_path),
        replace(QUICK, learning_rate=0.3),
        tmp_path / "run",
        tmp_path / "mine",
        merge=tmp_path / "merged",
        samples=2,
        on_sample=lambda step, files: told.append((step, files)),
    )
    assert [(step, [file.name for file in files]) for step, files in told] == [
        (0, ["1 after 0 steps.png"]),  # all pairs have one prompt
        (4, ["1 after 4 steps.png"]),
    ]
    before, after = (np.asarray(Image.open(files[0]), np.int16) for _, files in told)
    moved = np.abs(after - before)
    assert moved.any()
    pictures = []
    for model in (base, tmp_path / "merged"):
        generator = Generator(model)
        pictures.append(np.asarray(generator.images("a red star", [0], size=16)[0], np.int16))
    assert (pictures[0] == before).all()
    apart = np.abs(pictures[1] - after)
    assert (
        found.file.is_file() and apart.mean() < 0.2 * moved.mean()
    )  # the merged weights are rounded to half precision
