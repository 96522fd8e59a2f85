"""Questions about a batch, choices made beforehand, and what is sent on. No ComfyUI."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import node_modules
import pytest
import torch
from palate.adapters.comparisons import PreferenceStore
from palate.adapters.errors import ComparisonError

questions, waiting, asking = (node_modules.node_module(name) for name in ("questions", "waiting", "asking"))
Choice = questions.Choice


def pictures(*shades: float) -> list[torch.Tensor]:
    return [torch.full((8, 8, 3), shade) for shade in shades]


def test_a_batch_makes_pairs_or_one_question() -> None:
    assert questions.groups(5, "pairs") == [(0, 1), (2, 3)]
    assert questions.groups(3, "pick the best") == [(0, 1, 2)]
    assert questions.groups(2, "put in order") == [(0, 1)]
    assert len(questions.groups(16, "put in order")[0]) == 16
    for count, show, said in ((1, "pairs", "found 1 image"), (17, "pick the best", "expected at most 16")):
        with pytest.raises(ComparisonError, match=said):
            questions.groups(count, show)


@pytest.mark.parametrize(
    ("text", "size", "choice"),
    [
        ("", 2, None),
        (" Left ", 2, Choice("left")),
        ("2", 2, Choice("right")),
        ("1,2", 2, Choice("left")),
        ("tie", 2, Choice("tie")),
        ("tie", 3, Choice("ranked", ((0, 1, 2),))),
        ("both_bad", 4, Choice("both_bad")),
        ("3", 4, Choice("ranked", ((2,), (0, 1, 3)))),
        ("3, 1,2", 4, Choice("ranked", ((2,), (0,), (1,), (3,)))),
        ("3,1,2", 3, Choice("ranked", ((2,), (0,), (1,)))),
    ],
)
def test_a_choice_made_beforehand_is_read(text: str, size: int, choice: Any) -> None:
    assert questions.forced(text, size) == choice


@pytest.mark.parametrize(
    ("text", "size"), [("up", 2), ("0", 2), ("3", 2), ("1,1", 3), ("left", 3), ("1,", 3), ("-1", 3)]
)
def test_a_choice_that_makes_no_sense_is_named(text: str, size: int) -> None:
    with pytest.raises(ComparisonError, match=rf"Cannot take '{text}' as forced_choice for {size} images"):
        questions.forced(text, size)


def test_what_goes_on_after_a_choice() -> None:
    for choice, places in (
        (None, [4, 5]),
        (Choice("left"), [4]),
        (Choice("right"), [5]),
        (Choice("tie"), [4, 5]),
        (Choice("skip"), [4, 5]),
        (Choice("both_bad"), []),
    ):
        assert questions.going_on((4, 5), choice) == places
    assert questions.going_on((2, 3, 4), Choice("ranked", ((2,), (0, 1)))) == [4, 2, 3]


def test_the_same_pictures_are_one_question_whoever_asks_again(store: PreferenceStore) -> None:
    two, groups = pictures(0.1, 0.9), [(0, 1)]
    (first,) = asking.ask(store, "ann", "a star", two, groups, waiting=False)
    assert asking.ask(store, "ann", "a star", two, groups, waiting=True) == [first]
    asking.decide(store, first, Choice("right"))
    assert asking.ask(store, "ann", "a star", two, groups, waiting=True) == [first]
    for person, prompt, shown in (("bea", "a star", two), ("ann", "a ring", two), ("ann", "a star", two[::-1])):
        assert asking.ask(store, person, prompt, shown, groups, waiting=False) != [first]
    assert store.count("ann") == 1


def test_a_picture_that_is_there_twice_is_shown_once(store: PreferenceStore) -> None:
    (question,) = asking.ask(store, "ann", "", pictures(0.1, 0.5, 0.1, 0.9), [(0, 1, 2, 3)], waiting=False)
    assert question.places == (0, 1, 3) and len(store.find_offer(question.offer).images) == 3
    with pytest.raises(ComparisonError, match="the same picture"):
        asking.ask(store, "ann", "", pictures(0.1, 0.1), [(0, 1)], waiting=False)


def test_what_was_sent_on_is_stale_once_somebody_says_something_else(store: PreferenceStore) -> None:
    sent = asking.SentOn()
    asked = asking.ask(store, "ann", "", pictures(0.1, 0.2, 0.3), [(0, 1), (0, 1, 2)], waiting=True)
    asking.decide(store, asked[0], Choice("left"))
    assert sent.take(store, "ann", asked) == [Choice("left"), None]
    assert sent.changes(store, "ann") == sent.changes(store, None) == 0
    asking.decide(store, asked[1], Choice("ranked", ((2,), (0, 1))))
    assert sent.changes(store, "ann") == sent.changes(store, "ann") == sent.changes(store, None) == 1
    assert sent.changes(store, "bea") == 0
    assert sent.take(store, "ann", asked) == [Choice("left"), Choice("ranked", ((2,), (0, 1)))]
    store.delete(store.newest("ann", 2)[1].id)
    assert sent.changes(store, "ann") == 2


def test_a_click_at_the_last_moment_counts_and_not_the_tie_after_the_time(
    store: PreferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asking.ask(store, "ann", "", pictures(0.1, 0.2, 0.3, 0.4, 0.5), [(0, 1), (2, 3, 4)], waiting=True)
    find = store.find_offer

    def clicked(offer_id: str) -> Any:
        offer = find(offer_id)
        if offer.others:
            store.rank(offer_id, [[offer.images[2]], offer.images[:2]])
        else:
            store.answer(offer_id, "left")
        return offer

    monkeypatch.setattr(store, "find_offer", clicked)
    for question in asked:
        asking.decide(store, question, Choice.tie(len(question.places)), where_open=True)
    assert asking.SentOn().take(store, "ann", asked) == [Choice("left"), Choice("ranked", ((2,), (0, 1)))]
    monkeypatch.undo()
    (other,) = asking.ask(store, "ann", "", pictures(0.6, 0.7), [(0, 1)], waiting=True)
    asking.decide(store, other, Choice("tie"), where_open=True)
    assert asking.SentOn().take(store, "ann", [other]) == [Choice("tie")]


def test_waiting_ends_with_the_answer_with_the_time_or_with_cancel() -> None:
    looks = iter([False, False, True])
    assert asyncio.run(waiting.until(lambda: next(looks), None, lambda: None))
    assert not asyncio.run(waiting.until(lambda: False, time.time() - 1, lambda: None))

    def cancelled() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        asyncio.run(waiting.until(lambda: False, None, cancelled))


def test_who_waited_is_gone_however_it_ends() -> None:
    waits = waiting.Waits()
    one, two = (waiting.Wait(node, "run", 0, None, "ann", (node,)) for node in "12")
    with pytest.raises(InterruptedError), waits.during(one):
        with waits.during(two):
            assert waits.of("ann") == [one, two] and waits.of("bea") == []
        assert waits.of("ann") == [one]
        raise InterruptedError
    assert waits.of("ann") == []
