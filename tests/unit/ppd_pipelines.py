"""Small random pipelines of the families that a PPD can be trained for beside Stable Diffusion's UNets."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import steering_models as tiny
import torch

TEXT = 2 * tiny.WIDTH  # as wide as SD3's two CLIPs side by side


def write(kind: str, folder: Path) -> Path:
    """A diffusers folder of "sd3", "flux", "cascade" or "combined", which is Stable Cascade with its other stages."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {"sd3": _sd3, "flux": _flux}.get(kind, _cascade)(kind, folder)
        for parameter in _denoiser(made).parameters():  # gates and the last layer start at zero
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    made.save_pretrained(folder)
    return folder


def _denoiser(pipeline):
    return next(getattr(pipeline, name) for name in ("transformer", "prior", "prior_prior") if hasattr(pipeline, name))


def _clip(projected: bool):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tiny.vocabulary()), hidden_size=tiny.WIDTH, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=10, bos_token_id=tiny.BOS, eos_token_id=tiny.EOS, pad_token_id=tiny.EOS,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def _words(folder: Path):
    from transformers import CLIPTokenizer

    if not folder.is_dir():
        tiny.write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder)


def _t5():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    known = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{word: 3 + place for place, word in enumerate(tiny.WORDS)}}
    words = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    config = T5Config(vocab_size=len(known), d_model=TEXT, d_kv=8, d_ff=8, num_layers=1, num_heads=2)
    return T5EncoderModel(config).eval(), PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def _vae(channels: int):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=2, sample_size=16,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, shift_factor=0.1, scaling_factor=0.5,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def _sd3(_: str, folder: Path):
    import diffusers

    words, (t5, t5_words) = _words(folder.with_name("words")), _t5()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=TEXT, caption_projection_dim=16, pooled_projection_dim=20, out_channels=4,
        pos_embed_max_size=16, qk_norm="rms_norm", dual_attention_layers=(0,),
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), _vae(4), _clip(True), words, _clip(True),
        words, t5, t5_words,
    )  # fmt: skip


def _flux(_: str, folder: Path):
    import diffusers

    (t5, t5_words) = _t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=TEXT, pooled_projection_dim=tiny.WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    words = _words(folder.with_name("words"))
    return diffusers.FluxPipeline(scheduler, _vae(4), _clip(False), words, t5, t5_words, transformer)


def _cascade(kind: str, folder: Path):
    import diffusers

    words, unet = _words(folder.with_name("words")), diffusers.StableCascadeUNet
    prior = unet(
        in_channels=16, out_channels=16, conditioning_dim=12, block_out_channels=(8, 16), num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 2), up_num_layers_per_block=(2, 1), clip_text_in_channels=tiny.WIDTH,
        clip_text_pooled_in_channels=10, clip_image_in_channels=6, clip_seq=2, switch_level=(False,),
    )  # fmt: skip
    schedule = diffusers.DDPMWuerstchenScheduler
    if kind == "cascade":
        return diffusers.StableCascadePriorPipeline(words, _clip(True), prior, schedule())
    decoder = unet(
        in_channels=4, out_channels=4, conditioning_dim=12, block_out_channels=(8, 8), num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1), clip_text_pooled_in_channels=10, clip_seq=2,
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock"),) * 2, effnet_in_channels=16,
        patch_size=2, switch_level=None, down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 1),
    )  # fmt: skip
    from diffusers.pipelines.stable_cascade.pipeline_stable_cascade import PaellaVQModel

    vqgan = PaellaVQModel(embed_dim=8, num_vq_embeddings=8)
    return diffusers.StableCascadeCombinedPipeline(
        words, _clip(True), decoder, schedule(), vqgan, prior, _clip(True), words, schedule()
    )


def write_effnet(file: Path) -> Path:
    """The encoder of stage C's latents with random weights, as Stable Cascade's release has it."""
    from safetensors.torch import save_file

    save_file(dict(_effnet()), file)
    return file


@lru_cache(maxsize=1)
def _effnet():
    from palate.adapters.ppd.effnet import EfficientNetEncoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = EfficientNetEncoder().state_dict()
    return {name: weight.half() if weight.is_floating_point() else weight for name, weight in state.items()}


def index(folder: Path, kind: str) -> Path:
    """A folder that says that it is a pipeline, and no more."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder
