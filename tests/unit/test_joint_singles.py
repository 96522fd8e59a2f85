"""SD3 and Flux from single files: what is found is the model of the diffusers folder of the same weights."""

from __future__ import annotations

from pathlib import Path

import joint_singles as models
import pytest
import torch
from joint_layouts import flux_by_original_names, sd3_by_original_names
from palate.adapters.errors import SteeringError
from palate.adapters.finetune.activations import without_weights
from palate.adapters.steering.joint import JointModel
from palate.adapters.steering.joint_configuration import transformer_of
from palate.adapters.steering.joint_files import joint_files
from palate.adapters.steering.joint_parts import Part, joint_family
from palate.adapters.steering.joint_reading import places_of
from palate.adapters.steering.joint_single import load_joint_files
from palate.adapters.steering.joint_tokenizer import t5_tokenizer
from safetensors.torch import load_file, save_file

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=models.CLASSES)
def both(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[JointModel, Path]:
    """A model, and the folder in which `model` and `one.safetensors` are it."""
    folder = tmp_path_factory.mktemp(request.param)
    return models.in_one(request.param, folder), folder


@pytest.fixture(scope="module", params=["sd35", "flux"])
def split(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[JointModel, dict[str, Path]]:
    """A model, and the files of its parts."""
    return models.in_parts(request.param, tmp_path_factory.mktemp(f"{request.param} split"))


def same(one: JointModel, other: JointModel) -> None:
    for prompt in ("a red star", ""):
        told, wanted = one.said(prompt, CPU), other.said(prompt, CPU)
        torch.testing.assert_close(told.tokens, wanted.tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(told.pooled, wanted.pooled, atol=1e-5, rtol=0)
    torch.testing.assert_close(models.asked(one), models.asked(other), atol=1e-5, rtol=0)
    picture = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    latents, wanted = (model.pipeline.vae.encode(picture).latent_dist.mean for model in (one, other))
    torch.testing.assert_close(latents, wanted, atol=1e-5, rtol=0)
    settings = [model.pipeline.vae.config for model in (one, other)]
    assert settings[0].scaling_factor == settings[1].scaling_factor
    assert settings[0].shift_factor == settings[1].shift_factor
    assert one.pipeline.scheduler.config.shift == other.pipeline.scheduler.config.shift
    assert one.release == other.release


def test_one_file_is_the_same_model_as_a_diffusers_folder_of_its_weights(both) -> None:
    whole, folder = both
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


def test_a_vae_by_diffusers_names_is_the_same_too(split, tmp_path: Path) -> None:
    whole, files = split
    unet, *others = (file for part, file in files.items() if part != "vae")
    save_file(whole.pipeline.vae.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    found = joint_files(unet, [*others, tmp_path / "diffusion_pytorch_model.safetensors"])
    same(load_joint_files(found, torch.float32), whole)


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
            predictions.append(models.asked(load_joint_files(found, torch.float32)))
        torch.testing.assert_close(*predictions, atol=1e-6, rtol=0)


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


@pytest.mark.parametrize("how", ["gone", "flat", "packed"])
def test_a_denoiser_whose_sizes_cannot_be_told_is_refused_by_the_tensor(split, how: str, tmp_path: Path) -> None:
    whole, files = split
    unet, *others = files.values()
    weights = load_file(unet)
    name = "img_in.weight" if whole.family == "flux" else "pos_embed" if how != "packed" else "context_embedder.weight"
    odd = {"flat": weights[name].flatten(), "packed": torch.zeros(96, 1)}
    save_file({**weights, name: odd[how]} if how in odd else weights, tmp_path / "odd.safetensors")
    if how == "gone":
        del weights[name]
        save_file(weights, tmp_path / "odd.safetensors")
        if joint_family(tmp_path / "odd.safetensors") is None:
            return
    with pytest.raises(SteeringError, match=rf"odd.safetensors.*whose {name} is .*fp16, bf16 or fp8, not packed"):
        joint_files(tmp_path / "odd.safetensors", others)


def test_an_odd_file_in_a_hosts_folders_harms_nobody(split, tmp_path: Path) -> None:
    _, files = split
    unet, *others = files.values()
    save_file({"text_model.embeddings.token_embedding.weight": torch.zeros(64)}, tmp_path / "clip_l4.safetensors")
    found = joint_files(unet, among=[*tmp_path.glob("*.safetensors"), *others[:-1]], tokenizer=others[-1])
    assert found is not None and set(found.others) == set(others[:-1])


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
    state = without_weights({"_class_name": kind, **PUBLISHED[release]}).state_dict()
    original = flux_by_original_names(state) if flux else sd3_by_original_names(state)
    part = Part("denoiser", Path("model"), "", {name: tuple(value.shape) for name, value in original.items()})
    config = transformer_of(part)
    assert {name: config[name] for name in PUBLISHED[release]} == PUBLISHED[release]
    assert {name: tuple(value.shape) for name, value in state.items()} == dict(places_of(part).shapes)
