"""A LoRA of Palate in Forge's own loader, where a copy of it is at hand: every layer finds its weight and fits it.

FORGE_PATH: a folder of lllyasviel/stable-diffusion-webui-forge; only its packages_3rdparty/comfyui_lora_collection is used.
"""  # noqa: E501

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import ldm_files as ldm
import pytest
import torch
from palate.adapters.files.lora_file import save_lora
from safetensors.torch import load_file

SD15 = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture
def forge(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Forge's reader of LoRAs."""
    given = os.environ.get("FORGE_PATH", "").strip()
    folder = Path(given).expanduser() / "packages_3rdparty" / "comfyui_lora_collection"
    if not given or not folder.is_dir():
        pytest.skip(f"no Forge: set FORGE_PATH (see the top of {Path(__file__).name})")
    for name in ("packages_3rdparty", "packages_3rdparty.comfyui_lora_collection"):
        package = ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    for part in ("utils", "lora"):
        name = f"packages_3rdparty.comfyui_lora_collection.{part}"
        spec = importlib.util.spec_from_file_location(name, folder / f"{part}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys.modules["packages_3rdparty.comfyui_lora_collection"], part, module, raising=False)
    return module


def test_every_layer_finds_its_weight_and_fits_it(forge: ModuleType, tmp_path: Path) -> None:
    from palate.adapters.steering.pipelines import load_pipeline

    checkpoint = ldm.write_checkpoint(tmp_path / "model.safetensors", "sd15")
    weights = {
        name.removeprefix("model."): value
        for name, value in load_file(checkpoint).items()
        if name.startswith("model.diffusion_model.")
    }
    unet = load_pipeline(checkpoint, torch.float32).pipeline.unet
    state = {}
    for name, module in unet.named_modules():
        if name.endswith(LAYERS) and ".attn" in name:
            state[f"{name}.down"] = torch.ones(2, module.in_features)
            state[f"{name}.up"] = torch.ones(module.out_features, 2)
    file = save_lora(state, tmp_path / "mine", "sd15")
    # As Forge makes the names of a model's weights in LoRAs (model_lora_keys_unet), without the rest of the program.
    known = forge.utils.unet_to_diffusers(SD15)
    names = {
        f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}": f"diffusion_model.{own}"
        for name, own in known.items()
        if name.endswith(".weight")
    }
    patches, left = forge.load_lora(load_file(file), names)
    assert not left
    assert len(patches) == len(state) // 2 > 20
    for name, patch in patches.items():
        up, down = patch[1][0], patch[1][1]
        assert (up.shape[0], down.shape[1]) == tuple(weights[name].shape)
