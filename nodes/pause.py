"""Holding up what hangs on a node until a person has chosen; the rest of the graph goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

import comfy.model_management
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..adapters.comparisons import PreferenceStore
from ..adapters.errors import ComparisonError
from .asking import Question, decide
from .pairs import told
from .questions import Choice
from .waiting import WAITS, Wait, until

__all__ = ["ON_TIMEOUT", "SKIP", "pause"]

ON_TIMEOUT = SKIP, TIE, STOP = "skip", "tie", "stop"


async def pause(
    store: PreferenceStore, person: str, questions: Sequence[Question], timeout: float, on_timeout: str
) -> None:
    """Return when all questions are decided, or when the time is over and the policy lets the run go on.

    Args:
        store: Where the questions are.
        person: Who is asked.
        questions: What is asked.
        timeout: In seconds; 0 waits for as long as it takes.
        on_timeout: One of `ON_TIMEOUT`.

    Raises:
        InterruptProcessingException: the run was cancelled.
        ComparisonError: the time is over and the policy is to stop.
    """
    if not _undecided(store, questions):
        return
    if await _answered(store, _wait(person, questions, timeout), questions) or on_timeout == SKIP:
        return
    if on_timeout == STOP:
        raise ComparisonError(
            f"Cannot go on: nobody chose within {timeout:g} s; expected a choice. Queue again to be asked again, or "
            "set on_timeout to skip."
        )
    for question in _undecided(store, questions):
        decide(store, question, Choice.tie(len(question.places)), where_open=True)  # a click at the last moment counts


async def _answered(store: PreferenceStore, wait: Wait, questions: Sequence[Question]) -> bool:
    """Wait, and tell all browser tabs when it begins and ends; whether everything was decided in time."""
    server = PromptServer.instance
    with WAITS.during(wait):
        shown = [told(offer, answer, [wait]) for offer, answer in store.asked.answers(wait.offers)]
        server.send_sync("palate.waiting", wait.told() | {"pairs": shown})
        try:
            return await until(
                lambda: not _undecided(store, questions),
                wait.deadline,
                comfy.model_management.throw_exception_if_processing_interrupted,
            )
        finally:
            server.send_sync("palate.waited", {"offers": list(wait.offers), "person": wait.person})


def _undecided(store: PreferenceStore, questions: Sequence[Question]) -> list[Question]:
    # One that was deleted meanwhile will never be answered: nobody waits for it.
    found = store.asked.answers([question.offer for question in questions])
    left = {offer.id for offer, answer in found if answer is None}
    return [question for question in questions if question.offer in left]


def _wait(person: str, questions: Sequence[Question], timeout: float) -> Wait:
    """The node that is being executed, as one that waits."""
    context = get_executing_context()
    return Wait(
        node="" if context is None else context.node_id,
        prompt_id="" if context is None else context.prompt_id,
        index=0 if context is None else context.list_index or 0,
        client=PromptServer.instance.client_id,
        person=person,
        offers=tuple(question.offer for question in questions),
        deadline=time.time() + timeout if timeout > 0 else None,
    )
