"""Moving a prompt along a taste, and generating with it.

adapt_text_embedding   x moved by the closed form, no model
adapt_text_weights     a text encoder's weights, input vectors, states or pooled vector moved for one prompt; any host
TextConditioner        the text side of a diffusers pipeline, one tower or SDXL's two, plain and steered
steer                  a prompt moved along a taste, as arguments of a diffusers pipeline that is already there
Generator              pictures by seed, plain, steered and for a user
"""

from .adapted import Adapted, Change
from .conditioner import TextConditioner
from .conditioning import Conditioning
from .embedding import adapt_text_embedding
from .generator import Generator
from .objective import TasteObjective
from .pipelines import Defaults
from .placement import OFFLOADS
from .prompt_tower import PromptTower
from .settings import AUTO, METHODS, TOWERS, Movement, SteeringSettings
from .text_side import steer
from .weights import adapt_text_weights

__all__ = [
    "AUTO",
    "METHODS",
    "OFFLOADS",
    "TOWERS",
    "Adapted",
    "Change",
    "Conditioning",
    "Defaults",
    "Generator",
    "Movement",
    "PromptTower",
    "SteeringSettings",
    "TasteObjective",
    "TextConditioner",
    "adapt_text_embedding",
    "adapt_text_weights",
    "steer",
]
