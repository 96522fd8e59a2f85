"""Nodes that make a user from answers, join several, save them and load them."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.v0_0_2 import io

from ..adapters.encoders import ImageTextEncoder
from ..adapters.errors import NotEnoughAnswersError
from ..adapters.files import load_user, save_user
from ..adapters.ppd.model import MOST_PAIRS, PPD, encode_user
from ..adapters.ppd.user import User as UserEmbedding
from ..adapters.ppd.user import blend_users
from ..adapters.ppd.user_encoder import PictureEncoder
from .batch_users import the_only
from .learning import NONE, STOP, answers_mark, blocked, without_answers_input
from .saved import USER_FILES
from .sockets import CATEGORY, Ppd, User, encoder_input, open_store, person_input, ppd_input, schema, user_input
from .vectors import encode_new_images
from .weights import weighted, weighted_inputs

_MOST_ANSWERS = 256


class PalateEncodeUser(io.ComfyNode):
    """Make a person's user embedding from their answers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateEncodeUser",
            display_name="Encode User",
            category=CATEGORY,
            search_aliases=["ppd", "user embedding", "few-shot preference", "personalize"],
            description="Make a user from a person's newest answers; four are a start. No training: it takes "
            "milliseconds and runs again by itself when there are new answers.",
            inputs=[
                person_input(),
                encoder_input(),
                ppd_input(),
                io.Int.Input(
                    "answers",
                    optional=True,
                    default=MOST_PAIRS,
                    min=1,
                    max=_MOST_ANSWERS,
                    tooltip="How many of the newest answers count, 1 to 256. Only those that prefer one of two images.",
                ),
                without_answers_input("the user", "nobody, which leaves the model as it is"),
            ],
            outputs=[
                User.Output(display_name="user", tooltip="For Apply User, Blend Users and Save User."),
                io.Int.Output(display_name="answers", tooltip="How many answers it was made from."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, person: str | None = None, **_: Any) -> tuple[tuple[str, int], ...]:
        return answers_mark(person)

    @classmethod
    def execute(
        cls,
        person: str,
        encoder: ImageTextEncoder,
        ppd: PPD,
        answers: int = MOST_PAIRS,
        without_answers: str = STOP,
    ) -> io.NodeOutput:
        by_sight = getattr(ppd.encoder, "kind", "") not in ("vlm", "learned")  # else by profiles, or by name
        if ppd.image_encoder and by_sight:  # before any picture is encoded
            encoder.require(ppd.image_encoder, f"the PPD {ppd.name!r}", ppd.image_encoder_name)
        store = open_store()
        if by_sight and not isinstance(
            ppd.encoder, PictureEncoder
        ):  # which has no use for the vectors that the store keeps
            newest = [c for c in reversed(store.comparisons(person)) if c.chosen and c.rejected][:answers]
            encode_new_images(store, encoder, newest)
        try:
            with torch.inference_mode(False):
                user = encode_user(store, encoder, person, ppd, answers)
        except NotEnoughAnswersError:
            if without_answers == STOP:
                raise
            return io.NodeOutput(_nobody(ppd, encoder, person), 0) if without_answers == NONE else blocked(2)
        return io.NodeOutput(user, user.pairs)


class PalateBlendUsers(io.ComfyNode):
    """Join users, each with a weight."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateBlendUsers",
            display_name="Blend Users",
            category=CATEGORY,
            search_aliases=["mix users", "merge user embeddings", "interpolate rewards", "ppd blend"],
            description="Join up to four users of one PPD, each with a weight, negative ones too: two people, or "
            "several rewards. What comes out is a user like any other.",
            inputs=weighted_inputs(
                User,
                "user",
                "A user from Encode User, Load User or another Blend Users. All made by one PPD.",
                "How much this user counts, -10 to 10. Weights that add up to 1 stay between the users; negative leads "
                "away from one; 0 leaves it out.",
                defaults=(0.5, 0.0),
            ),
            outputs=[User.Output(display_name="user", tooltip="For Apply User and Save User.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        with torch.inference_mode(False):
            users, weights = weighted(given, "user", 0.0)
            return io.NodeOutput(blend_users([the_only(user, "blend users") for user in users], weights))


class PalateSaveUser(io.ComfyNode):
    """Save a user as a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateSaveUser",
            display_name="Save User",
            category=CATEGORY,
            search_aliases=["export user", "save user embedding"],
            description="Save a user as a file of some kilobytes that others can load: numbers only, no images and no "
            "prompts. It works with the PPD weights that made it.",
            is_output_node=True,
            inputs=[user_input(), USER_FILES.name_input("me")],
            outputs=[
                User.Output(display_name="user", tooltip="The same user, to go on with."),
                USER_FILES.file_output(),
            ],
        )

    @classmethod
    def execute(cls, user: UserEmbedding | tuple[UserEmbedding, ...], name: str) -> io.NodeOutput:
        user = the_only(user, "save a user")
        path = save_user(user, USER_FILES.path_to_save(name))
        return io.NodeOutput(user, path.name, ui={"text": [f"Saved as {path.name}"]})


class PalateLoadUser(io.ComfyNode):
    """Load a user from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateLoadUser",
            display_name="Load User",
            category=CATEGORY,
            search_aliases=["import user", "load user embedding"],
            description="Load a user that was saved here or by somebody else. With a PPD connected, a user of other "
            "weights is refused at once.",
            inputs=[
                USER_FILES.file_input(),
                Ppd.Input("ppd", optional=True, tooltip="The PPD it will be used with; checked when connected."),
            ],
            outputs=[User.Output(display_name="user", tooltip="For Apply User and Blend Users.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> tuple[int, int]:
        return USER_FILES.mark(file)

    @classmethod
    def execute(cls, file: str, ppd: PPD | None = None) -> io.NodeOutput:
        with torch.inference_mode(False):
            return io.NodeOutput(load_user(USER_FILES.path(file), ppd))


def _nobody(ppd: PPD, encoder: ImageTextEncoder, person: str) -> UserEmbedding:
    """A user that changes nothing."""
    with torch.inference_mode(False):
        tokens = torch.zeros(max(1, getattr(ppd.encoder, "tokens", 1)), ppd.width)
        return UserEmbedding(
            tokens, ppd.identity, person=person, encoder=encoder.identity, encoder_name=encoder.name, base=ppd.base
        )
