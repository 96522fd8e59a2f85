"""The node that puts users in a row, one for each picture of a batch."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..adapters.errors import PPDError
from ..adapters.ppd.user import User as UserEmbedding
from .sockets import CATEGORY, User, schema

_MOST = 4  # and more by batches of batches


class PalateBatchUsers(io.ComfyNode):
    """Put users in a row, one for each picture of a batch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PalateBatchUsers",
            display_name="Batch Users",
            category=CATEGORY,
            search_aliases=["several users", "user list", "ppd batch", "one image per person"],
            description="Put users in a row, for Apply User: then the first picture of a batch is for the first of "
            "them, the second for the second, and from the first again where there are more pictures. One run draws "
            "for all of them.",
            inputs=[
                User.Input(
                    f"user_{number}",
                    optional=number > 2,
                    tooltip="A user, or a batch from another Batch Users for more than four. All made by one PPD.",
                )
                for number in range(1, _MOST + 1)
            ],
            outputs=[
                User.Output(display_name="users", tooltip="For Apply User, or another Batch Users."),
                io.Int.Output(display_name="count", tooltip="How many: connect it to a batch_size."),
            ],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        found = [given.get(f"user_{number}") for number in range(1, _MOST + 1)]
        users: tuple[UserEmbedding, ...] = ()
        for each in found:
            users += each if isinstance(each, tuple) else () if each is None else (each,)
        return io.NodeOutput(users, len(users))


def the_only(user: UserEmbedding | tuple[UserEmbedding, ...], what: str) -> UserEmbedding:
    """A user where a batch makes no sense.

    Raises:
        PPDError: a batch; `what` can't be done with it.
    """
    if not isinstance(user, tuple):
        return user
    names = ", ".join(one.person or "somebody" for one in user[:4])
    raise PPDError(
        f"Cannot {what}: found a batch of {len(user)} people ({names}); expected one. Connect a user that goes into "
        "Batch Users, not what comes out of it."
    )
