"""What nodes share that learn from a person's answers: when to run again, and what to do without answers."""

from __future__ import annotations

from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from .sockets import open_store

__all__ = ["NONE", "STOP", "WAIT", "answers_mark", "blocked", "without_answers_input"]

STOP, WAIT, NONE = "stop and say so", "skip what follows", "start with none"


def answers_mark(person: str | None) -> tuple[tuple[str, int], ...]:
    """For `fingerprint_inputs`: another one after each answer of a person; None for everybody's.

    A linked name isn't known there: then everybody's answers count. ComfyUI asks before a run, so a choice that is made
    during it is learned from in this run, and makes the next one learn once more.
    """
    store = open_store()
    return tuple((name, store.revision(name)) for name in ([person] if person else store.people()))


def without_answers_input(needed: str, start: str) -> io.Combo.Input:
    """The input that says what happens without answers: what the nodes behind need, and what they can start with."""
    return io.Combo.Input(
        "without_answers",
        optional=True,
        options=[STOP, WAIT, NONE],
        default=STOP,
        tooltip="What happens while this person has no answers yet: stop with a message; leave out the nodes that need "
        f"{needed}; or start with {start}.",
    )


def blocked(outputs: int) -> io.NodeOutput:
    """Nothing, which leaves out the nodes behind."""
    return io.NodeOutput(*[ExecutionBlocker(None)] * outputs)
