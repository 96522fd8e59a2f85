"""PPD: one denoiser that knows many people by a user embedding.

encode_user      a person's answers in the store to a `User`: a few tokens
blend_users      several people, with any weights, also below 0
PPD              user attention and user encoder of one base; says which models and users fit
UserAttention    keys and values of a user's tokens beside the text's, in every cross-attention
layers_of        where a user enters a diffusers UNet
use_user         a user acts on a diffusers UNet while this lasts
use_in           the same for any denoiser that a user enters: Stable Cascade's, SD3's and Flux's, too
user_branch      the same for training: tokens per row, with gradients

User encoders: `pairs_encoder` (the default), `vlm` (the paper's), `learned` (known rewards), `ip_adapter` (untrained).
Training: `training`, and `from_answers` from a store or a data set. Other denoisers: `cascade`, `dit`.

Source: Dang et al. 2025, arXiv:2501.06655.
"""

from __future__ import annotations

from .attention import UserAttention
from .denoisers import use_in
from .diffusers import use_user, user_branch
from .layers import LayerShape, layers_of, standard_layers
from .model import PPD, encode_user
from .user import User, blend_users
from .user_encoder import UserEncoder

__all__ = [
    "PPD",
    "LayerShape",
    "User",
    "UserAttention",
    "UserEncoder",
    "blend_users",
    "encode_user",
    "layers_of",
    "standard_layers",
    "use_in",
    "use_user",
    "user_branch",
]
