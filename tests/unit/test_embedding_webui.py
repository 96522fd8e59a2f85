"""Embedding files in the web UIs' own loaders, where a copy of them is at hand.

FORGE_PATH: a folder of lllyasviel/stable-diffusion-webui-forge; only its backend/text_processing is used.
A1111_PATH: a folder of AUTOMATIC1111/stable-diffusion-webui, or of a fork that kept its loader (reForge); only its
    modules/textual_inversion is used. Release 1.6 or newer.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import torch
from palate.adapters.files import save_embedding
from palate.adapters.steering.portable import PortableEmbedding
from transformers import CLIPTokenizer

NAME, PROMPT = "my-taste", "a red star"
PIECES = Path(__file__).parents[2] / "adapters" / "playground" / "models" / "tokenizer"
SMALL = PortableEmbedding({"clip_l": torch.randn(4, 768, generator=torch.Generator().manual_seed(1))})
LARGE = PortableEmbedding({**SMALL.vectors, "clip_g": torch.ones(4, 1280)})


def loader_of(variable: str, *parts: str) -> ModuleType:
    """A host's module, loaded alone; the test is skipped where there is none."""
    folder = os.environ.get(variable, "").strip()
    file = Path(folder).expanduser().joinpath(*parts)
    if not folder or not file.is_file():
        pytest.skip(f"no {parts[-1]}: set {variable} (see the top of {Path(__file__).name})")
    spec = importlib.util.spec_from_file_location(f"loader_{variable.lower()}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def forge() -> ModuleType:
    """Forge's loader of embeddings."""
    return loader_of("FORGE_PATH", "backend", "text_processing", "textual_inversion.py")


@pytest.fixture
def a1111(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Automatic1111's loader of embeddings; the rest of the program, which it imports for training, is not there."""
    for name in ("", ".textual_inversion", ".textual_inversion.dataset", ".textual_inversion.learn_schedule"):
        monkeypatch.setitem(sys.modules, f"modules{name}", MagicMock())
    for name in ("image_embedding", "logging", "saving_settings"):
        monkeypatch.setitem(sys.modules, f"modules.textual_inversion.{name}", MagicMock())
    monkeypatch.setitem(sys.modules, "modules.utils", MagicMock())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", MagicMock())
    module = loader_of("A1111_PATH", "modules", "textual_inversion", "textual_inversion.py")
    module.devices.device = torch.device("cpu")
    module.hashes.sha256.return_value = "0" * 64
    module.errors.report.side_effect = AssertionError("the loader could not read the file")
    yield module


def known_to_forge(forge: ModuleType, folder: Path, width: int) -> object:
    """Forge's database of the embeddings in a folder, for a model of that width."""
    database = forge.EmbeddingDatabase(CLIPTokenizer.from_pretrained(PIECES), width)
    database.add_embedding_dir(str(folder))
    database.load_textual_inversion_embeddings()
    return database


def known_to_a1111(a1111: ModuleType, folder: Path, width: int) -> object:
    """Automatic1111's database of the embeddings in a folder, for a model of that width."""
    tokenizer = CLIPTokenizer.from_pretrained(PIECES)
    text = a1111.shared.sd_model.cond_stage_model
    text.tokenize = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]
    text.encode_embedding_init_text = lambda *_: torch.zeros(1, width)
    database = a1111.EmbeddingDatabase()
    database.add_embedding_dir(str(folder))
    database.load_textual_inversion_embeddings(force_reload=True)
    return database


def test_forge_loads_sd15s_file_and_finds_the_name_in_a_prompt(forge: ModuleType, tmp_path: Path) -> None:
    save_embedding(SMALL, tmp_path / NAME)
    database = known_to_forge(forge, tmp_path, 768)
    tokens = database.tokenizer(f"{PROMPT}, {NAME}", add_special_tokens=False)["input_ids"]
    found = [database.find_embedding_at_position(tokens, place)[0] for place in range(len(tokens))]
    (known,) = [one for one in found if one is not None]
    assert known.name == NAME and torch.equal(known.vec, SMALL.vectors["clip_l"]) and known.vectors == 4
    assert known_to_forge(forge, tmp_path, 2048).skipped_embeddings[NAME].shape == 768


def test_forge_loads_sdxls_file_for_sdxl_only(forge: ModuleType, tmp_path: Path) -> None:
    save_embedding(LARGE, tmp_path / NAME)
    known = known_to_forge(forge, tmp_path, 2048).word_embeddings[NAME]
    assert all(torch.equal(known.vec[key], value) for key, value in LARGE.vectors.items())
    assert NAME in known_to_forge(forge, tmp_path, 768).skipped_embeddings


def test_automatic1111_loads_sd15s_file_and_finds_the_name_in_a_prompt(a1111: ModuleType, tmp_path: Path) -> None:
    save_embedding(SMALL, tmp_path / NAME)
    database = known_to_a1111(a1111, tmp_path, 768)
    tokens = CLIPTokenizer.from_pretrained(PIECES)(f"{PROMPT}, {NAME}", add_special_tokens=False)["input_ids"]
    found = [database.find_embedding_at_position(tokens, place)[0] for place in range(len(tokens))]
    (known,) = [one for one in found if one is not None]
    assert known.name == NAME and torch.equal(known.vec, SMALL.vectors["clip_l"]) and known.vectors == 4


def test_automatic1111_loads_sdxls_file_for_sdxl_only(a1111: ModuleType, tmp_path: Path) -> None:
    save_embedding(LARGE, tmp_path / NAME)
    known = known_to_a1111(a1111, tmp_path, 2048).word_embeddings[NAME]
    assert all(torch.equal(known.vec[key], value) for key, value in LARGE.vectors.items())
    assert NAME in known_to_a1111(a1111, tmp_path, 768).skipped_embeddings
