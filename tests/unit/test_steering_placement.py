"""Offloading gives the same pictures; running out of memory is named and leaves all usable."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import sdxl_models as xl
import torch
from palate.adapters.errors import OutOfMemoryError, SteeringError
from palate.adapters.steering import Generator, SteeringSettings
from palate.adapters.steering import generator as generator_module
from palate.adapters.steering.placement import chosen_offload, named_when_out_of_memory

tiny = xl.tiny

PROMPT = "a red star"
SHORT = {"steps": 2, "guidance": 2.0}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / request.param
    return tiny.write_pipeline(path) if request.param == "sd15" else xl.write_sdxl(path)


def test_offloading_changes_no_bit_and_steers(folder: Path) -> None:
    """On the CPU the hooks move nothing, but they run."""
    pytest.importorskip("accelerate")
    encoders = [tiny.encoder()] if folder.name == "sd15" else [tiny.encoder(), xl.large_encoder()]
    there, here = (Generator(folder, encoder=encoders, offload=how) for how in ("model", "none"))
    assert there.offload == "model" and here.offload == "none" and there._pipeline.text_encoder is None
    taste = tiny.taste(identity=encoders[0].identity)
    for steer in ({}, {"taste": taste, "settings": SteeringSettings(method="token_input", steps=1)}):
        made = [one.images(PROMPT, [1, 2], **SHORT, **steer) for one in (there, here)]
        assert [a.tobytes() for a in made[0]] == [b.tobytes() for b in made[1]]


def test_offloading_by_layers_leaves_no_weight_in_place_but_the_text_encoders(folder: Path) -> None:
    pytest.importorskip("accelerate")
    generator = Generator(folder, offload="sequential")
    assert all(weight.is_meta for weight in generator._pipeline.unet.parameters())
    assert {tower.device.type for tower in generator.conditioner.towers} == {"cpu"}
    assert generator.conditioner.plain(PROMPT).tokens.isfinite().all()


def test_text_encoders_go_to_the_device_to_work_and_back() -> None:
    """The meta device stands for a GPU: nothing is computed there, and what has been there has lost its numbers."""
    from palate.adapters.steering import PromptTower

    tower = PromptTower("clip_l", None, tiny.new_text_model())
    with tower.on(None), tower.on(torch.device("cpu")):
        assert tower.device.type == "cpu"
    with tower.on(torch.device("meta")):
        assert tower.device.type == "meta"
        tower.text_encoder = tiny.new_text_model()
    assert tower.device.type == "cpu"


def pipeline_of(*millions: int) -> SimpleNamespace:
    """Parts of so many MiB, without the memory."""
    parts = {str(n): torch.nn.Linear(m << 18, 1, bias=False, device="meta") for n, m in enumerate(millions)}
    return SimpleNamespace(components=parts | {"scheduler": object()})


@pytest.mark.parametrize(
    ("free", "wanted"), [(24, "none"), (11, "none"), (10, "model"), (9, "model"), (8, "sequential"), (4, "sequential")]
)
def test_auto_takes_the_fastest_that_fits(monkeypatch, free: int, wanted: str) -> None:
    """5 + 2 GiB of weights and 4 GiB of room: all from 11 GiB on, the largest part from 9 GiB on."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free << 30, 80 << 30))
    assert chosen_offload("auto", pipeline_of(5 << 10, 2 << 10), "sdxl", torch.device("cuda")) == wanted


def test_off_a_gpu_nothing_is_offloaded_and_other_words_are_refused() -> None:
    assert chosen_offload("auto", pipeline_of(1), "sd15", torch.device("cpu")) == "none"
    with pytest.raises(SteeringError, match="offload 'some'; expected one of auto, none, model, sequential"):
        chosen_offload("some", pipeline_of(1), "sd15", torch.device("cpu"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    ],
    ids=["gpu", "python", "cpu"],
)
def test_running_out_of_memory_is_named_and_nothing_is_held(error: Exception) -> None:
    match = r"Cannot do it: memory ran out \(.+\); expected more of it. Try less."
    with pytest.raises(OutOfMemoryError, match=match) as found:
        named_when_out_of_memory("do it", "Try less.", lambda: fail(error))
    assert found.value.__context__ is None and found.value.__cause__ is None


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        named_when_out_of_memory("do it", "Try less.", lambda: fail(RuntimeError("shapes differ")))


def fail(error: Exception) -> None:
    raise error


def test_a_picture_too_large_says_what_to_try_and_the_next_one_is_made(tmp_path: Path, monkeypatch) -> None:
    generator = Generator(tiny.write_pipeline(tmp_path / "tiny"))
    real = generator_module.sample

    def sample(pipeline, wanted, negative, seed, look, progress):
        if look.width > 16:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
        return real(pipeline, wanted, negative, seed, look, progress)

    monkeypatch.setattr(generator_module, "sample", sample)
    match = "Cannot generate 4096x4096 pixels: memory ran out.*smaller size, or load the model with offload 'model' or"
    with pytest.raises(OutOfMemoryError, match=match):
        generator.images(PROMPT, [1], size=4096, **SHORT)
    assert len(generator.images(PROMPT, [1], **SHORT)) == 1


def test_steering_that_takes_too_much_says_what_takes_less(tmp_path: Path, monkeypatch) -> None:
    generator = Generator(tiny.write_pipeline(tmp_path / "tiny"))
    taste = tiny.taste(identity=generator.encoder.identity)

    def steered(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(generator.conditioner, "steered", steered)
    with pytest.raises(OutOfMemoryError, match=r"Cannot steer: memory ran out.*token_input"):
        generator.images(PROMPT, [1], taste, **SHORT)
