"""ImageReward: a BLIP whose text encoder looks at the picture, and a line on its first token.

The two towers are transformers' own BLIP, given the checkpoint's weights under their names there. The five layers of
the head have nothing between them, so they are one. Its tokens are BERT's, lower case.

Source: Xu et al. 2023, arXiv:2304.05977; the released ImageReward.pt and its code (score, and the mean and spread that
make it of mean 0 and spread 1). Shapes: N pictures, D width of the text encoder, L tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..encoders.pictures import as_batches, prepare
from ..errors import FileFormatError
from ..places import typed_path
from ..untrusted import require_short_header, unpickled

__all__ = ["ImageReward", "load_image_reward"]

MEAN, SPREAD = 0.16717362830052426, 1.0333394966054072  # of its rewards, as released
LONGEST = 35  # tokens of a prompt
_HEAD_WIDTH = 64  # of both towers' attention, in all of BLIP's sizes
_COLOURS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_MOST = 4 << 30  # bytes; released 1.8 GB
_WHAT = "ImageReward's weights (ImageReward.pt of THUDM/ImageReward)"
_NO_WORDS = (
    "Cannot judge by ImageReward: BERT's vocabulary is not there; expected vocab.txt of bert-base-uncased in {folder}. "
    "Put it there: huggingface.co/google-bert/bert-base-uncased has it."
)
_VISION, _TEXT = "blip.visual_encoder.", "blip.text_encoder."
# The original's name: transformers'.
_NAMES = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"^norm\.", "post_layernorm."),
)
Tokenize = Callable[[list[str]], tuple[Tensor, Tensor]]  # texts -> ids and mask, both (N, L)


class ImageReward:
    """Scores how well pictures fit their prompts and please people.

    Args:
        state: The checkpoint's tensors by name.
        tokenize: Of BERT.
        device: Where it computes.

    Raises:
        FileFormatError: tensors missing or of other shapes.
    """

    def __init__(self, state: Mapping[str, Tensor], tokenize: Tokenize, device: str | torch.device = "cpu") -> None:
        self._tokenize, self._device = tokenize, torch.device(device)
        try:
            self._vision, self._text = (tower.to(self._device).eval() for tower in _towers(state))
            self._weights, self._constant = (part.to(self._device) for part in _head(state))
        except (KeyError, RuntimeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
            raise FileFormatError(
                f"Cannot read the weights: {str(error)[:300]}; expected {_WHAT}. Get the file again."
            ) from error
        self.size: int = self._vision.config.image_size

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """Return the rewards (N,), about -2 to 2.

        Raises:
            ImageError: something that is no picture.
        """
        pixels = torch.stack([prepare(one, self.size, *_COLOURS) for one in as_batches(pictures)]).to(self._device)
        ids, mask = (part.to(self._device) for part in self._tokenize(list(prompts)))
        seen = self._vision(pixel_values=pixels).last_hidden_state
        everywhere = torch.ones(seen.shape[:2], dtype=torch.long, device=self._device)
        read = self._text(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=seen, encoder_attention_mask=everywhere
        )
        rewards = read.last_hidden_state[:, 0].float() @ self._weights + self._constant
        found: Tensor = ((rewards - MEAN) / SPREAD).cpu()
        return found


def load_image_reward(path: str | PathLike[str], device: str | torch.device = "cpu") -> ImageReward:
    """Read the released file; nothing in it is run.

    Args:
        path: Of `ImageReward.pt`, or of the same tensors as safetensors; BERT's `vocab.txt` beside it, or
            bert-base-uncased in the hub's cache.
        device: Where it computes.

    Raises:
        FileFormatError: something else, or no vocabulary.
    """
    file = typed_path(path)
    if file.is_dir():
        file = file / "ImageReward.pt"
    if file.suffix == ".safetensors" and file.is_file():
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            require_short_header(file, _WHAT)
            state: Any = load_file(str(file))
        except (SafetensorError, OSError, ValueError) as error:
            raise FileFormatError(f"Cannot read {file.name!r}: {error}; expected {_WHAT}.") from error
    else:
        state = unpickled(file, f"{_WHAT}; download it from huggingface.co/THUDM/ImageReward", _MOST)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FileFormatError(f"Cannot read {file.name!r}: it holds no tensors by name; expected {_WHAT}.")
    if not any(str(name).startswith(_VISION) for name in state):
        some = ", ".join(sorted(map(str, state))[:2]) or "nothing"
        raise FileFormatError(f"Cannot read {file.name!r}: it holds {some}; expected {_WHAT}.")
    return ImageReward(state, _tokenizer(file.parent), device)


def _towers(state: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """transformers' vision and text model with these weights."""
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    vision = {_translated(name[len(_VISION) :]): value for name, value in _part(state, _VISION)}
    text = {name[len(_TEXT) :]: value for name, value in _part(state, _TEXT)}
    patch, places = vision["embeddings.patch_embedding.weight"], vision["embeddings.position_embedding"]
    words, width = text["embeddings.word_embeddings.weight"], patch.shape[0]
    seeing = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=vision["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_count(vision, r"encoder\.layers\.(\d+)\."),
        num_attention_heads=width // _HEAD_WIDTH,
        image_size=round((places.shape[1] - 1) ** 0.5) * patch.shape[-1],
        patch_size=patch.shape[-1],
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )
    reading = BlipTextConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        encoder_hidden_size=width,
        intermediate_size=text["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_count(text, r"encoder\.layer\.(\d+)\."),
        num_attention_heads=words.shape[1] // _HEAD_WIDTH,
        max_position_embeddings=text["embeddings.position_embeddings.weight"].shape[0],
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        is_decoder=True,  # has the layers that look at the picture; the text is read both ways all the same
        **dict.fromkeys(("bos_token_id", "eos_token_id", "sep_token_id"), 0),  # nothing is written
    )
    towers = BlipVisionModel(seeing), BlipTextModel(reading, add_pooling_layer=False)
    for tower, weights in zip(towers, (vision, text), strict=True):
        missing, unknown = tower.load_state_dict(weights, strict=False)
        if missing := [name for name in missing if "position_ids" not in name]:
            raise KeyError(f"no {missing[0]}")
        if unknown := [name for name in unknown if "position_ids" not in name and "pooler" not in name]:
            raise KeyError(f"{unknown[0]} is no part of it")
    return towers


def _part(state: Mapping[str, Tensor], start: str) -> list[tuple[str, Tensor]]:
    return [(name, value.float()) for name, value in state.items() if name.startswith(start)]


def _translated(name: str) -> str:
    for original, ours in _NAMES:
        name, found = re.subn(original, ours, name)
        if found:
            break
    return name


def _count(state: Mapping[str, Tensor], layer: str) -> int:
    # Not the highest number: a name is no reason to make room for a billion layers.
    return len({found[1] for name in state if (found := re.match(layer, name))})


def _head(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The head's layers as one: (D,) and a constant."""
    numbers = sorted({int(name.split(".")[2]) for name in state if name.startswith("mlp.layers.")})
    weights, constant = torch.eye(state[f"mlp.layers.{numbers[0]}.weight"].shape[1]).double(), torch.zeros(1).double()
    for number in numbers:
        weight, bias = (state[f"mlp.layers.{number}.{part}"].double() for part in ("weight", "bias"))
        weights, constant = weight @ weights, weight @ constant + bias if number != numbers[0] else bias
    (row,), (last,) = weights, constant
    return row.float(), last.float()


def _tokenizer(folder: Path) -> Tokenize:
    """BERT's, by the vocabulary beside the weights or in the hub's cache."""
    from transformers import BertTokenizer

    where = str(folder) if (folder / "vocab.txt").is_file() else "bert-base-uncased"
    try:
        made: Any = BertTokenizer.from_pretrained(where, local_files_only=True)
        known = len(made)
    except Exception as error:  # a cache without it, and a broken file, end in many ways
        raise FileFormatError(_NO_WORDS.format(folder=folder)) from error
    if known < 10:  # nothing but its marks
        raise FileFormatError(_NO_WORDS.format(folder=folder))

    def tokenize(texts: list[str]) -> tuple[Tensor, Tensor]:
        found = made(texts, padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]

    return tokenize
