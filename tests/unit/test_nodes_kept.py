"""What ComfyUI's nodes keep of steered texts. No ComfyUI: the module is loaded beside the package that needs one."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def kept() -> ModuleType:
    file = Path(__file__).parents[2] / "nodes" / "kept.py"
    spec = importlib.util.spec_from_file_location("palate.ui.kept_of_the_nodes", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_one_not_asked_for_longest_makes_room(kept: ModuleType) -> None:
    one, owner = kept.Kept(most=2), torch.nn.Linear(1, 1)
    for key in "abac":
        one.put(owner, key, key.upper(), 1)
    assert [one.get(owner, key) for key in "abc"] == ["A", None, "C"]


def test_no_more_bytes_than_allowed_and_nothing_that_is_too_large_alone(kept: ModuleType) -> None:
    one, owner = kept.Kept(most_bytes=10), torch.nn.Linear(1, 1)
    for key, size in (("a", 6), ("b", 6), ("c", 4), ("d", 11)):
        one.put(owner, key, key, size)
    assert [one.get(owner, key) for key in "abcd"] == [None, None, None, None]
    one.put(owner, "e", "e", 10)
    assert one.get(owner, "e") == "e"


def test_results_go_with_their_text_encoder_and_never_to_another(kept: ModuleType) -> None:
    one, first, second = kept.Kept(), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    one.put(first, "key", "first", 1)
    assert one.get(second, "key") is None and len(one) == 1
    del first
    gc.collect()
    assert len(one) == 0


def test_the_mark_of_weights_tells_patches_and_changed_numbers(kept: ModuleType) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.LayerNorm(40)).half()
    plain = kept.weights_mark(model, model)
    assert kept.weights_mark(model, model) == plain
    model.current_weight_patches_uuid = "another"
    assert kept.weights_mark(model, model) != plain
    model.current_weight_patches_uuid = None
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # what a hook's LoRA of rank 1 does to one tensor
        model[0].weight += 0.01 * torch.outer(
            torch.randn(40, generator=generator), torch.randn(40, generator=generator)
        )
    assert kept.weights_mark(model, model) != plain


def test_the_mark_of_a_text_hangs_on_words_weights_and_vectors(kept: ModuleType) -> None:
    vector = torch.ones(4)
    texts = [
        {"l": [[(1, 1.0), (2, 1.0)]]},
        {"l": [[(1, 1.0), (3, 1.0)]]},
        {"l": [[(1, 1.0), (2, 1.1)]]},
        {"l": [[(1, 1.0)], [(2, 1.0)]]},
        {"g": [[(1, 1.0), (2, 1.0)]]},
        {"l": [[(vector, 1.0), (2, 1.0)]]},
        {"l": [[(2 * vector, 1.0), (2, 1.0)]]},
    ]
    assert len({kept.text_mark(text) for text in texts}) == len(texts)
    assert kept.text_mark(texts[5]) == kept.text_mark({"l": [[(torch.ones(4), 1.0), (2, 1.0)]]})
