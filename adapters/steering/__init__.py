"""Moving a prompt along a taste, and generating with it.

adapt_text_embedding   x moved by the closed form, no model
adapt_text_weights     a text encoder's weights, input vectors, states or pooled vector moved for one prompt; any host
TextConditioner        the text side of a diffusers pipeline, plain and steered
Generator              pictures by seed, plain and steered
"""

from .adapted import Adapted, Change
from .conditioner import TextConditioner
from .embedding import adapt_text_embedding
from .generator import Defaults, Generator
from .objective import TasteObjective
from .settings import AUTO, METHODS, TOWERS, Movement, SteeringSettings
from .weights import adapt_text_weights

__all__ = [
    "AUTO",
    "METHODS",
    "TOWERS",
    "Adapted",
    "Change",
    "Defaults",
    "Generator",
    "Movement",
    "SteeringSettings",
    "TasteObjective",
    "TextConditioner",
    "adapt_text_embedding",
    "adapt_text_weights",
]
