"""Small random SD3 and Flux, as a diffusers folder and as single files in the layout that ComfyUI's users have."""

from __future__ import annotations

from pathlib import Path

import torch
from joint_layouts import Weights, flux_by_original_names, sd3_by_original_names, vae_by_original_names
from palate.adapters.finetune.predicting import predicted
from palate.adapters.steering.architecture import write_tokenizer
from palate.adapters.steering.joint import JointModel, load_joint
from safetensors.torch import save_file

CLASSES = {"sd3": "StableDiffusion3Pipeline", "sd35": "StableDiffusion3Pipeline"}
CLASSES |= {"flux": "FluxPipeline", "flux-schnell": "FluxPipeline"}
CLIP_L, CLIP_G, PROJECTED, T5 = 64, 128, 96, 192
WORDS = ("<pad>", "</s>", "<unk>", "▁", "▁red", "▁star", "▁a", *"abcdefghijklmnopqrstuvwxyz")


def in_one(kind: str, folder: Path) -> JointModel:
    """A model, of which the folder has `model`, as diffusers has it, `one.safetensors` and T5's tokenizer."""
    found = load_joint(write_folder(kind, folder / "model"), CLASSES[kind], torch.float32)
    write_all_in_one(found.pipeline, folder / "one.safetensors")
    write_t5_tokenizer(folder / "tokenizer.json")
    return found


def in_parts(kind: str, folder: Path) -> tuple[JointModel, dict[str, Path]]:
    """The same in a file a part, as ComfyUI's folders are."""
    found = load_joint(write_folder(kind, folder / "model"), CLASSES[kind], torch.float32)
    files = write_split(found.pipeline, folder / "parts")
    return found, files | {"words": write_t5_tokenizer(folder / "words" / "tokenizer.json")}


def asked(model: JointModel, denoiser=None) -> torch.Tensor:
    """What a transformer predicts of two rows."""
    draw, config = torch.Generator().manual_seed(0), model.config
    shapes = (16, 4, 4), (6, config.joint_attention_dim), (config.pooled_projection_dim,)
    noisy, tokens, pooled = (torch.randn(2, *shape, generator=draw) for shape in shapes)
    with torch.no_grad():
        return predicted(denoiser or model.denoiser, noisy, torch.tensor([250.0, 800.0]), tokens, pooled, None)


def write_folder(kind: str, folder: Path) -> Path:
    """A diffusers folder of "sd3", "sd35" (as its medium), "flux" or "flux-schnell"."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = _flux(kind, folder) if kind.startswith("flux") else _sd3(kind, folder)
        for parameter in made.transformer.parameters():  # gates and the last layer start at zero
            parameter.data = parameter.data + 0.05 * torch.randn(parameter.shape)
    made.save_pretrained(folder)
    return folder


def write_all_in_one(pipeline, file: Path, dtype: torch.dtype = torch.float32) -> Path:
    """One file of all parts."""
    found = {}
    flux = type(pipeline).__name__.startswith("Flux")
    starts = {"denoiser": "model.diffusion_model.", "clip_l": "text_encoders.clip_l.transformer.",
              "clip_g": "text_encoders.clip_g.transformer.", "t5": "text_encoders.t5xxl.transformer.",
              "vae": "vae." if flux else "first_stage_model."}  # fmt: skip
    for part, weights in parts_of(pipeline).items():
        found |= {starts[part] + name: value.to(dtype) for name, value in weights.items()}
    save_file(found, file)
    return file


def write_split(pipeline, folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Path]:
    """A file a part, by the names that releases have."""
    flux = type(pipeline).__name__.startswith("Flux")
    names = {"denoiser": "unet", "clip_l": "clip_l", "clip_g": "clip_g", "t5": "t5xxl_fp16",
             "vae": "ae" if flux else "sd3_vae"}  # fmt: skip
    found = {}
    folder.mkdir(exist_ok=True)
    for part, weights in parts_of(pipeline).items():
        found[part] = folder / f"{names[part]}.safetensors"
        save_file({name: value.to(dtype).contiguous() for name, value in weights.items()}, found[part])
    return found


def write_t5_tokenizer(file: Path) -> Path:
    """T5's kind of tokenizer, of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.Unigram([(word, 0.0 if n < 3 else -2.0 - n / 9) for n, word in enumerate(WORDS)], 2))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    file.parent.mkdir(parents=True, exist_ok=True)
    words.save(str(file))
    return file


def parts_of(pipeline) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each part by its original names."""
    flux = type(pipeline).__name__.startswith("Flux")
    state = pipeline.transformer.state_dict()
    found = {"denoiser": flux_by_original_names(state) if flux else sd3_by_original_names(state)}
    found["clip_l"] = _clip_names(pipeline.text_encoder.state_dict())
    if flux:
        t5 = pipeline.text_encoder_2
    else:
        found["clip_l"].pop("text_projection.weight")
        found["clip_g"], t5 = _clip_names(pipeline.text_encoder_2.state_dict()), pipeline.text_encoder_3
    if t5 is not None:
        found["t5"] = {name: value.clone() for name, value in t5.state_dict().items()}
    found["vae"] = vae_by_original_names(pipeline.vae.state_dict())
    return found


def _clip_names(state: Weights) -> dict[str, torch.Tensor]:
    return {name if name.startswith("text_") else f"text_model.{name}": value for name, value in state.items()}


def _clip(width: int, projected: int | None, act: str):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=width // 64,
        projection_dim=projected or width, bos_token_id=49406, eos_token_id=49407, pad_token_id=1, hidden_act=act,
    )  # fmt: skip
    model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()
    if projected == width:  # SD3's CLIP-L: nothing is projected
        model.text_projection.weight.data.copy_(torch.eye(width))
    return model


def _words(folder: Path, padding: str):
    from transformers import CLIPTokenizer

    write_tokenizer(folder, padding)
    return CLIPTokenizer.from_pretrained(folder)


def _t5(folder: Path):
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32128, d_model=T5, d_kv=16, d_ff=32, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
    )
    file = write_t5_tokenizer(folder / "tokenizer.json")
    words = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    return T5EncoderModel(config).eval(), words


def _vae(scale: float, shift: float):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, sample_size=32, latent_channels=16,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, scaling_factor=scale, shift_factor=shift,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def _sd3(kind: str, folder: Path):
    import diffusers

    beside = folder.with_name(f"{folder.name} words")
    norms = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)} if kind == "sd35" else {}
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=128, in_channels=16, num_layers=2, attention_head_dim=64, num_attention_heads=2, out_channels=16,
        joint_attention_dim=T5, caption_projection_dim=128, pooled_projection_dim=CLIP_L + PROJECTED,
        pos_embed_max_size=16, **norms,
    )  # fmt: skip
    t5, t5_words = _t5(beside)
    return diffusers.StableDiffusion3Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), _vae(1.5305, 0.0609),
        _clip(CLIP_L, CLIP_L, "quick_gelu"), _words(beside / "1", "<|endoftext|>"), _clip(CLIP_G, PROJECTED, "gelu"),
        _words(beside / "2", "!"), t5, t5_words,
    )  # fmt: skip


def _flux(kind: str, folder: Path):
    import diffusers

    beside = folder.with_name(f"{folder.name} words")
    dev = kind == "flux"
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=2, num_single_layers=1, attention_head_dim=128, num_attention_heads=1,
        joint_attention_dim=T5, pooled_projection_dim=CLIP_L, guidance_embeds=dev,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev)
    t5, t5_words = _t5(beside)
    return diffusers.FluxPipeline(
        scheduler, _vae(0.3611, 0.1159), _clip(CLIP_L, None, "quick_gelu"), _words(beside / "1", "<|endoftext|>"), t5,
        t5_words, transformer,
    )  # fmt: skip
