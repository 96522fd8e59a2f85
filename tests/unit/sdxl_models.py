"""A small random SDXL: two text towers of unequal width, their encoders, a pipeline folder."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import steering_models as tiny
import torch
from palate.adapters.encoders import ClipFacts, ImageTextEncoder

WIDE, POOLED = 48, 40


def new_large_text_model():
    """A random transformers CLIPTextModelWithProjection, SDXL's second tower."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tiny.vocabulary()),
        hidden_size=WIDE,
        intermediate_size=2 * WIDE,
        num_hidden_layers=3,
        num_attention_heads=2,
        hidden_act="gelu",
        projection_dim=POOLED,
        bos_token_id=tiny.BOS,
        eos_token_id=tiny.EOS,
        pad_token_id=tiny.vocabulary()["!"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        model = CLIPTextModelWithProjection(config).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.data = parameter.data + 0.1 * tiny.drawn(*parameter.shape, seed=number + 50)
    return model


def vision_state(joint: int) -> dict[str, torch.Tensor]:
    state = tiny.vision_state()
    return state | {"visual_projection.weight": tiny.drawn(joint, 32, seed=21) * 0.2}


@lru_cache(maxsize=1)
def large_encoder() -> ImageTextEncoder:
    text = {name: tensor.detach() for name, tensor in new_large_text_model().state_dict().items()}
    facts = ClipFacts("gelu", vision_heads=1, text_heads=2, eos_token_id=tiny.EOS)
    state = vision_state(POOLED) | text | {"logit_scale": torch.tensor(3.0)}
    return ImageTextEncoder(state, "tiny large", facts)


def large_taste(pairs: int = 12, seed: int = 3, **more):
    weights = tiny.drawn(POOLED, seed=seed)
    sides = (tiny.unit(pairs, POOLED, seed=seed), tiny.unit(pairs, POOLED, seed=seed + 1)) if pairs else (None, None)
    return tiny.PlainTaste(weights, large_encoder().identity, "tiny large", *sides, **more)


def write_sdxl(folder: Path) -> Path:
    """A diffusers pipeline folder of some hundred kilobytes, without encoders."""
    from diffusers import UNet2DConditionModel

    tiny.write_pipeline(folder)
    (folder / "clip" / "model.safetensors").unlink()
    (folder / "clip" / "config.json").unlink()
    (folder / "clip").rmdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=tiny.WIDTH + WIDE,
            norm_num_groups=4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=POOLED + 6 * 8,
        ).save_pretrained(folder / "unet")
    new_large_text_model().save_pretrained(folder / "text_encoder_2")
    tiny.write_tokenizer(folder / "tokenizer_2")
    config = json.loads((folder / "tokenizer_2" / "tokenizer_config.json").read_text())
    (folder / "tokenizer_2" / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "!"}))
    index = json.loads((folder / "model_index.json").read_text())
    del index["requires_safety_checker"], index["safety_checker"]
    index |= {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
