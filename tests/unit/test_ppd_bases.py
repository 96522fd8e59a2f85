"""`palate train ppd` for Stable Cascade, SD3 and Flux: from answers to a file that ComfyUI and diffusers load."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import ppd_pipelines as models
import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import CancelledError, PPDError, SteeringError
from palate.adapters.files.ppd_file import load_ppd
from palate.adapters.finetune.noising import noising_of
from palate.adapters.finetune.predicting import predicted
from palate.adapters.ppd import base_cascade, memory
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.base import load_base
from palate.adapters.ppd.base_cascade import EFFNET
from palate.adapters.ppd.denoisers import branch_in, layers_in, use_in
from palate.adapters.ppd.from_answers import PPDFromAnswers, Watchers, train_ppd_file
from palate.adapters.ppd.settings import PPDSettings
from palate.adapters.ppd.sources import StoreAnswers
from palate.adapters.steering import joint
from palate.ui.cli import main
from PIL import Image

KINDS = {"sd3": "custom", "flux": "custom", "combined": "cascade"}
SIZES = {"sd3": 32, "flux": 32, "combined": 128}
QUICK = PPDSettings(steps=2, batch=2, check_every=2, held_out=0.3, judged_pairs=4, save_every=0.0, most=2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk_and_quick_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    for module, steps in ((base_cascade, ("_STEPS", "_LAST_STEPS")), (joint, ("_STEPS", "_FEW_STEPS"))):
        for name in steps:
            monkeypatch.setattr(module, name, 2)


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = models.write(request.param, tmp_path_factory.mktemp(request.param) / "model")
    if request.param == "combined":
        models.write_effnet(folder / EFFNET)
    return request.param, folder


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (64, 72, 3), dtype=np.uint8))


@pytest.fixture
def store(tmp_path: Path):
    with PreferenceStore(tmp_path / "store") as found:
        ids = [found.add_image(picture(number)) for number in range(8)]
        for person in range(3):
            for number in range(3):
                sides = ids[(2 * number + person) % 8], ids[(2 * number + person + 1) % 8]
                found.add(Comparison(f"person {person}", *sides, "left", prompt="a red star"))
        yield found


def trained(
    model: tuple[str, Path], store: PreferenceStore, folder: Path, settings: PPDSettings = QUICK, **watching: object
) -> PPDFromAnswers:
    kind, where = model
    settings, source = replace(settings, size=SIZES[kind]), StoreAnswers(store)
    asked = {"encoder": models.tiny.encoder(), "watchers": Watchers(**watching)}
    return train_ppd_file(where, source, settings, folder, folder / "out", **asked)


def asked(denoiser, base, told: float = 0.5) -> torch.Tensor:
    """What a denoiser says of two rows, as the training asks it."""
    reader = base.readers(models.tiny.encoder(), 64, CPU)
    latents = reader.latents(picture(9).resize((64, 64)))[None].expand(2, -1, -1, -1)
    said = reader.text("a blue hill")
    time = base.noising.told(torch.full((2,), int(told * 1000)))
    with torch.no_grad():
        return predicted(denoiser, latents, time, said.tokens.expand(2, -1, -1), said.pooled.expand(2, -1), None)


def test_from_answers_to_a_file_that_acts_as_it_was_trained(model, store: PreferenceStore, tmp_path: Path) -> None:
    kind, folder = model
    painted: list[Path] = []
    sampling = replace(QUICK, sample_every=2)
    found = trained(model, store, tmp_path / "whole", sampling, on_sample=lambda _, files: painted.extend(files))
    assert found.held_out and found.trained is not None and found.trained.best is not None
    assert painted and all(Image.open(file).size == (SIZES[kind],) * 2 for file in painted)
    ppd, base = load_ppd(found.file, models.tiny.encoder()), load_base(folder, torch.float32)
    assert ppd.base == KINDS[kind] and ppd.attention.layers == layers_in(base.denoiser)[0]
    for value in ppd.attention.values:
        assert float(value.weight.detach().abs().max()) > 0.0
        value.weight.data.mul_(1000)  # two steps are few
    pairs = torch.nn.functional.normalize(torch.randn(2, 4, 24, generator=torch.Generator().manual_seed(0)), dim=-1)
    user = ppd.user(pairs[0], pairs[1], "mara")
    plain = asked(base.denoiser, base)
    with branch_in(base.denoiser, ppd) as branch:
        assert torch.equal(asked(base.denoiser, base), plain)
        branch.tokens = user.tokens[None]
        wanted = asked(base.denoiser, base)
    with use_in(base.denoiser, ppd, replace(user, negative=user.tokens)):
        acting = asked(base.denoiser, base)
    assert torch.allclose(acting, wanted, atol=1e-5) and not torch.allclose(wanted, plain, atol=1e-3)
    assert torch.equal(asked(base.denoiser, base), plain)


def test_a_stopped_one_goes_on_to_the_bit_and_painting_changes_nothing(model, store, tmp_path: Path) -> None:
    small, steps = replace(QUICK, precision="bfloat16", gradient_checkpointing=True), []  # as on a GPU
    whole = trained(model, store, tmp_path / "whole", replace(small, sample_every=1))
    with pytest.raises(CancelledError):
        trained(model, store, tmp_path / "parts", small, on_step=steps.append, cancelled=lambda: len(steps) == 1)
    parts = trained(model, store, tmp_path / "parts", small, on_step=steps.append)
    assert [step.step for step in steps] == [1, 2]
    assert load_ppd(parts.file).identity == load_ppd(whole.file).identity


def test_the_command_trains_it_and_says_where_it_is_used(store, tmp_path: Path, capsys, monkeypatch) -> None:
    model = models.write("sd3", tmp_path / "model")
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("palate.adapters.encoders.load_encoder", lambda *_: models.tiny.encoder())
    options = ["--model", str(model), "--steps", "1", "--batch", "1", "--size", "32", "--encoder", "tiny"]
    assert main(["train", "ppd", "--store", str(tmp_path / "store"), *options]) == 0
    told = capsys.readouterr().out
    assert "people.safetensors" in told and "Load PPD and Apply User in ComfyUI" in told


def test_flux_is_asked_as_its_pipeline_asks(tmp_path: Path) -> None:
    from diffusers import FluxPipeline

    flux = load_base(models.write("flux", tmp_path / "flux"), torch.float32).denoiser
    draw = torch.Generator().manual_seed(0)
    noisy, tokens, pooled = (torch.randn(2, *shape, generator=draw) for shape in ((4, 4, 6), (5, 64), (32,)))
    with torch.no_grad():
        found = predicted(flux, noisy, torch.tensor([250.0, 250.0]), tokens, pooled, None)
        places = FluxPipeline._prepare_latent_image_ids(2, 2, 3, CPU, torch.float32)
        wanted = flux(
            FluxPipeline._pack_latents(noisy, 2, 4, 4, 6), tokens, pooled, torch.full((2,), 0.25), places,
            torch.zeros(5, 3), torch.full((2,), 3.5),
        ).sample  # fmt: skip
    assert torch.allclose(found, FluxPipeline._unpack_latents(wanted, 32, 48, 8), atol=1e-6)


def test_stage_c_is_noised_as_its_scheduler_noises() -> None:
    from diffusers import DDPMWuerstchenScheduler

    scheduler, draw = DDPMWuerstchenScheduler(), torch.Generator().manual_seed(0)
    noising = noising_of(scheduler)
    latents, noise = torch.randn(2, 3, 16, 4, 4, generator=draw)
    steps = torch.tensor([0, 499, 999])
    assert noising.prediction == "epsilon" and torch.allclose(noising.told(steps), torch.tensor([0.001, 0.5, 1.0]))
    wanted = scheduler.add_noise(latents, noise, noising.told(steps))
    assert torch.allclose(noising.noised(latents, noise, steps), wanted, atol=1e-6)
    assert torch.equal(noising.target(latents, noise, steps), noise)


def test_what_memory_will_surely_not_do_is_said_before_anything_is_loaded(
    model, store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = model
    least = memory.least_of_others(folder, QUICK)
    loaded = load_base(folder, torch.float32)
    assert least.weights == 4 * sum(weight.numel() for weight in loaded.denoiser.parameters())
    attention = UserAttention(*layers_in(loaded.denoiser))
    assert least.trained == 16 * sum(weight.numel() for weight in attention.parameters())
    assert memory.least_of_others(folder, replace(QUICK, precision="bfloat16")).weights == least.weights // 2
    monkeypatch.setattr(memory, "free_bytes", lambda device: least.total - 1)
    with pytest.raises(PPDError, match=r"it takes more than .* found .* Train where there is more memory"):
        trained(model, store, tmp_path / "too much")
    assert memory.least_of_others(models.index(tmp_path / "empty", "FluxPipeline"), QUICK) is None


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("FluxFillPipeline", "found a FluxFillPipeline; expected FLUX.1-dev or -schnell"),
        ("StableCascadeDecoderPipeline", "found a StableCascadeDecoderPipeline; expected stage C"),
        ("StableCascadePriorPipeline", f"found no {EFFNET}; expected {EFFNET} of Stable Cascade's own release"),
        ("StableDiffusion3Pipeline", "Cannot load the model 'model': .* expected a whole StableDiffusion3Pipeline"),
    ],
)
def test_what_cannot_be_trained_is_said(tmp_path: Path, kind: str, match: str) -> None:
    with pytest.raises((PPDError, SteeringError), match=match):
        load_base(models.index(tmp_path / "model", kind), torch.float32)


def test_what_stage_c_alone_cannot_do_is_said(tmp_path: Path) -> None:
    folder = models.write("cascade", tmp_path / "prior")
    (folder / EFFNET).write_bytes(b"nothing")
    with pytest.raises(PPDError, match=f"Cannot read {EFFNET}"):
        load_base(folder, torch.float32)
    models.write_effnet(folder / EFFNET)
    base = load_base(folder, torch.float32)
    with pytest.raises(PPDError, match="found stage C alone; expected stages B and A beside it"):
        base.painter(None)
    assert base.readers(models.tiny.encoder(), 256, CPU).latents(Image.new("RGB", (256, 256))).shape == (16, 6, 6)


def test_what_else_could_be_trained_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        SteeringError, match=r"'flux1-dev\.safetensors'.* a diffusers folder of Stable Cascade, SD3 or Flux"
    ):
        load_base(tmp_path / "flux1-dev.safetensors", torch.float32)


def test_a_size_that_patches_do_not_fit_is_refused(tmp_path: Path) -> None:
    base = load_base(models.write("sd3", tmp_path / "sd3"), torch.float32)
    with pytest.raises(PPDError, match="at 72 pixels: this model takes sides that are multiples of 16"):
        base.readers(models.tiny.encoder(), 72, CPU)
