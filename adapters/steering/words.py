"""Portable embeddings on diffusers' side: what they are trained on, and a text side that knows one by its name.

Hosts load such files themselves (diffusers by `load_textual_inversion`); this does the same beside a pipeline, whose
own tokenizer and text encoder stay as they are.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SteeringError
from .conditioner import TextConditioner
from .portable import PortableEmbedding, TowerText
from .prompt_tower import PromptTower

__all__ = ["towers_of", "with_word"]


def towers_of(conditioner: TextConditioner) -> dict[str, TowerText]:
    """The text towers of a conditioner by name, as `train_embedding` takes them."""
    return {tower.name: _tower(tower, conditioner._device) for tower in conditioner.towers}


def with_word(conditioner: TextConditioner, name: str, embedding: PortableEmbedding) -> TextConditioner:
    """A conditioner that knows an embedding: "a red star, <name>" puts its vectors where the name stands.

    Args:
        conditioner: Stays as it is; weights are shared, but for one larger table of words.
        name: As it will be written in prompts.
        embedding: For the towers of this conditioner.

    Raises:
        SteeringError: it is for other towers, of another width, or the name is a word already.
    """
    names = [tower.name for tower in conditioner.towers]
    if set(names) != set(embedding.vectors):
        raise SteeringError(
            f"Cannot use the embedding {name!r}: it is for {' and '.join(embedding.vectors)}; expected one for "
            f"{' and '.join(names)}, the text encoders of this model. Make one with this model."
        )
    towers = [_knowing(tower, name, embedding.vectors[tower.name]) for tower in conditioner.towers]
    return TextConditioner(
        towers,
        conditioner.clip_skip,
        zero_negative=conditioner._zero_negative,
        device=conditioner._device,
    )


def _tower(tower: PromptTower, device: torch.device | None) -> TowerText:
    projection = tower.own_projection
    if projection is None and tower.encoder is not None:
        projection = tower.encoder.text_projection
    return TowerText(
        tower.module,
        tower.token_ids,
        projection,
        "" if tower.encoder is None else tower.encoder.identity,
        100.0 if tower.encoder is None else tower.encoder.logit_scale,
        partial(tower.on, device),
    )


def _knowing(tower: PromptTower, name: str, vectors: Tensor) -> PromptTower:
    table: Tensor = tower.text_encoder.get_input_embeddings().weight
    if vectors.shape[1] != table.shape[1]:
        raise SteeringError(
            f"Cannot use the embedding {name!r}: its vectors are {vectors.shape[1]} wide; expected {table.shape[1]}, "
            "as this model's text encoder. Make one with this model."
        )
    tokenizer, tokens = copy.deepcopy(tower.tokenizer), [name, *(f"{name}_{i}" for i in range(1, len(vectors)))]
    if any(token in tokenizer.get_vocab() for token in tokens):
        raise SteeringError(f"Cannot use the embedding {name!r}: that is a word already. Give it another name.")
    tokenizer.add_tokens(tokens)
    places = tokenizer.convert_tokens_to_ids(tokens)
    larger = torch.zeros(max(len(table), max(places) + 1), table.shape[1], dtype=table.dtype, device=table.device)
    larger[: len(table)] = table.detach()
    larger[places] = vectors.to(larger)
    return PromptTower(tower.name, tokenizer, _with_table(tower.text_encoder, larger, tokenizer), tower.encoder)


def _with_table(text_encoder: Any, table: Tensor, tokenizer: Any) -> Any:
    """The same text encoder around the same weights, with another table of words."""
    shared = [*text_encoder.parameters(), *text_encoder.buffers()]
    twin = copy.deepcopy(text_encoder, memo={id(tensor): tensor for tensor in shared})
    rows, width = table.shape
    twin.set_input_embeddings(nn.Embedding(rows, width, _weight=table))
    for module in twin.modules():
        if getattr(module, "eos_token_id", None) == 2:
            # Old configurations say 2, and transformers then pools at the highest id, which a new word has.
            module.eos_token_id = tokenizer.eos_token_id
    return twin
