"""Nodes that load models: the playground, and encoders of images."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.sd1_clip
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder, load_encoder
from ..adapters.playground import playground_folder
from . import sidebar
from .diffusers_folder import load_diffusers_folder
from .sockets import CATEGORY, Encoder, schema

_FOLDERS = ("clip_vision", "text_encoders")


class PalateLoadPlayground(io.ComfyNode):
    """Load the small models that come with Palate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateLoadPlayground",
            display_name="Load Playground",
            category=CATEGORY,
            search_aliases=["demo", "example model", "tiny model", "try palate"],
            description="Load the small postcard models that come with Palate: nothing to download, quick on any "
            "computer. Made for 128 x 128 pixels, 20 steps, cfg 5.",
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="The denoiser (v-prediction, latents of 4 x 16 x 16 for 128 x 128 pixels)."),
                io.Clip.Output(tooltip="The text encoder; it knows captions such as 'a large red star on the left'."),
                io.Vae.Output(tooltip="Turns latents into images; 8 pixels to a latent."),
                Encoder.Output(display_name="encoder", tooltip="The playground's CLIP with both towers."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        model, clip, vae = load_diffusers_folder(playground_folder())
        return io.NodeOutput(model, clip, vae, _load("playground"))


class PalateLoadEncoder(io.ComfyNode):
    """Load a full CLIP file as encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [f"{kind}/{name}" for kind in _FOLDERS for name in folder_paths.get_filename_list(kind)]
        return schema(
            node_id="PalateLoadEncoder",
            display_name="Load Encoder",
            category=CATEGORY,
            search_aliases=["clip loader", "clip vision", "image embedding model"],
            description="Load a CLIP that turns images into vectors. To steer SD1.5 take a full CLIP ViT-L/14 file "
            "with both towers: checkpoints have no text projection. To rank, any CLIP image tower does.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files,
                    tooltip="A file in models/clip_vision or models/text_encoders. With both towers it ranks and "
                    "steers, with the image tower alone it ranks.",
                ),
            ],
            outputs=[Encoder.Output(display_name="encoder", tooltip="Image tower, text projection if there is one.")],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(_load(_path(file)))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> tuple[int, int]:
        info = _path(file).stat()
        return info.st_mtime_ns, info.st_size


# All CLIPs cut text alike; a file of weights alone doesn't say how.
_HOST_TOKENIZER = Path(comfy.sd1_clip.__file__).with_name("sd1_tokenizer")


def _path(file: str) -> Path:
    kind, _, name = file.partition("/")
    if kind not in _FOLDERS:
        raise ValueError(f"Cannot load the encoder {file!r}: expected a file of {' or '.join(_FOLDERS)}.")
    return Path(folder_paths.get_full_path_or_raise(kind, name))


def _load(spec: str | Path) -> ImageTextEncoder:
    management = comfy.model_management
    # ComfyUI runs nodes in inference mode; tensors made there could never take part in gradients.
    with torch.inference_mode(False):
        encoder = load_encoder(spec, management.text_encoder_offload_device(), _HOST_TOKENIZER)
        patcher = ModelPatcher(
            encoder.towers,
            load_device=management.text_encoder_device(),
            offload_device=management.text_encoder_offload_device(),
        )
    encoder.before_use(lambda: _bring(patcher))
    sidebar.seen(encoder)
    return encoder


def _bring(patcher: ModelPatcher) -> None:
    """Have ComfyUI make room for the encoder and move it to where it computes; it may move it away any time after."""
    with torch.inference_mode(False):
        # As a whole: only ComfyUI's own layers can work with a part of their weights elsewhere.
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
