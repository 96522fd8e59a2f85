"""Steering in the web UIs' own text encoding, where a copy of theirs is at hand.

FORGE_PATH: a folder of lllyasviel/stable-diffusion-webui-forge. A1111_PATH: one of AUTOMATIC1111/stable-diffusion-webui
or of a fork that kept its text encoding (reForge).
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from palate.adapters.steering import SteeringSettings
from palate.ui.webui.steered import Steered
from palate.ui.webui.text_engines import engines_of
from webui_engines import Model, Prompts, steered, taste, text_model, text_parts


def host(variable):
    folder = os.environ.get(variable, "").strip()
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"no {variable}: see the top of {Path(__file__).name}")
    return Path(folder)


@pytest.fixture
def modules(monkeypatch):
    """Stand-ins for what the hosts' text encoding imports beside it."""
    options = SimpleNamespace(
        emphasis="Original", CLIP_stop_at_last_layers=1, sdxl_clip_l_skip=False, comma_padding_backtrack=20
    )
    for name in ("modules", "modules.shared", "modules.devices", "modules.prompt_parser", "modules.sd_hijack"):
        monkeypatch.setitem(sys.modules, name, MagicMock(opts=options))
    return options


def loaded(monkeypatch, folder, name, *parts):
    spec = importlib.util.spec_from_file_location(name, folder.joinpath(*parts))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_forges_own_engine(monkeypatch, modules):
    folder = host("FORGE_PATH") / "backend"
    for name in ("backend", "backend.text_processing"):
        package = ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    device = SimpleNamespace(text_encoder_device=lambda: torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "backend.memory_management", device)
    monkeypatch.setattr(sys.modules["backend"], "memory_management", device, raising=False)
    for part in ("parsing", "emphasis", "textual_inversion"):
        module = loaded(monkeypatch, folder, f"backend.text_processing.{part}", "text_processing", f"{part}.py")
        monkeypatch.setattr(sys.modules["backend.text_processing"], part, module, raising=False)
    classic = loaded(
        monkeypatch, folder, "backend.text_processing.classic_engine", "text_processing", "classic_engine.py"
    )
    text = text_model()
    text.text_model.embeddings.position_ids = torch.arange(77)[None]
    engine = classic.ClassicTextProcessingEngine(SimpleNamespace(transformer=text), text_parts()[1])
    model = Model(engine)
    plain = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on = steered(model)
    moved = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on.end()
    assert moved.shape == plain.shape and not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(model.get_learned_conditioning(Prompts(["a (red:1.3) star"])), plain)


def test_automatic1111s_own_embedder(monkeypatch, modules):
    folder = host("A1111_PATH") / "modules"
    parser = sys.modules["modules.prompt_parser"]
    parser.parse_prompt_attention = lambda line: [["a ", 1.0], ["red", 1.3], [" star", 1.0]]
    monkeypatch.setattr(sys.modules["modules"], "prompt_parser", parser)
    devices = SimpleNamespace(device=torch.device("cpu"), torch_npu_set_device=lambda: None)
    monkeypatch.setattr(sys.modules["modules"], "devices", devices)
    emphasis = loaded(monkeypatch, folder, "modules.sd_emphasis", "sd_emphasis.py")
    monkeypatch.setattr(sys.modules["modules"], "sd_emphasis", emphasis)
    hijack = loaded(monkeypatch, folder, "modules.sd_hijack_clip", "sd_hijack_clip.py")
    modules.use_old_emphasis_implementation = modules.textual_inversion_add_hashes_to_infotext = False
    wrapped = torch.nn.Module()
    wrapped.transformer, wrapped.tokenizer = text_model(), text_parts()[1]
    hijacked = SimpleNamespace(
        fixes=None,
        extra_generation_params={},
        embedding_db=SimpleNamespace(find_embedding_at_position=lambda *_: (None, None)),
    )
    part = hijack.FrozenCLIPEmbedderWithCustomWords(wrapped, hijacked)
    model = SimpleNamespace(cond_stage_model=part, get_learned_conditioning=lambda prompts: part(list(prompts)))
    plain = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on = Steered(model, engines_of(model, modules), [taste()], SteeringSettings(method="eos_token"), pytest.fail)
    moved = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on.end()
    assert moved.shape == plain.shape and not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(model.get_learned_conditioning(Prompts(["a (red:1.3) star"])), plain)
    assert "encode_with_transformers" not in vars(part)
