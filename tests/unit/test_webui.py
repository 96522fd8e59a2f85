"""Prompts steered in Automatic1111 and Forge, with stand-ins of their objects."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from palate.adapters.errors import EncoderMismatchError, SteeringError
from palate.adapters.steering import SteeringSettings
from palate.ui.webui.text_engines import engines_of
from webui_engines import Engine, Model, Prompts, steered, taste, text_model, text_parts


@pytest.fixture
def model():
    return Model(Engine(*text_parts()))


def test_prompts_move_until_the_end_and_negative_ones_never(model):
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    on = steered(model)
    moved = model.get_learned_conditioning(Prompts(["a red star"]))
    negative = Prompts(["a red star"])
    negative.is_negative_prompt = True
    assert torch.equal(model.get_learned_conditioning(negative), plain)
    assert not torch.allclose(moved, plain, atol=1e-3)
    on.end()
    on.end()
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    assert "encode_with_transformers" not in vars(model.text_processing_engine)


def test_it_moves_as_far_as_everywhere_else(model):
    from palate.adapters.steering import adapt_text_weights

    text, tokenizer = text_parts()
    ids = tokenizer(["a red star"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    settings = SteeringSettings(method="encoder", steps=2)
    expected = adapt_text_weights(text, ids, taste(), None, settings).adapted
    on = steered(model)
    torch.testing.assert_close(model.get_learned_conditioning(Prompts(["a red star"])), expected, atol=1e-4, rtol=1e-4)
    on.end()


def test_prompts_of_a_batch_are_moved_each_by_itself_and_once(model, monkeypatch):
    from palate.ui.webui import steered as steering

    on, calls = steered(model), []
    real = steering.adapt_text_weights
    monkeypatch.setattr(steering, "adapt_text_weights", lambda *a, **k: calls.append(a) or real(*a, **k))
    both = model.get_learned_conditioning(Prompts(["a red star", "a blue fish"]))
    alone = model.get_learned_conditioning(Prompts(["a blue fish"]))
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)
    assert len(calls) == 2
    on.end()


def test_strength_zero_is_the_hosts_own_bits(model):
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    on = steered(model, strength=0.0)
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    on.end()


def test_a_textual_inversion_stays_where_it_stands(model):
    vector = torch.randn(1, 96, generator=torch.Generator().manual_seed(1))
    on = steered(model)
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    model.text_processing_engine.embeddings.fixes = [[(1, SimpleNamespace(vec=vector))]]
    assert not torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    on.end()


def test_what_goes_wrong_while_encoding_leaves_the_prompt_as_it_is(model, monkeypatch):
    trouble = []
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    on = steered(model, trouble=trouble)
    monkeypatch.setattr("palate.ui.webui.steered.adapt_text_weights", MagicMock(side_effect=RuntimeError("no room")))
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    assert trouble == ["no room"]
    on.end()


def test_what_does_not_fit_is_named_before_anything_is_changed(model):
    with pytest.raises(EncoderMismatchError, match="text side is 768 wide; expected one learned with a CLIP"):
        steered(model, width=768)
    with pytest.raises(SteeringError, match="its file has no text side"):
        steered(model, text_weights=None)
    with pytest.raises(SteeringError, match=r"found SimpleNamespace; expected Stable Diffusion 1.5 or SDXL"):
        engines_of(SimpleNamespace())
    assert "get_learned_conditioning" not in vars(model)


class Embedder(torch.nn.Module):
    """Automatic1111's wrapped text encoder, with what reForge adds to it."""

    def __init__(self, layer, layer_idx, limit=None, key="clip_l"):
        super().__init__()
        self.wrapped = torch.nn.Module()
        self.wrapped.transformer = text_model()
        self.wrapped.transformer.text_model.embeddings.token_embedding.textual_inversion_key = key
        self.wrapped.layer, self.wrapped.layer_idx = layer, layer_idx
        self.hijack = SimpleNamespace(fixes=None)
        if limit is not None:
            self.minimal_clip_skip = limit

    def encode_with_transformers(self, tokens):
        raise NotImplementedError


def test_each_hosts_clip_skip_is_its_own():
    """Hidden states are counted from the embeddings, 0, so the next to last is layers - 1 or -2."""
    layers = len(text_model().text_model.encoder.layers)
    options = SimpleNamespace(CLIP_stop_at_last_layers=3, sdxl_clip_l_skip=False)
    small = SimpleNamespace(cond_stage_model=Embedder("last", None))
    both = SimpleNamespace(embedders=[Embedder("hidden", layers - 1), object()])
    large = SimpleNamespace(conditioner=both, cond_stage_model=both)
    one, other = Embedder("hidden", layers - 1, 2), Embedder("hidden", -2, 2, "clip_g")
    reforge = SimpleNamespace(conditioner=SimpleNamespace(embedders=[one, other]))
    refiner = SimpleNamespace(conditioner=SimpleNamespace(embedders=[other]), cond_stage_model=other)

    def found(model):
        return [(one.name, one.clip_skip(), one.norm_skipped) for one in engines_of(model, options)]

    assert found(small) == [("clip_l", 2, True)]
    assert found(large) == [("clip_l", 1, False)]
    assert found(reforge) == [("clip_l", 2, False), ("clip_g", 2, False)] and found(refiner) == [("clip_g", 2, False)]
    options.CLIP_stop_at_last_layers, options.sdxl_clip_l_skip = 1, True
    assert found(small) == [("clip_l", 0, True)] and found(large) == [("clip_l", 0, False)]
    assert found(reforge) == [("clip_l", 1, False), ("clip_g", 1, False)]
