"""SD3 and Flux from single files: the same model as the diffusers folder of the same weights, trained and merged."""

from __future__ import annotations

import os
from pathlib import Path

import joint_singles as models
import pytest
import torch
from finetune_small import grey_pairs
from palate.adapters.errors import FileFormatError, SteeringError
from palate.adapters.files.lora_file import save_lora
from palate.adapters.finetune import memory, opened
from palate.adapters.finetune.identity import identity_of, prepared_for
from palate.adapters.finetune.lora import add_lora, lora_of
from palate.adapters.finetune.memory import denoiser_of
from palate.adapters.finetune.merging import merge_lora, save_checkpoint
from palate.adapters.finetune.personal import train_personal_lora
from palate.adapters.finetune.predicting import predicted
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.steering import joint
from palate.adapters.steering.joint import JointModel, load_joint
from palate.adapters.steering.joint_configuration import transformer_of
from palate.adapters.steering.joint_files import joint_files
from palate.adapters.steering.joint_parts import Part, joint_family
from palate.adapters.steering.joint_reading import places_of
from palate.adapters.steering.joint_single import load_joint_files
from palate.adapters.steering.joint_tokenizer import t5_tokenizer
from palate.ui.cli import main
from PIL import Image
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")
CLASSES = {"sd3": "StableDiffusion3Pipeline", "sd35": "StableDiffusion3Pipeline", "flux": "FluxPipeline"}
CLASSES["flux-schnell"] = CLASSES["flux"]
QUICK = TrainSettings(loss="dpo", steps=2, batch=2, rank=2, learning_rate=1e-2, size=32, check_every=2)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk_and_quick_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(joint, "_STEPS", 2)


@pytest.fixture(scope="module", params=CLASSES)
def both(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, JointModel, Path]:
    """A kind, its model from a diffusers folder, and the folder in which `one.safetensors` is the same."""
    folder = tmp_path_factory.mktemp(request.param)
    found = load_joint(models.write_folder(request.param, folder / "model"), CLASSES[request.param], torch.float32)
    models.write_all_in_one(found.pipeline, folder / "one.safetensors")
    models.write_t5_tokenizer(folder / "tokenizer.json")
    return request.param, found, folder


@pytest.fixture(scope="module", params=["sd35", "flux"])
def split(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[JointModel, dict[str, Path]]:
    """A model from a diffusers folder, and the same in a file a part, as ComfyUI's folders are."""
    folder = tmp_path_factory.mktemp(f"{request.param} split")
    found = load_joint(models.write_folder(request.param, folder / "model"), CLASSES[request.param], torch.float32)
    files = models.write_split(found.pipeline, folder / "parts")
    files["words"] = models.write_t5_tokenizer(folder / "words" / "tokenizer.json")
    return found, files


def asked(model: JointModel, denoiser=None) -> torch.Tensor:
    """What a transformer predicts of two rows."""
    draw, config = torch.Generator().manual_seed(0), model.config
    shapes = (16, 4, 4), (6, config.joint_attention_dim), (config.pooled_projection_dim,)
    noisy, tokens, pooled = (torch.randn(2, *shape, generator=draw) for shape in shapes)
    with torch.no_grad():
        return predicted(denoiser or model.denoiser, noisy, torch.tensor([250.0, 800.0]), tokens, pooled, None)


def same(one: JointModel, other: JointModel) -> None:
    for prompt in ("a red star", ""):
        told, wanted = one.said(prompt, CPU), other.said(prompt, CPU)
        torch.testing.assert_close(told.tokens, wanted.tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(told.pooled, wanted.pooled, atol=1e-5, rtol=0)
    torch.testing.assert_close(asked(one), asked(other), atol=1e-5, rtol=0)
    picture = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    latents, wanted = (model.pipeline.vae.encode(picture).latent_dist.mean for model in (one, other))
    torch.testing.assert_close(latents, wanted, atol=1e-5, rtol=0)
    settings = [model.pipeline.vae.config for model in (one, other)]
    assert settings[0].scaling_factor == settings[1].scaling_factor
    assert settings[0].shift_factor == settings[1].shift_factor
    assert one.pipeline.scheduler.config.shift == other.pipeline.scheduler.config.shift
    assert one.release == other.release


def test_one_file_is_the_same_model_as_a_diffusers_folder_of_its_weights(both) -> None:
    _, whole, folder = both
    found = joint_files(folder / "one.safetensors")
    assert found is not None and found.given == [folder / "tokenizer.json"] and not found.said
    loaded = load_joint_files(found, torch.float32)
    assert loaded.pipeline.transformer.device.type == "meta"  # a T5 and a denoiser are never both in memory
    same(loaded, whole)


def test_a_file_a_part_is_the_same_model_too(split) -> None:
    whole, files = split
    unet, *others = files.values()
    found = joint_files(unet, others)
    assert found is not None and "clip_l.safetensors" in found.said
    same(load_joint_files(found, torch.float32), whole)
    offered = joint_files(unet, [unet.parent, files["words"].parent])  # two folders, in which each is found
    assert offered is not None and set(offered.given) == set(others)


def test_float8_with_and_without_scales_is_what_it_stands_for(split, tmp_path: Path) -> None:
    _, files = split
    weights, wanted = load_file(files["denoiser"]), {}
    name = next(key for key in weights if key.endswith(("img_mlp.0.weight", "x_block.mlp.fc1.weight")))
    weights = {key: value.to(torch.float8_e4m3fn) if value.ndim == 2 else value for key, value in weights.items()}
    wanted = {key: value.float() for key, value in weights.items()}
    for ending, scale in (("scale_weight", torch.tensor(0.5)), ("weight_scale", torch.tensor([0.25]))):
        beside = {name.removesuffix("weight") + ending: scale, "scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
        save_file(weights | beside, tmp_path / "unet.safetensors")
        save_file(wanted | {name: wanted[name] * scale}, tmp_path / "plain.safetensors")
        predictions = []
        for file in ("unet", "plain"):
            found = joint_files(tmp_path / f"{file}.safetensors", list(files.values())[1:])
            predictions.append(asked(load_joint_files(found, torch.float32)))
        torch.testing.assert_close(*predictions, atol=1e-6, rtol=0)


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
    wanted = asked(fresh)
    assert (wanted - asked(whole)).abs().max() > 1e-2
    merged = load_joint_files(joint_files(tmp_path / "merged.safetensors", others), torch.float32)
    torch.testing.assert_close(asked(merged), wanted, atol=0.05, rtol=0.05)  # in bfloat16


def random_lora(model: JointModel, file: Path, start: str = "") -> tuple[Path, torch.Tensor]:
    """A LoRA with numbers in it, all of its layers' names with this start, and what the model predicts with it."""
    denoiser = memory.without_weights(model.config)
    denoiser.load_state_dict(model.denoiser.state_dict(), assign=True)
    add_lora(denoiser, 2)
    draw = torch.Generator().manual_seed(0)
    for parameter in (value for name, value in denoiser.named_parameters() if ".lora_" in name):
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=draw)
    state = {start + name: value for name, value in lora_of(denoiser).items()}
    return save_lora(state, file, model.release), asked(model, denoiser)


def test_a_lora_is_merged_into_a_file_of_all_parts_whose_other_parts_stay_to_the_bit(both, tmp_path: Path) -> None:
    _, whole, folder = both
    lora, wanted = random_lora(whole, tmp_path / "mine.safetensors")
    merge_lora(folder / "one.safetensors", lora, tmp_path / "merged.safetensors")
    merged = load_joint_files(joint_files(tmp_path / "merged.safetensors", [folder / "tokenizer.json"]), torch.float32)
    assert (wanted - asked(whole)).abs().max() > 0.1
    torch.testing.assert_close(asked(merged), wanted, atol=0.05, rtol=0.05)  # in bfloat16
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
    _, whole, folder = both
    state = {name: value + 1 for name, value in whole.denoiser.state_dict().items()}
    save_checkpoint(joint_files(folder / "one.safetensors"), state, tmp_path / "mine.safetensors")
    again = load_joint_files(joint_files(tmp_path / "mine.safetensors", [folder / "tokenizer.json"]), torch.float32)
    for name, value in again.denoiser.state_dict().items():
        torch.testing.assert_close(value, state[name], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("gone", ["clip_l", "vae", "t5"])
def test_what_is_missing_is_said_with_what_was_found(split, gone: str) -> None:
    whole, files = split
    unet, others = files["denoiser"], [file for part, file in files.items() if part not in ("denoiser", gone)]
    if gone == "t5" and whole.family == "sd3":
        found = joint_files(unet, [file for file in others if file.suffix != ".json"])
        assert found is not None and "goes without a T5" in found.said
        assert load_joint_files(found, torch.float32).said("a", CPU).tokens.shape[-1] == models.T5
        return
    wanted = {"clip_l": "CLIP-L", "vae": "VAE", "t5": "T5"}[gone]
    with pytest.raises(SteeringError, match=rf"found no .*{wanted}.* for it, beside .*; expected .*--with"):
        joint_files(unet, others)


def test_what_fits_nothing_is_refused(split, tmp_path: Path) -> None:
    _, files = split
    unet, *others = files.values()
    wide = {"text_model.embeddings.token_embedding.weight": torch.zeros(8, 24)}
    save_file(wide, tmp_path / "clip_h.safetensors")
    with pytest.raises(SteeringError, match=r"clip_h.safetensors, a CLIP text encoder 24 wide, which doesn't fit it"):
        joint_files(unet, [*others, tmp_path / "clip_h.safetensors"])
    save_file({"lora_up": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(SteeringError, match=r"found lora.safetensors beside it, a LoRA; expected"):
        joint_files(unet, [*others, tmp_path / "lora.safetensors"])
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}}}')
    with pytest.raises(SteeringError, match=r"is no tokenizer of T5; expected .*ComfyUI has one"):
        joint_files(unet, [*others[:-1], tmp_path / "tokenizer.json"])
    words = models.write_t5_tokenizer(tmp_path / "many" / "tokenizer.json")
    with pytest.raises(SteeringError, match=rf"has {len(models.WORDS)} words; expected .*at most 32"):
        t5_tokenizer(words, (), 32)


def test_t5s_tokenizer_is_found_in_the_comfyui_that_the_model_is_in(split, tmp_path: Path, monkeypatch) -> None:
    _, files = split
    unet, *others = (path for part, path in files.items() if part != "words")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    with pytest.raises(SteeringError, match=r"found no tokenizer.json for it. ComfyUI has one in comfy/text_encoders"):
        joint_files(unet, others)
    (tmp_path / "models" / "unet").mkdir(parents=True)
    (tmp_path / "models" / "unet" / "x.safetensors").hardlink_to(unet)
    words = models.write_t5_tokenizer(tmp_path / "comfy" / "text_encoders" / "t5_tokenizer" / "tokenizer.json")
    found = joint_files(tmp_path / "models" / "unet" / "x.safetensors", others)
    assert found is not None and found.tokenizer == words


def test_of_a_hosts_files_those_that_fit_are_taken(split, tmp_path: Path) -> None:
    whole, files = split
    unet, *others = files.values()
    words = others.pop()
    other = "ae" if whole.family == "sd3" else "sd3_vae"  # of the same shapes
    (tmp_path / f"{other}.safetensors").hardlink_to(files["vae"])
    save_file({name: value.half() for name, value in load_file(files["t5"]).items()}, tmp_path / "t5xxl_8.safetensors")
    found = joint_files(unet, among=[*tmp_path.glob("*.safetensors"), *others], tokenizer=words)
    assert found is not None and set(found.others) == set(others)
    with pytest.raises(SteeringError, match=r"found no VAE for it"):
        joint_files(unet, among=[*tmp_path.glob("*.safetensors"), *(f for f in others if f != files["vae"])])


def test_flux_for_filling_and_numbers_of_four_bits_are_refused(tmp_path: Path, split) -> None:
    whole, files = split
    unet, *others = files.values()
    weights = load_file(unet)
    name = next(key for key in weights if key.endswith("qkv.weight"))
    save_file(weights | {name: weights[name].to(torch.uint8)}, tmp_path / "packed.safetensors")
    with pytest.raises(SteeringError, match=r"packed.safetensors.*in U8, which can't be trained on: take the file in"):
        load_joint_files(joint_files(tmp_path / "packed.safetensors", others), torch.float32)
    del weights[name]
    save_file(weights, tmp_path / "cut.safetensors")
    if joint_family(tmp_path / "cut.safetensors") is not None:
        with pytest.raises(SteeringError, match=r"cut.safetensors.*KeyError"):
            _ = load_joint_files(joint_files(tmp_path / "cut.safetensors", others), torch.float32).denoiser
    if whole.family == "flux":
        wide = torch.zeros(len(weights["img_in.weight"]), 384)
        save_file(weights | {"img_in.weight": wide}, tmp_path / "fill.safetensors")
        with pytest.raises(SteeringError, match=r"a FLUX.1 for filling or control \(96 channels go in\)"):
            joint_files(tmp_path / "fill.safetensors", others)


def test_memory_is_known_from_the_headers_and_refused_before_anything_is_loaded(split, tmp_path, monkeypatch) -> None:
    whole, files = split
    unet, *others = files.values()
    found = joint_files(unet, others)
    config, beside = denoiser_of(found)
    count = sum(weight.numel() for weight in memory.without_weights(config).parameters())
    assert count == sum(weight.numel() for weight in whole.denoiser.parameters()) and beside > 0
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(opened, "load_joint_files", lambda *_: pytest.fail("loaded"))
    with pytest.raises(Exception, match=r"Cannot train: it takes about"):
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
    from palate.adapters.comparisons import Comparison, PreferenceStore

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


# As published with the releases, what is the same for all of a family left out.
SD3 = {"attention_head_dim": 64, "caption_projection_dim": 1536, "in_channels": 16, "joint_attention_dim": 4096,
       "num_attention_heads": 24, "num_layers": 24, "out_channels": 16, "patch_size": 2,
       "pooled_projection_dim": 2048, "pos_embed_max_size": 192, "sample_size": 128}  # fmt: skip
FLUX = {"attention_head_dim": 128, "in_channels": 64, "joint_attention_dim": 4096, "num_attention_heads": 24,
        "num_layers": 19, "num_single_layers": 38, "patch_size": 1, "pooled_projection_dim": 768,
        "axes_dims_rope": [16, 56, 56]}  # fmt: skip
LARGE = {"num_attention_heads": 38, "num_layers": 38, "caption_projection_dim": 2432}
PUBLISHED = {
    "sd3": SD3,
    "sd35-medium": SD3 | {"pos_embed_max_size": 384, "qk_norm": "rms_norm", "dual_attention_layers": [*range(13)]},
    "sd35-large": SD3 | LARGE | {"qk_norm": "rms_norm"},
    "flux": FLUX | {"guidance_embeds": True},
    "flux-schnell": FLUX | {"guidance_embeds": False},
}


@pytest.mark.parametrize("release", PUBLISHED)
def test_the_sizes_of_the_releases_are_read_off_their_tensors(release: str) -> None:
    flux = release.startswith("flux")
    kind = "FluxTransformer2DModel" if flux else "SD3Transformer2DModel"
    state = memory.without_weights({"_class_name": kind, **PUBLISHED[release]}).state_dict()
    original = models.flux_by_original_names(state) if flux else models.sd3_by_original_names(state)
    part = Part("denoiser", Path("model"), "", {name: tuple(value.shape) for name, value in original.items()})
    config = transformer_of(part)
    assert {name: config[name] for name in PUBLISHED[release]} == PUBLISHED[release]
    assert {name: tuple(value.shape) for name, value in state.items()} == dict(places_of(part).shapes)
