"""The LoRA and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from finetune_small import QUICK, prepared, trained
from palate.adapters.errors import FileFormatError, ShapeError
from palate.adapters.files.lora_file import kohya_name, load_lora_file, save_lora
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.lora import add_lora, reference
from palate.adapters.finetune.noising import noising_of
from palate.adapters.finetune.step import Denoiser
from palate.adapters.steering.pipelines import load_pipeline
from safetensors.torch import save_file


def test_a_new_lora_changes_nothing_and_off_it_is_the_base(denoiser: Denoiser, tmp_path: Path) -> None:
    inputs = (tiny.drawn(1, 4, 8, 8), 10, tiny.drawn(1, 77, tiny.WIDTH))
    frozen = {name: value.clone() for name, value in denoiser.unet.state_dict().items()}
    with torch.no_grad():
        base = denoiser.unet(*inputs).sample
    parameters = add_lora(denoiser.unet, 2)
    with torch.no_grad():
        assert torch.equal(denoiser.unet(*inputs).sample, base)
    train_lora(denoiser, parameters, prepared(), None, QUICK, tmp_path)
    with torch.no_grad():
        assert not torch.equal(denoiser.unet(*inputs).sample, base)
        with reference(denoiser.unet):
            assert torch.equal(denoiser.unet(*inputs).sample, base)
    now = {name.replace(".base_layer", ""): value for name, value in denoiser.unet.state_dict().items()}
    assert all(torch.equal(now[name], value) for name, value in frozen.items())


def test_every_part_of_a_lora_is_trained(denoiser: Denoiser, tmp_path: Path) -> None:
    parameters = add_lora(denoiser.unet, 2)
    with torch.no_grad():
        first = [parameter.clone() for parameter in parameters]
    train_lora(denoiser, parameters, prepared(), None, QUICK, tmp_path)
    assert all(not torch.equal(before, now) for before, now in zip(first, parameters, strict=True))


def test_what_comes_in_is_not_copied_in_half_precision_and_gradients_stay_the_same_bits(folder: Path) -> None:
    """peft copies each projection's input to float32; autocast rounds it back, and each copy waits for its gradient."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = []
    for copied in (False, True):
        unet = load_pipeline(folder, torch.bfloat16).pipeline.unet
        parameters = add_lora(unet, 2)
        for number, parameter in enumerate(parameters):
            parameter.data = tiny.drawn(*parameter.shape, seed=number)
        layers = [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]
        assert layers and not any(layer.cast_input_dtype_enabled for layer in layers)
        for layer in layers:
            layer.cast_input_dtype_enabled = copied
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        noising = noising_of(load_pipeline(folder, torch.float32).pipeline.scheduler)
        data, one = prepared(), Denoiser(unet, noising, torch.device("cpu"), torch.bfloat16)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            errors = one.errors(data.batch([0, 1], one.device), torch.ones(2, 4, 8, 8), torch.tensor([10, 500]), False)
        (errors.chosen - errors.rejected).sum().backward()
        found.append((sum(kept.values()), [parameter.grad for parameter in parameters]))
    (less, ours), (more, theirs) = found
    assert less < 0.95 * more
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert any(bool(one.abs().max() > 0) for one in ours)


def test_a_lora_file_does_in_diffusers_what_it_did_in_training(denoiser, folder: Path, tmp_path: Path) -> None:
    found = trained(denoiser, tmp_path / "run", replace(QUICK, check_every=6))
    file = save_lora(found.state, tmp_path / "mine", "sd15", {"palate.loss": "dpo"})
    inputs = (tiny.drawn(1, 4, 8, 8), 10, tiny.drawn(1, 77, tiny.WIDTH))
    pipeline = load_pipeline(folder, torch.float32).pipeline
    pipeline.load_lora_weights(str(file))
    with torch.no_grad():
        theirs, ours = pipeline.unet(*inputs).sample, denoiser.unet(*inputs).sample
    assert torch.allclose(theirs, ours, atol=1e-4)
    tensors, about = load_lora_file(file)
    assert about["palate.loss"] == "dpo" and about["ss_network_dim"] == "2"
    assert all(name.startswith("lora_unet_") and value.dtype == torch.float16 for name, value in tensors.items())


def test_a_lora_of_another_trainer_may_say_much_of_itself(tmp_path: Path) -> None:
    tags = '{"mine": {' + ", ".join(f'"tag {number}": {number}' for number in range(80_000)) + "}}"
    layer = {"lora_unet_a.lora_down.weight": torch.ones(2, 4), "lora_unet_a.lora_up.weight": torch.ones(4, 2)}
    save_file(layer, tmp_path / "theirs.safetensors", {"ss_tag_frequency": tags})
    tensors, about = load_lora_file(tmp_path / "theirs.safetensors")
    assert tensors.keys() == layer.keys() and len(about["ss_tag_frequency"]) == len(tags) > 1 << 20
    save_file(layer, tmp_path / "bomb.safetensors", {"ss_tag_frequency": " " * (1 << 25)})
    with pytest.raises(FileFormatError, match="a header of 33,"):
        load_lora_file(tmp_path / "bomb.safetensors")


def test_a_lora_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    down, up = torch.ones(2, 4), torch.ones(4, 2)
    with pytest.raises(FileFormatError, match="family 'chroma'; expected one of sd15, sdxl"):
        save_lora({"a.down": down, "a.up": up}, tmp_path / "a", "chroma")
    with pytest.raises(ShapeError, match="'a' has a half only"):
        save_lora({"a.down": down}, tmp_path / "a", "sd15")
    with pytest.raises(ShapeError, match="weights above 65504"):  # float16 has none
        save_lora({"a.down": down, "a.up": 1e5 * up}, tmp_path / "a", "sd15")
    assert not list(tmp_path.iterdir())


def test_kohyas_names() -> None:
    """As its trainer writes them: diffusers' for SD1.5, the original code's for SDXL."""
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert kohya_name(layer, "sd15") == "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert kohya_name(layer, "sdxl") == "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0"
    up = "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_k"
    assert kohya_name(up, "sdxl") == "lora_unet_output_blocks_5_1_transformer_blocks_1_attn2_to_k"
    middle = "mid_block.attentions.0.transformer_blocks.9.attn2.to_v"
    assert kohya_name(middle, "sdxl") == "lora_unet_middle_block_1_transformer_blocks_9_attn2_to_v"
