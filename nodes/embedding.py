"""The node that saves a taste as a textual inversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import SteeringError
from ..adapters.files import check_embedding_name, require_replaceable, save_embedding
from ..adapters.steering.inversion import STEPS, VECTORS, train_embedding
from ..adapters.steering.neutral_prompts import training_prompts
from ..adapters.steering.portable import MOST_VECTORS, TowerText
from ..adapters.taste import Taste as LearnedTaste
from .host_text import HostTower, text_towers
from .sockets import CATEGORY, Encoder, Taste, encoder_input, open_store, schema, taste_input

_Pair = tuple[LearnedTaste, ImageTextEncoder]


class PalateSaveEmbedding(io.ComfyNode):
    """Save a taste as a word for prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateSaveEmbedding",
            display_name="Save Embedding",
            category=CATEGORY,
            search_aliases=["textual inversion", "export embedding"],
            description="Save a taste as a textual inversion in ComfyUI's embeddings folder: write embedding:name at "
            "the end of any prompt. Forge, A1111 and diffusers load the file, too.",
            is_output_node=True,
            inputs=[
                io.Clip.Input(
                    "clip",
                    tooltip="The plain CLIP of the checkpoint that it is for: SD1.x, SD2.x, SDXL or the playground. "
                    "It works with all checkpoints of the same family.",
                ),
                taste_input(),
                encoder_input(),
                io.String.Input(
                    "name",
                    default="my-taste",
                    tooltip="Name of the file and the word for prompts: lower-case letters, digits, - and _, and no "
                    "word of the language. An embedding of the same person with this name is replaced.",
                ),
                *_optional_inputs(),
            ],
            outputs=[
                io.String.Output(display_name="word", tooltip="embedding:name, to put at the end of a prompt."),
                io.String.Output(display_name="file", tooltip="Where the file is."),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        taste: LearnedTaste,
        encoder: ImageTextEncoder,
        name: str,
        vectors: int = VECTORS,
        steps: int = STEPS,
        prompts: str = "",
        taste_2: LearnedTaste | None = None,
        encoder_2: ImageTextEncoder | None = None,
    ) -> io.NodeOutput:
        check_embedding_name(name)
        pairs = _pairs(taste, encoder, taste_2, encoder_2)
        file = Path(folder_paths.get_folder_paths("embeddings")[0]) / f"{name}.safetensors"
        require_replaceable(file, taste.person)
        progress = comfy.utils.ProgressBar(steps)

        def on_step(done: int, total: int) -> None:
            progress.update_absolute(done, total)
            comfy.model_management.throw_exception_if_processing_interrupted()

        embedding = train_embedding(
            _towers(clip, pairs), [one for one, _ in pairs], _prompts(taste, prompts), vectors, steps, on_step=on_step
        )
        path = save_embedding(embedding, file)
        effect = embedding.effect
        said = (
            f"Saved as {path.name}. Write embedding:{name} at the end of a prompt.\nIt turns prompts by "
            f"{effect['degrees']:.0f} degrees along the taste; beside that {effect['kept']:.0%} of them is kept."
        )
        return io.NodeOutput(f"embedding:{name}", str(path), ui={"text": [said]})


def _optional_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "vectors",
            optional=True,
            default=VECTORS,
            min=1,
            max=MOST_VECTORS,
            tooltip=f"Places that it takes in a prompt, 1 to {MOST_VECTORS} of 75; more follow the taste more closely.",
        ),
        io.Int.Input(
            "steps",
            optional=True,
            default=STEPS,
            min=1,
            max=2000,
            tooltip="Training steps for each text encoder; more follow the taste more closely and take longer.",
        ),
        io.String.Input(
            "prompts",
            optional=True,
            default="",
            multiline=True,
            tooltip="Prompts such as it will be used with, one a line. Empty takes those that this person compared "
            "pictures of, and others of all sorts.",
        ),
        Taste.Input(
            "taste_2",
            optional=True,
            tooltip="For SDXL's other text encoder: the same person's taste, learned with encoder_2. Without it, the "
            "other text encoder is changed as little as possible.",
        ),
        Encoder.Input(
            "encoder_2",
            optional=True,
            tooltip="The encoder of taste_2. SDXL's clip_l goes with CLIP ViT-L/14, clip_g with OpenCLIP ViT-bigG/14.",
        ),
    ]


def _pairs(
    taste: LearnedTaste, encoder: ImageTextEncoder, taste_2: LearnedTaste | None, encoder_2: ImageTextEncoder | None
) -> list[_Pair]:
    pairs = [(taste, encoder)]
    if taste_2 is not None and encoder_2 is not None:
        pairs.append((taste_2, encoder_2))
    elif taste_2 is not None or encoder_2 is not None:
        raise SteeringError(
            "Cannot save an embedding: found one of taste_2 and encoder_2; expected both or neither. Connect both."
        )
    for one, its_encoder in pairs:
        its_encoder.require(one.encoder, "this taste", one.encoder_name)
    return pairs


def _towers(clip: Any, pairs: list[_Pair]) -> dict[str, TowerText]:
    """The host's text encoders for the core; where there is one only, it is "clip_l", as embedding files have it."""
    hosts = text_towers(clip)
    found = {name: _tower(host, [encoder for _, encoder in pairs]) for name, host in hosts.items()}
    return found if len(found) > 1 else {"clip_l": next(iter(found.values()))}


def _tower(host: HostTower, encoders: list[ImageTextEncoder]) -> TowerText:
    plain = TowerText(host.model, host.tokenize, host.projection)
    for encoder in encoders:
        side = encoder.text_projection
        joint = None if host.projection is None else int(host.projection.shape[0])
        if (side is None and joint == encoder.dim) or (side is not None and int(side.shape[1]) == plain.width):
            matrix = host.projection if joint == encoder.dim else side
            return TowerText(host.model, host.tokenize, matrix, encoder.identity, encoder.logit_scale)
    return plain


def _prompts(taste: LearnedTaste, given: str) -> list[str]:
    lines = [line.strip() for line in given.splitlines() if line.strip()]
    if lines:
        return lines
    return training_prompts([comparison.prompt for comparison in open_store().comparisons(taste.person)])
