"""Small random models for the steering tests: a text tower, an encoder, a taste, a pipeline folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from palate.adapters.encoders import ClipFacts, ImageTextEncoder

WIDTH, JOINT, BOS, EOS = 32, 24, 0, 1
WORDS = ("red", "star", "blue", "hill", "on", "a")


@dataclass(frozen=True)
class PlainTaste:
    """What steering reads of a taste."""

    weights: torch.Tensor
    encoder: str
    encoder_name: str = "tiny"
    chosen: torch.Tensor | None = None
    rejected: torch.Tensor | None = None
    text_weights: torch.Tensor | None = None


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(drawn(*shape, seed=seed), dim=-1)


def vocabulary() -> dict[str, int]:
    """Letters, letters that end a word, then the words themselves as merged pieces."""
    pieces = ["<|startoftext|>", "<|endoftext|>"]
    letters = sorted({c for word in WORDS for c in word})
    pieces += letters + [f"{c}</w>" for c in letters]
    for first, second in merges():
        if first + second not in pieces:
            pieces.append(first + second)
    pieces.append("!")  # what SDXL's second tokenizer fills up with
    return {piece: number for number, piece in enumerate(pieces)}


def merges() -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in out:
                out.append(pair)
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return out


@lru_cache(maxsize=1)
def text_state() -> dict[str, torch.Tensor]:
    return {n: p.detach() for n, p in new_text_model().state_dict().items()}


def new_text_model(layers: int = 2):
    """A random transformers CLIPTextModel."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(vocabulary()),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = CLIPTextModel(config).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.data = parameter.data + 0.1 * drawn(*parameter.shape, seed=number)
    return model


def token_ids(chunks: int = 1) -> torch.Tensor:
    rows = torch.full((chunks, 77), EOS)
    rows[:, 0] = BOS
    for row in range(chunks):
        rows[row, 1:5] = torch.tensor([2, 3, 4, 5]) + row
    return rows


def vision_state() -> dict[str, torch.Tensor]:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=1,
                num_attention_heads=1,
                image_size=16,
                patch_size=8,
                projection_dim=JOINT,
            )
        )
    return {n: p.detach() for n, p in model.state_dict().items() if not n.endswith("position_ids")}


@lru_cache(maxsize=1)
def encoder() -> ImageTextEncoder:
    text = {f"text_model.{n.removeprefix('text_model.')}": t for n, t in text_state().items()}
    state = vision_state() | text | {"text_projection.weight": drawn(JOINT, WIDTH, seed=9) * 0.3}
    facts = ClipFacts("quick_gelu", vision_heads=1, text_heads=2, eos_token_id=EOS)
    return ImageTextEncoder(state | {"logit_scale": torch.tensor(3.0)}, "tiny", facts)


def taste(pairs: int = 12, seed: int = 1, identity: str | None = None) -> PlainTaste:
    weights = drawn(JOINT, seed=seed)
    name = encoder().identity if identity is None else identity
    if not pairs:
        return PlainTaste(weights, name)
    return PlainTaste(weights, name, "tiny", unit(pairs, JOINT, seed=seed), unit(pairs, JOINT, seed=seed + 1))


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges()))
    names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    config = names | {"unk_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_pipeline(folder: Path) -> Path:
    """A diffusers pipeline of some hundred kilobytes, with a clip/ folder beside its text encoder."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=WIDTH,
            norm_num_groups=4,
        ).save_pretrained(folder / "unet")
        AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=2,
            latent_channels=4,
            sample_size=16,
        ).save_pretrained(folder / "vae")
    EulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    new_text_model().save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    (folder / "clip").mkdir()
    rest = vision_state() | {
        "text_projection.weight": drawn(JOINT, WIDTH, seed=9) * 0.3,
        "logit_scale": torch.tensor(3.0),
    }
    save_file({n: t.contiguous() for n, t in rest.items()}, folder / "clip" / "model.safetensors")
    towers = {
        "vision_config": {"num_attention_heads": 1, "hidden_act": "quick_gelu"},
        "text_config": {"num_attention_heads": 2, "eos_token_id": EOS},
    }
    (folder / "clip" / "config.json").write_text(json.dumps(towers))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
