"""Stand-ins of a web UI's text encoding for the playground's text encoder, and what steers it."""

import functools
from types import SimpleNamespace

import pytest
import torch
from palate.adapters.encoders import text_model_from_state_dict
from palate.adapters.playground import playground_folder
from palate.adapters.steering import SteeringSettings
from palate.adapters.taste import Taste
from palate.ui.webui.steered import Steered
from palate.ui.webui.text_engines import engines_of
from transformers import CLIPTextModel, CLIPTokenizer


class Prompts(list):
    is_negative_prompt = False


class Engine:
    """What Forge's ClassicTextProcessingEngine is to the extension."""

    minimal_clip_skip, final_layer_norm = 1, True

    def __init__(self, model, tokenizer):
        self.clip_skip = 1
        self.text_encoder = SimpleNamespace(transformer=model)
        self.tokenizer = tokenizer
        self.embeddings = SimpleNamespace(fixes=None)

    def encode_with_transformers(self, tokens):
        outputs = self.text_encoder.transformer(tokens, output_hidden_states=True)
        z = outputs.hidden_states[-self.clip_skip]
        return self.text_encoder.transformer.text_model.final_layer_norm(z)

    def __call__(self, texts):
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
        return self.encode_with_transformers(ids)


class Model:
    def __init__(self, engine):
        self.text_processing_engine = engine

    @torch.inference_mode()
    def get_learned_conditioning(self, prompts):
        return self.text_processing_engine(list(prompts))


def text_model():
    """As the hosts have it: transformers 4 puts all of it into `text_model`, as the core's own tower does."""
    return text_model_from_state_dict(CLIPTextModel.from_pretrained(playground_folder() / "text_encoder").state_dict())


def taste(width=96, person="mara", **changes):
    generator = torch.Generator().manual_seed(3)
    side = torch.randn(width, generator=generator)
    known = {"text_weights": side} | changes
    return Taste(torch.randn(96, generator=generator), "e" * 64, "playground", person, 30, **known)


def steered(model, strength=1.0, method="encoder", trouble=None, **changes):
    settings = SteeringSettings(method=method, strength=strength, steps=2)
    tell = trouble.append if trouble is not None else pytest.fail
    return Steered(model, engines_of(model), [taste(**changes)], settings, tell)


@functools.cache
def text_parts():
    """The playground's text model and its tokenizer."""
    return text_model(), CLIPTokenizer.from_pretrained(playground_folder() / "tokenizer")
