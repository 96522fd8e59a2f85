"""The node that loads PPD weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import folder_paths
import torch
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import FileFormatError, StoreError
from ..adapters.files import load_ppd
from ..adapters.playground import playground_folder
from ..adapters.ppd.model import PPD
from .sockets import CATEGORY, PPDS, Encoder, Ppd, ppd_folder, schema

_LOG = logging.getLogger(__name__)
_PLAYGROUND = "playground"
_SHARED = ("model_patches", "ipadapter")  # ComfyUI's own folder for such weights, and the one IP-Adapters are put into
_UNTRAINED = "ip_adapter"
_ENDINGS = (".safetensors", ".bin")  # IP-Adapters come as either; a pickle's tensors are read, nothing in it is run


class PalateLoadPPD(io.ComfyNode):
    """Load what lets one model draw for many people."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateLoadPPD",
            display_name="Load PPD",
            category=CATEGORY,
            search_aliases=["ppd", "personalized diffusion", "ip-adapter as ppd", "user attention", "preference model"],
            description="Load PPD weights: trained once on many people, they let a model draw for anybody after a few "
            "answers, without another training. An IP-Adapter does it without any training on preferences, and less "
            "well.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_files(),
                    tooltip="playground, for the models of Load Playground; or a file in models/model_patches, "
                    "models/ipadapter (.safetensors or .bin) or Palate's ppd folder. Press R to see new ones.",
                ),
                Encoder.Input(
                    "encoder",
                    optional=True,
                    tooltip="For an IP-Adapter: the CLIP that it was trained with. For PPD weights: checked when "
                    "connected.",
                ),
            ],
            outputs=[
                Ppd.Output(display_name="ppd", tooltip="For Encode User and Apply User."),
                io.String.Output(display_name="about", tooltip="What it is, and for which model."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: object) -> tuple[int, int]:
        info = _path(file).stat()
        return info.st_mtime_ns, info.st_size

    @classmethod
    def execute(cls, file: str, encoder: ImageTextEncoder | None = None) -> io.NodeOutput:
        with torch.inference_mode(False):
            ppd = load_ppd(_path(file), encoder, torch.float16)  # SDXL's attention is 1.4 GB in float32
            if ppd.encoder is not None:
                ppd.encoder.float()  # small, and what people are made with
        about = _about(ppd)
        return io.NodeOutput(ppd, about, ui={"text": [about]})


def _about(ppd: PPD) -> str:
    kind = getattr(ppd.encoder, "kind", "")
    what = f"{ppd.name or 'PPD'}, for {ppd.base}, {len(ppd.attention.layers)} layers."
    if kind == _UNTRAINED:
        what += (
            " Not trained on preferences: an IP-Adapter that takes the pictures you chose as its images and those you "
            "rejected as its negative ones."
        )
    if ppd.image_encoder_name:
        what += f" Image encoder: {ppd.image_encoder_name}."
    return what


def _files() -> list[str]:
    found = [_PLAYGROUND]
    for kind in _kinds():
        names = folder_paths.get_filename_list(kind)
        found += [f"{kind}/{name}" for name in names if name.lower().endswith(_ENDINGS)]
    return found


def _kinds() -> Iterator[str]:
    """ComfyUI's names of the folders that there are."""
    try:
        ppd_folder()
        yield PPDS
    except StoreError as error:  # an exception here would keep ComfyUI from loading any of the nodes
        _LOG.warning("Palate: %s", error)
    adapters = Path(folder_paths.models_dir) / "ipadapter"
    if adapters.is_dir():  # IP-Adapter packs know the folder; without such a pack ComfyUI doesn't
        folder_paths.add_model_folder_path("ipadapter", str(adapters))
    yield from (kind for kind in _SHARED if kind in folder_paths.folder_names_and_paths)


def _path(file: str) -> Path:
    if file == _PLAYGROUND:
        path = playground_folder() / "ppd.safetensors"
        if not path.is_file():
            raise FileFormatError(
                f"Cannot load the playground's PPD: there is no {path.name} in {path.parent.name}/; expected the one "
                "that comes with Palate. Update Palate, or choose another file."
            )
        return path
    kind, _, name = file.partition("/")
    if kind not in _kinds():
        raise FileFormatError(
            f"Cannot load the PPD {file!r}: found no folder {kind!r}; expected one of {', '.join(_kinds())}. Choose a "
            "file of the list."
        )
    return Path(folder_paths.get_full_path_or_raise(kind, name))
