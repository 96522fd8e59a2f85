"""Single-file checkpoints load without the hub, tensor by tensor; files that are none say what they are."""

from __future__ import annotations

from pathlib import Path

import ldm_files as ldm
import pytest
import torch
from palate.adapters.errors import SteeringError
from palate.adapters.steering import Generator
from palate.adapters.steering.architecture import write_configuration
from palate.adapters.steering.checkpoint_kind import checkpoint_family, read_shapes
from safetensors.torch import save_file

SHORT = {"steps": 1, "guidance": 2.0, "size": 64}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def loaded(family: str, tmp_path_factory) -> tuple[Generator, Path]:
    path = ldm.write_checkpoint(tmp_path_factory.mktemp("models") / f"{family}.safetensors", family)
    return Generator(path), path


def test_a_checkpoint_generates_without_the_hub(loaded, family: str) -> None:
    generator, _ = loaded
    assert generator.family == family and generator.name == family
    assert generator.defaults.size == (1024 if family == "sdxl" else 512)
    (image,) = generator.images("a red star, 🌻 (bright:1.2)", [1], **SHORT)
    assert image.size == (64, 64)


def test_every_tensor_arrives(loaded, family: str) -> None:
    """By their multiset: names change on the way, in bigG also the cut into query, key and value; values don't."""
    generator, _ = loaded
    pipe = generator._pipeline
    parts = [pipe.unet, pipe.vae, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)]
    ours = sum(p.detach().double().abs().sum() for part in parts if part is not None for p in part.parameters())
    count = sum(p.numel() for part in parts if part is not None for p in part.parameters())
    theirs = {name: t for name, t in ldm.tensors(ldm.shapes(family)).items() if not name.endswith("logit_scale")}
    assert count == sum(t.numel() for t in theirs.values())
    assert float(ours) == pytest.approx(float(sum(t.double().abs().sum() for t in theirs.values())), rel=1e-9)


def test_prompts_are_cut_by_the_real_vocabulary(loaded, family: str) -> None:
    towers = loaded[0].conditioner.towers
    ids = [tower.token_ids("a cat")[0, :5].tolist() for tower in towers]
    assert ids[0] == [49406, 320, 2368, 49407, 49407]
    if family == "sdxl":
        assert ids[1] == [49406, 320, 2368, 49407, 0]
        assert float(loaded[0].conditioner.negative("").tokens.abs().sum()) == 0.0  # as SDXL's own folder says


def test_towers_give_what_the_checkpoints_own_weights_give(loaded, family: str) -> None:
    """Against the core's text tower, which reads the checkpoint's layout by itself."""
    from palate.adapters.encoders import ClipFacts, text_model_from_state_dict

    generator, _ = loaded
    tensors = {name: t.float() for name, t in ldm.tensors(ldm.shapes(family)).items()}
    start = ldm.START[family]
    state = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
    ours = text_model_from_state_dict(state, ClipFacts("quick_gelu", text_heads=1, eos_token_id=49407))
    tower = generator.conditioner.towers[0]
    ids = tower.token_ids("a red star")
    with torch.no_grad():
        wanted = ours(ids)
        assert torch.allclose(tower.text_encoder(ids).last_hidden_state, wanted.last_hidden_state, atol=1e-4)
        if family == "sdxl":
            start = "conditioner.embedders.1.model."
            state = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
            ours = text_model_from_state_dict(state, ClipFacts("gelu", text_heads=2, eos_token_id=49407))
            ids = generator.conditioner.towers[1].token_ids("a red star")
            pooled = ours(ids).pooler_output @ state["text_projection"]
            assert torch.allclose(generator.conditioner.plain("a red star").pooled, pooled, atol=1e-4)


def test_v_prediction_is_read_off_the_file(tmp_path: Path) -> None:
    import json

    marks: dict[str, tuple[int, ...]] = {"v_pred": (0,), "ztsnr": (0,)}
    write_configuration(tmp_path, "sdxl", ldm.shapes("sdxl") | marks)
    config = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    assert config["prediction_type"] == "v_prediction" and config["rescale_betas_zero_snr"]


TRUE = {
    "sd15": {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
    },
    "sdxl": {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "model.diffusion_model.input_blocks.4.1.proj_in.weight": (640, 640),
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "conditioner.embedders.1.model.positional_embedding": (77, 1280),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
        "conditioner.embedders.1.model.token_embedding.weight": (49408, 1280),
    }
    | {
        f"model.diffusion_model.input_blocks.{block}.1.transformer_blocks.{number}.attn2.to_k.weight": (width, 2048)
        for block, width, depth in ((4, 640, 2), (7, 1280, 10))
        for number in range(depth)
    }
    | {f"conditioner.embedders.1.model.transformer.resblocks.{n}.mlp.c_fc.weight": (5120, 1280) for n in range(32)},
}
PARAMETERS = {"unet": {"sd15": 859_520_964, "sdxl": 2_567_463_684}, "vae": 83_653_863, "clip_l": 123_060_480}


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_at_the_true_shapes_models_are_as_large_as_the_published_ones(tmp_path: Path, name: str) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    start = ldm.START[name] + "text_model."
    small = {f"{start}encoder.layers.{number}.mlp.fc1.weight": (3072, 768) for number in range(12)}
    small[f"{start}embeddings.position_embedding.weight"] = (77, 768)
    small[f"{start}embeddings.token_embedding.weight"] = (49408, 768)
    vae = {"first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3)}
    write_configuration(tmp_path, name, TRUE[name] | small | vae)

    def parameters(part: str, make) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in make(tmp_path / part).parameters())

    assert parameters("unet", lambda f: UNet2DConditionModel.from_config(str(f))) == PARAMETERS["unet"][name]
    assert parameters("vae", lambda f: AutoencoderKL.from_config(str(f))) == PARAMETERS["vae"]
    assert (
        parameters("text_encoder", lambda f: CLIPTextModel(CLIPTextConfig.from_pretrained(f))) == PARAMETERS["clip_l"]
    )
    if name == "sdxl":
        large = parameters("text_encoder_2", lambda f: CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(f)))
        assert large == 694_659_840


def lora() -> dict[str, torch.Tensor]:
    return {"lora_unet_down_blocks_0_attentions_0.lora_down.weight": torch.ones(4, 8)}


WRONG = {
    "a LoRA": lora,
    "a VAE alone": lambda: {"decoder.conv_in.weight": torch.ones(1)},
    "a ControlNet": lambda: {"control_model.input_blocks.0.0.weight": torch.ones(1)},
    "a textual inversion embedding": lambda: {"clip_g": torch.ones(1, 4), "clip_l": torch.ones(1, 4)},
    "a CLIP or a text encoder alone": lambda: {"vision_model.embeddings.class_embedding": torch.ones(4)},
    "a Flux model": lambda: {"double_blocks.0.img_attn.proj.weight": torch.ones(1)},
    "no tensors at all": dict,
    "tensors such as 'mine'": lambda: {"mine": torch.ones(1)},
}


@pytest.mark.parametrize("what", WRONG)
def test_files_of_tensors_that_are_no_checkpoint_are_named(tmp_path: Path, what: str) -> None:
    save_file(WRONG[what](), tmp_path / "thing.safetensors")
    with pytest.raises(SteeringError, match=f"'thing.safetensors': found {what}; expected a single-file checkpoint"):
        Generator(tmp_path / "thing.safetensors")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"Please download the model.\n", "a text file"),
        (b"PK\x03\x04" + b"\0" * 50, "a pickle"),
        (b"\x80\x02}q\0", "a pickle"),
        (b"GGUF" + b"\0" * 50, "a GGUF file"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "a picture"),
        (b"\1\2\3\4" + b"\0" * 50, "no safetensors file"),
    ],
    ids=["empty", "text", "zip", "pickle", "gguf", "picture", "other"],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("thing.safetensors", "thing.ckpt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SteeringError, match=f"found {what}"):
            Generator(tmp_path / name)


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, kept: float) -> None:
    path = ldm.write_checkpoint(tmp_path / "sd15.safetensors", "sd15")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(SteeringError, match="a safetensors file that is cut off or damaged"):
        read_shapes(path)


@pytest.mark.parametrize(
    ("family", "without", "what"),
    [
        ("sd15", "first_stage_model.", "a checkpoint without its VAE"),
        ("sd15", "cond_stage_model.", "a checkpoint without a text encoder"),
        ("sdxl", "conditioner.embedders.0.", "an SDXL without its smaller text encoder"),
    ],
)
def test_checkpoints_that_lack_a_part_are_named(tmp_path: Path, family: str, without: str, what: str) -> None:
    shapes = {name: shape for name, shape in ldm.shapes(family).items() if not name.startswith(without)}
    with pytest.raises(SteeringError, match=f"found {what}"):
        checkpoint_family(tmp_path / "x.safetensors", shapes)


def test_other_models_of_the_same_build_are_named(tmp_path: Path) -> None:
    path, base = tmp_path / "x.safetensors", ldm.shapes("sd15")
    first = "model.diffusion_model.input_blocks.0.0.weight"
    with pytest.raises(SteeringError, match=r"inpainting or editing \(9 channels"):
        checkpoint_family(path, base | {first: (320, 9, 3, 3)})
    bare = {name: shape for name, shape in base.items() if not name.startswith("cond_stage_model.")}
    with pytest.raises(SteeringError, match=r"found Stable Diffusion 2; .* Give its diffusers folder"):
        checkpoint_family(path, bare | {"cond_stage_model.model.ln_final.weight": (1024,)})
    with pytest.raises(SteeringError, match="found the refiner of SDXL"):
        checkpoint_family(path, bare | {"conditioner.embedders.0.model.ln_final.weight": (1280,)})


def test_a_checkpoint_with_a_tensor_missing_is_named(tmp_path: Path) -> None:
    tensors = ldm.tensors(ldm.shapes("sd15"))
    del tensors["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    save_file(tensors, tmp_path / "holes.safetensors")
    with pytest.raises(SteeringError, match=r"Cannot load the model 'holes.safetensors'.*Get the file again"):
        Generator(tmp_path / "holes.safetensors")
