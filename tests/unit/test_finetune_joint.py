"""`palate train lora` for SD3 and Flux: tiny models of diffusers' own classes, from answers to a file that loads."""

from __future__ import annotations

import gc
import os
import weakref
from dataclasses import replace
from pathlib import Path

import ppd_pipelines as models
import pytest
import torch
from finetune_small import grey_pairs
from palate.adapters.errors import FileFormatError, FineTuneError, SteeringError
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune import memory, opened, personal
from palate.adapters.finetune.liked import against_samples, paints_of
from palate.adapters.finetune.lora import add_lora, lora_of
from palate.adapters.finetune.memory import denoiser_of, need_of
from palate.adapters.finetune.merging import merge_lora
from palate.adapters.finetune.noising import noising_of
from palate.adapters.finetune.personal import train_personal_lora
from palate.adapters.finetune.predicting import predicted
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.steering import joint
from palate.adapters.steering.joint import load_joint
from palate.ui.panel.preflight import check_start
from PIL import Image
from safetensors import safe_open

KINDS = {"sd3": "StableDiffusion3Pipeline", "flux": "FluxPipeline"}
RELEASES = {"sd3": "stable-diffusion-3-5-medium/lora", "flux": "flux-1-dev/lora"}  # the small SD3 has 3.5's attention
CPU = torch.device("cpu")
QUICK = TrainSettings(loss="dpo", steps=2, batch=2, rank=2, learning_rate=1e-2, size=32, check_every=2)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk_and_quick_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(joint, "_STEPS", 2)


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, models.write(request.param, tmp_path_factory.mktemp(request.param) / "model")


class Light:
    """How bright a picture is, and one; no text side."""

    identity, has_text = "light", False

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        return torch.tensor([[image.convert("L").getpixel((0, 0)) / 255.0, 1.0] for image in images])


def asked(denoiser) -> torch.Tensor:
    """What a transformer predicts of two rows."""
    draw = torch.Generator().manual_seed(0)
    flux = type(denoiser).__name__.startswith("Flux")
    noisy, tokens, pooled = (
        torch.randn(2, *shape, generator=draw) for shape in ((4, 8, 8), (6, models.TEXT), (32 if flux else 20,))
    )
    with torch.no_grad():
        return predicted(denoiser, noisy, torch.tensor([250.0, 800.0]), tokens, pooled, None)


def test_from_answers_to_a_lora_that_diffusers_loads(model, tmp_path: Path, caplog) -> None:
    kind, folder = model
    painted: list[Path] = []
    found = train_personal_lora(
        folder, grey_pairs(tmp_path), QUICK, tmp_path / "run", tmp_path / "mine", "mara",
        samples=1, on_sample=lambda _, files: painted.extend(files), merge=tmp_path / "merged",
    )  # fmt: skip
    assert found.held_out and len(painted) == 2 and Image.open(painted[1]).size == (32, 32)
    assert all(float(value.abs().max()) > 0 for name, value in found.trained.state.items() if name.endswith("down"))
    trained = load_joint(folder, KINDS[kind], torch.float32)
    parameters = add_lora(trained.denoiser, 2)
    plain = asked(trained.denoiser)
    with torch.no_grad():
        for name, parameter in trained.denoiser.named_parameters():
            if ".lora_" in name:
                layer, _, half = name.removesuffix(".palate.weight").rpartition(".lora_")
                # As files hold it: in float16.
                parameter.copy_(found.trained.state[f"{layer}.{'down' if half == 'A' else 'up'}"].half())
    wanted = asked(trained.denoiser)
    fresh = load_joint(folder, KINDS[kind], torch.float32)
    caplog.clear()
    fresh.pipeline.load_lora_weights(str(found.file))
    assert not [record for record in caplog.records if "unexpected keys" in record.getMessage().lower()]
    assert sum(".lora_A." in name for name, _ in fresh.denoiser.named_parameters()) == len(parameters) // 2
    torch.testing.assert_close(asked(fresh.denoiser), wanted, atol=1e-5, rtol=0)
    assert (wanted - plain).abs().max() > 1e-2
    merged = load_joint(tmp_path / "merged", KINDS[kind], torch.float32)
    torch.testing.assert_close(asked(merged.denoiser), wanted, atol=0.05, rtol=0.05)  # in bfloat16
    with safe_open(str(found.file), framework="pt") as read:
        said = read.metadata()
        assert said["modelspec.architecture"] == RELEASES[kind] and said["ss_network_dim"] == "2"
        assert said["palate.person"] == "mara" and said["palate.model"] == "model"


def test_the_trained_model_is_gone_before_it_is_loaded_once_more_to_be_merged(tmp_path: Path, monkeypatch) -> None:
    folder, alive = models.write("sd3", tmp_path / "model"), []
    load, merge = opened.load_joint, personal.merge_lora

    def loaded(*given):
        found = load(*given)
        alive.append(weakref.ref(found.denoiser))
        return found

    def merged(*given):
        gc.collect()
        alive.append(alive[0]())
        return merge(*given)

    monkeypatch.setattr(opened, "load_joint", loaded)
    monkeypatch.setattr(personal, "merge_lora", merged)
    train_personal_lora(
        folder, grey_pairs(tmp_path), QUICK, tmp_path / "run", tmp_path / "mine", merge=tmp_path / "merged"
    )
    assert alive[1] is None and (tmp_path / "merged").is_dir()


@pytest.mark.parametrize("loss", ["sft", "mapo", "kto", "adaptive_dpo", "rpo"])
def test_every_loss_trains_by_flow_matching(loss: str, tmp_path: Path) -> None:
    folder = models.write("flux", tmp_path / "model")
    settings = replace(QUICK, loss=loss, precision="bfloat16", checkpointing=True, flip=True)
    encoder = Light() if loss == "rpo" else None
    found = train_personal_lora(
        folder, grey_pairs(tmp_path), settings, tmp_path / "run", tmp_path / "mine", "", encoder
    )
    assert all(bool(torch.isfinite(value).all()) for value in found.trained.state.values())
    assert any(float(value.abs().max()) > 0 for name, value in found.trained.state.items() if name.endswith("up"))


def test_fluxs_times_are_shifted_as_its_pipeline_shifts_them() -> None:
    """At 1024 pixels, 4096 places: mu is 1.15; of half noise it makes e^1.15 / (e^1.15 + 1) = 0.7595."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    half = torch.tensor([499])
    assert float(noising_of(scheduler, 4096).told(half)) == pytest.approx(759.5, abs=0.1)
    assert float(noising_of(scheduler).told(half)) == pytest.approx(500.0)
    fixed = FlowMatchEulerDiscreteScheduler(shift=3.0)
    assert float(noising_of(fixed, 4096).told(half)) == pytest.approx(750.0)
    scheduler.set_timesteps(1000, mu=1.15)
    drawn = scheduler.sigmas[:-1].flip(0)
    assert torch.allclose(noising_of(scheduler, 4096).told(torch.arange(1000)) / 1000, drawn, atol=1e-3)


def test_what_it_takes_of_memory_is_said_before_anything_is_loaded(model, tmp_path: Path, monkeypatch) -> None:
    kind, folder = model
    config, others = denoiser_of(folder)
    settings = replace(QUICK, precision="float32", checkpointing=False).settled(8)
    need, loaded = need_of(config, settings, 64, "cpu", others), load_joint(folder, KINDS[kind], torch.float32)
    whole = [*loaded.denoiser.parameters(), *loaded.denoiser.buffers()]
    assert others > 0 and need.weights == 4 * sum(weight.numel() for weight in whole)
    own = {parameter.untyped_storage().data_ptr() for parameter in loaded.denoiser.parameters()}
    add_lora(loaded.denoiser, 2)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    tokens, pooled = (256, 32) if kind == "flux" else (77 + 256, 20)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = predicted(loaded.denoiser, torch.randn(4, 4, 8, 8), torch.full((4,), 500.0),
                        torch.randn(4, tokens, models.TEXT), torch.randn(4, pooled), None)  # fmt: skip
    assert out.requires_grad and need.activations == pytest.approx(sum(kept.values()), rel=0.2)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1000)
    monkeypatch.setattr("palate.adapters.finetune.opened.load_joint", lambda *_: pytest.fail("loaded"))
    with pytest.raises(FineTuneError, match=r"Cannot train: even one pair .* found 0.0 GB free"):
        train_personal_lora(folder, grey_pairs(tmp_path), QUICK, tmp_path / "run", tmp_path / "mine")


def test_a_size_that_patches_do_not_fit_is_refused(model, tmp_path: Path) -> None:
    settings = replace(QUICK, size=40)
    with pytest.raises(FineTuneError, match=r"at 40 pixels: .* multiples of 16.*--size 32"):
        train_personal_lora(model[1], grey_pairs(tmp_path), settings, tmp_path / "run", tmp_path / "mine")


def test_a_lora_of_another_model_is_not_merged(model, tmp_path: Path) -> None:
    other = load_joint(model[1], KINDS[model[0]], torch.float32).denoiser
    add_lora(other, 1)
    state = {f"else.{name}": value for name, value in lora_of(other).items()}
    file = save_lora(state, tmp_path / "other", model[0])
    with pytest.raises(FileFormatError, match=r"this model has no layer transformer\.else"):
        merge_lora(model[1], file, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_liked_pictures_alone_have_the_rejected_ones_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import StableDiffusion3Pipeline

    monkeypatch.setattr(joint, "SIDE", 32)
    (tmp_path / "liked").mkdir()
    Image.new("RGB", (32, 32), (200, 0, 0)).save(tmp_path / "liked" / "a.png")
    model = str(models.write("sd3", tmp_path / "model"))
    elsewhere = []  # text encoders stay on the CPU: where the pipeline had them, older diffusers would compute there
    call = StableDiffusion3Pipeline.__call__

    def told(pipeline, **asked):
        elsewhere.append(pipeline.text_encoder)
        return call(pipeline, **asked)

    monkeypatch.setattr(StableDiffusion3Pipeline, "__call__", told)
    found = [
        against_samples(paints_of(model, "cpu"), tmp_path / "liked", tmp_path / name, "a red star", 2) for name in "ab"
    ]
    assert elsewhere == [None] * 4
    one, other = ([Image.open(pair.rejected) for pair in pairs] for pairs in found)
    assert [picture.size for picture in one] == [(32, 32)] * 2 and one[0].tobytes() == other[0].tobytes()
    assert one[0].tobytes() != one[1].tobytes()


def test_the_panel_says_what_it_can_not_open_and_what_can(tmp_path: Path) -> None:
    folder = models.index(tmp_path / "mine", "FluxPipeline")
    with pytest.raises(SteeringError, match=r"found a FluxPipeline, .*palate train lora --model"):
        check_start(str(folder))
