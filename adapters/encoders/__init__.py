"""Images and texts to vectors in one joint space, with the identity of what made them.

load_encoder(spec)            a folder, a file, open_clip, a hub name, "playground"
encoder_from_state_dict(…)    tensors that a host holds already
encode_cached(store, …)       stored images, each encoded once; encode_readable: those that can be read
"""

from .cached import encode_cached, encode_readable
from .encoder import ImageTextEncoder, encoder_from_state_dict
from .facts import ClipFacts
from .identity import clip_identity
from .layouts import canonical_state
from .load import load_encoder, read_state
from .towers import TextStates, TextTower, text_model_from_state_dict

__all__ = [
    "ClipFacts",
    "ImageTextEncoder",
    "TextStates",
    "TextTower",
    "canonical_state",
    "clip_identity",
    "encode_cached",
    "encode_readable",
    "encoder_from_state_dict",
    "load_encoder",
    "read_state",
    "text_model_from_state_dict",
]
