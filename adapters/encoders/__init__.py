"""Images and texts to vectors in one joint space, with the identity of what made them.

load_encoder(spec)            a folder, a file, open_clip, a hub name, "playground"
ImageTextEncoder(…)           tensors that a host holds already
encode_cached(store, …)       stored images, each encoded once; encode_readable: those that can be read
"""

from .cached import encode_cached, encode_readable
from .encoder import ImageTextEncoder
from .facts import ClipFacts
from .from_tensors import text_model_from_state_dict
from .identity import clip_identity
from .layouts import canonical_state
from .load import load_encoder, read_state
from .towers import TextStates, TextTower

__all__ = [
    "ClipFacts",
    "ImageTextEncoder",
    "TextStates",
    "TextTower",
    "canonical_state",
    "clip_identity",
    "encode_cached",
    "encode_readable",
    "load_encoder",
    "read_state",
    "text_model_from_state_dict",
]
