"""SD3 and Flux trained from single files: the LoRA is the one from the folder; merging keeps the files' layout."""

from __future__ import annotations

import os
from pathlib import Path

import joint_singles as models
import pytest
import torch
from finetune_small import grey_pairs
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import FileFormatError, FineTuneError
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune import memory, opened
from palate.adapters.finetune.identity import identity_of, prepared_for
from palate.adapters.finetune.liked import against_samples, paints_of
from palate.adapters.finetune.lora import add_lora, lora_of
from palate.adapters.finetune.memory import denoiser_of
from palate.adapters.finetune.merging import merge_lora, save_checkpoint
from palate.adapters.finetune.personal import train_personal_lora
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.steering import joint
from palate.adapters.steering.joint import JointModel, load_joint
from palate.adapters.steering.joint_files import joint_files
from palate.adapters.steering.joint_single import load_joint_files
from palate.ui.cli import main
from PIL import Image
from safetensors.torch import load_file, save_file

QUICK = TrainSettings(loss="dpo", steps=2, batch=2, rank=2, learning_rate=1e-2, size=32, check_every=2)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk_and_quick_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(joint, "_STEPS", 2)


@pytest.fixture(scope="module", params=models.CLASSES)
def both(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[JointModel, Path]:
    """A model, and the folder in which `model` and `one.safetensors` are it."""
    folder = tmp_path_factory.mktemp(request.param)
    return models.in_one(request.param, folder), folder


@pytest.fixture(scope="module", params=["sd35", "flux"])
def split(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[JointModel, dict[str, Path]]:
    """A model, and the files of its parts."""
    return models.in_parts(request.param, tmp_path_factory.mktemp(f"{request.param} split"))


def test_from_answers_to_the_lora_that_the_folder_gives_which_diffusers_loads(split, tmp_path: Path) -> None:
    whole, files = split
    folder, pairs = files["denoiser"].parents[1] / "model", grey_pairs(tmp_path)
    unet, *others = files.values()
    painted: list[Path] = []
    found = train_personal_lora(
        joint_files(unet, others), pairs, QUICK, tmp_path / "run", tmp_path / "mine", "mara",
        samples=1, on_sample=lambda _, files: painted.extend(files), merge=tmp_path / "merged.safetensors",
    )  # fmt: skip
    assert len(painted) == 2 and Image.open(painted[1]).size == (32, 32)
    beside = train_personal_lora(folder, pairs, QUICK, tmp_path / "folder's", tmp_path / "theirs").trained.state
    assert beside.keys() == found.trained.state.keys()
    for name, value in beside.items():
        torch.testing.assert_close(found.trained.state[name], value, atol=1e-4, rtol=0)
    fresh = load_joint(folder, type(whole.pipeline).__name__, torch.float32)
    fresh.pipeline.load_lora_weights(str(found.file))
    wanted = models.asked(fresh)
    assert (wanted - models.asked(whole)).abs().max() > 1e-2
    merged = load_joint_files(joint_files(tmp_path / "merged.safetensors", others), torch.float32)
    torch.testing.assert_close(models.asked(merged), wanted, atol=0.05, rtol=0.05)  # in bfloat16


def random_lora(model: JointModel, file: Path, start: str = "") -> tuple[Path, torch.Tensor]:
    """A LoRA with numbers in it, all of its layers' names with this start, and what the model predicts with it."""
    denoiser = memory.without_weights(model.config)
    denoiser.load_state_dict(model.denoiser.state_dict(), assign=True)
    add_lora(denoiser, 2)
    draw = torch.Generator().manual_seed(0)
    for parameter in (value for name, value in denoiser.named_parameters() if ".lora_" in name):
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=draw)
    state = {start + name: value for name, value in lora_of(denoiser).items()}
    return save_lora(state, file, model.release), models.asked(model, denoiser)


def test_a_lora_is_merged_into_a_file_of_all_parts_whose_other_parts_stay_to_the_bit(both, tmp_path: Path) -> None:
    whole, folder = both
    lora, wanted = random_lora(whole, tmp_path / "mine.safetensors")
    merge_lora(folder / "one.safetensors", lora, tmp_path / "merged.safetensors")
    merged = load_joint_files(joint_files(tmp_path / "merged.safetensors", [folder / "tokenizer.json"]), torch.float32)
    assert (wanted - models.asked(whole)).abs().max() > 0.1
    torch.testing.assert_close(models.asked(merged), wanted, atol=0.05, rtol=0.05)  # in bfloat16
    before, after = load_file(folder / "one.safetensors"), load_file(tmp_path / "merged.safetensors")
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert name.startswith("model.diffusion_model.") or torch.equal(value, before[name])
    random_lora(whole, tmp_path / "strange.safetensors", "else.")
    with pytest.raises(FileFormatError, match=r"this model has no layer transformer\.else"):
        merge_lora(folder / "one.safetensors", tmp_path / "strange.safetensors", tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def test_float8_is_merged_into_bfloat16_without_its_scales(split, tmp_path: Path) -> None:
    whole, files = split
    lora, _ = random_lora(whole, tmp_path / "mine.safetensors")
    weights = load_file(files["denoiser"])
    name = next(key for key in weights if key.endswith("qkv.weight"))
    halved = weights | {name: (2 * weights[name]).to(torch.float8_e4m3fn)}
    halved |= {name.removesuffix("weight") + "scale_weight": torch.tensor(0.5)}
    save_file(halved, tmp_path / "unet.safetensors")
    merge_lora(tmp_path / "unet.safetensors", lora, tmp_path / "merged.safetensors", strength=0.0)
    after = load_file(tmp_path / "merged.safetensors")
    assert after.keys() == weights.keys() and after[name].dtype == torch.bfloat16
    torch.testing.assert_close(after[name].float(), halved[name].float() / 2, atol=1e-2, rtol=1e-2)


def test_all_weights_are_saved_in_the_files_own_layout(both, tmp_path: Path) -> None:
    whole, folder = both
    state = {name: value + 1 for name, value in whole.denoiser.state_dict().items()}
    save_checkpoint(joint_files(folder / "one.safetensors"), state, tmp_path / "mine.safetensors")
    again = load_joint_files(joint_files(tmp_path / "mine.safetensors", [folder / "tokenizer.json"]), torch.float32)
    for name, value in again.denoiser.state_dict().items():
        torch.testing.assert_close(value, state[name], atol=1e-2, rtol=1e-2)


def test_memory_is_known_from_the_headers_and_refused_before_anything_is_loaded(split, tmp_path, monkeypatch) -> None:
    whole, files = split
    unet, *others = files.values()
    found = joint_files(unet, others)
    config, beside = denoiser_of(found)
    count = sum(weight.numel() for weight in memory.without_weights(config).parameters())
    assert count == sum(weight.numel() for weight in whole.denoiser.parameters())
    assert beside == 4 * sum(weight.numel() for weight in whole.pipeline.vae.parameters())
    towers = sum(weight.numel() for tower in whole.towers for weight in tower.parameters())
    assert towers <= memory.text_of(found) < 2 * towers  # T5's files hold its words twice
    assert memory.text_of("playground") is None
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(opened, "load_joint_files", lambda *_: pytest.fail("loaded"))
    with pytest.raises(FineTuneError, match=r"Cannot train: even one pair at a time takes about"):
        train_personal_lora(found, grey_pairs(tmp_path), QUICK, tmp_path / "run", tmp_path / "mine")


def test_other_text_encoders_or_a_replaced_file_are_another_training(split, tmp_path: Path) -> None:
    _, files = split
    unet, *others = files.values()
    one = joint_files(unet, others)
    copy = tmp_path / files["vae"].name
    save_file(load_file(files["vae"]), copy)
    other = joint_files(unet, [copy if file == files["vae"] else file for file in others])
    assert identity_of(one) == identity_of(joint_files(unet, others)) != identity_of(other)
    before = prepared_for(other, "float32")
    assert before == prepared_for(other, "float32")
    os.utime(copy, (1, 1))
    assert prepared_for(other, "float32") != before


def test_the_command_takes_files_beside_the_model(split, tmp_path: Path, monkeypatch, capsys) -> None:
    _, files = split
    unet, *others = map(str, files.values())
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    with PreferenceStore(tmp_path / "home" / "store") as store:
        for k in range(8):
            light, dark = (store.add_image(Image.new("RGB", (32, 32), (c + k, c, c))) for c in (200, 40))
            store.add(Comparison("mara", light, dark, "left", prompt="a red star"))
    command = ["train", "lora", "--person", "mara", "--steps", "2", "--size", "32", "--device", "cpu", "--model"]
    assert main([*command, unet, "--with", *others, "-o", str(tmp_path / "mine.safetensors")]) == 0
    assert "With clip_l.safetensors" in capsys.readouterr().err and (tmp_path / "mine.safetensors").is_file()
    assert main([*command, unet, "--with", *others[1:]]) == 2
    assert "found no" in capsys.readouterr().err
    assert main([*command, "playground", "--with", *others]) == 2
    assert "no single file of SD3 or Flux" in capsys.readouterr().err


def test_liked_pictures_alone_have_the_rejected_ones_painted(split, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(joint, "SIDE", 32)
    (tmp_path / "liked").mkdir()
    Image.new("RGB", (32, 32), (200, 0, 0)).save(tmp_path / "liked" / "a.png")
    unet, *others = split[1].values()
    (pair,) = against_samples(
        paints_of(joint_files(unet, others), "cpu"), tmp_path / "liked", tmp_path / "run", "a red star", 1
    )
    assert Image.open(pair.rejected).size == (32, 32)
