"""What the tab "Taste" shows: words, pictures, strip, map, how good; the same for the routes behind it."""

import re
import time
from dataclasses import replace

import numpy as np
import panel_fakes as fakes
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from palate.adapters.comparisons import Comparison, Ranking
from palate.adapters.errors import NotEnoughAnswersError
from palate.adapters.places import palate_home
from palate.adapters.taste import LearningReport, Word, WordEffect, fit_taste, learned_report
from palate.ui.panel import taste_view
from palate.ui.panel.half_lives import HalfLives
from palate.ui.panel.head import head
from palate.ui.panel.people_view import Someone, people_rows
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.taste_learned import Learned, Looks, Place, Subject
from palate.ui.panel.taste_parts import Pictures, accuracy_of, map_of, strip_of
from palate.ui.panel.taste_routes import taste_routes
from palate.ui.panel.taste_thumbs import Thumbs

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
HERE = Pictures("small/".__add__, "large/".__add__)


@pytest.fixture
def looks(studio):
    return Looks(studio)


def report(**known):
    return replace(LearningReport("me", 20, 10, 7.0, 0.7, (0.6, 0.8), 0.6, 0.7), **known)


def test_the_learned_page_is_worked_out_again_only_after_a_new_answer(studio, looks):
    fakes.answer_some(studio.store)
    first = looks.of("me")
    assert looks.of("me") is first
    studio.store.undo("me")
    assert looks.of("me").answers == first.answers - 1


def test_nothing_answered_is_said_in_words(studio, looks):
    with pytest.raises(NotEnoughAnswersError, match="Compare"):
        looks.of("nobody")


def test_what_was_learned_puts_red_first_for_somebody_who_likes_red(studio, looks):
    fakes.answer_some(studio.store, number=40)
    learned = looks.of("me")

    def red(ids):
        return np.mean([np.asarray(studio.store.image(one))[..., 0].mean() for one in ids])

    assert red(learned.best) > red(learned.worst) + 50
    assert len(learned.best) == len(learned.worst) == 8
    assert studio.reports.of("me").accuracy > 0.6


def test_no_picture_is_both_best_and_worst(studio, looks):
    fakes.answer_some(studio.store, number=1)
    learned = looks.of("me")
    assert (len(learned.best), len(learned.worst)) == (1, 1)
    assert learned.best != learned.worst


def test_only_both_bad_is_not_enough_and_no_crash(studio, looks):
    fakes.answer_some(studio.store, number=1)
    comparison = studio.store.undo("me")
    studio.store.add(type(comparison)("me", comparison.left, comparison.right, "both_bad"))
    with pytest.raises(NotEnoughAnswersError):
        looks.of("me")


def test_the_taste_page_shows_the_accuracy_with_its_interval(studio):
    fakes.answer_some(studio.store, number=20)
    report = studio.reports.of("me")
    html = accuracy_of(report)
    assert f'data-accuracy="{report.accuracy:.3f}"' in html
    assert "with 95\u00a0% confidence" in html


def test_who_likes_red_is_told_so_in_words(studio, looks):
    fakes.answer_some(studio.store, number=60)
    learned = looks.of("me")
    assert learned.likes[0].word.text in ("red", "yellow")
    assert learned.dislikes[0].word.text in ("cyan", "blue", "green")
    assert learned.likes[0].sure and all(one.likely for one in (*learned.likes, *learned.dislikes))


def test_an_encoder_without_text_has_no_words(studio, looks, monkeypatch):
    monkeypatch.setattr(type(studio.encoder()), "has_text", False)
    fakes.answer_some(studio.store)
    learned = looks.of("me")
    assert (learned.likes, learned.dislikes) == (None, None)
    assert "knows no words" in taste_view.taste_shown(learned)


def test_pairs_chosen_for_what_they_teach_are_not_tested_on(studio):
    fakes.answer_some(studio.store, number=10)
    for one in studio.store.comparisons("me"):
        studio.store.add(replace(one, person="Eve", id=None, source="panel"))
    report = studio.reports.of("Eve")
    assert report.predicted == 0
    assert "Too early" in accuracy_of(report)


def test_lost_and_damaged_pictures_spoil_nothing_else(studio, looks):
    fakes.answer_some(studio.store, number=6)
    first, second = studio.store.comparisons("me")[:2]
    studio.store.image_path(first.left).unlink()
    studio.store.image_path(second.right).write_bytes(b"junk")
    learned = looks.of("me")
    assert studio.taste("me").answers == 4
    assert not {first.left, second.right} & {*learned.best, *learned.worst}


def test_a_single_answer_has_no_accuracy_yet(studio):
    fakes.answer_some(studio.store, number=1)
    assert "Too early" in accuracy_of(studio.reports.of("me"))


def test_no_text_becomes_markup():
    said = WordEffect(Word(HOSTILE, "colour", HOSTILE), 1.0, 0.1)
    learned = Learned(HOSTILE, 1, HOSTILE, 2, (HOSTILE,), (), (said,), (said,), (HOSTILE, "b"), (Place(HOSTILE, 0, 1),))
    learned = replace(learned, prompts={HOSTILE: HOSTILE})
    for html in (
        taste_view.nothing_yet(HOSTILE, HOSTILE),
        taste_view.taste_shown(learned, [Subject(HOSTILE, 3)]),
        accuracy_of(report(advice=HOSTILE)),
        taste_view.answer_row(Comparison("me", "a", "b", "left", HOSTILE, id=1)),
        people_rows([Someone(HOSTILE, 1, HOSTILE, 0.0)], HOSTILE),
        head(HOSTILE, True),
    ):
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


def test_a_prompt_is_looked_at_by_itself(studio, looks):
    fakes.answer_some(studio.store, number=12)
    for one in studio.store.comparisons("me")[:3]:
        studio.store.add(replace(one, id=None, prompt="a house"))
    assert looks.subjects("me") == (Subject("a house", 6),)
    learned = looks.of("me", "a house")
    assert (learned.pictures, len(learned.best), len(learned.map)) == (6, 3, 6)
    assert learned.strip[-1] == learned.best[0] and learned.strip[0] == learned.worst[0]
    assert set(learned.prompts.values()) == {"a house"}
    assert looks.of("me", "a cat").pictures == 0
    assert "No picture of “a cat” yet" in taste_view.taste_shown(looks.of("me", "a cat"))


def test_painted_pictures_join_the_strip_at_once(studio):
    painted = []
    looks = Looks(studio, lambda prompt: painted if prompt else [])
    fakes.answer_some(studio.store)
    assert looks.of("me", "a cat").strip == ()
    painted += [studio.store.add_image(fakes.picture(seed)) for seed in range(5)]
    assert looks.kept("me", "a cat") is None
    assert set(looks.of("me", "a cat").strip) == set(painted)
    assert looks.kept("me", "a cat") is not None


def test_the_map_goes_from_not_me_to_me(studio, looks):
    fakes.answer_some(studio.store, number=40)
    learned = looks.of("me")
    places = {place.image: place for place in learned.map}
    assert places[learned.best[0]].x == 1 and places[learned.worst[0]].x == 0
    assert {min(place.y for place in learned.map), max(place.y for place in learned.map)} == {0, 1}


def test_many_pictures_make_a_map_of_some(studio, looks, monkeypatch):
    monkeypatch.setattr("palate.ui.panel.taste_learned.MAPPED", 10)
    fakes.answer_some(studio.store, number=30)
    assert len(looks.of("me").map) == 10


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({"stranger_accuracy": 0.55}, "the average of others</span>"),
        ({"left_share": 0.7, "left_interval": (0.6, 0.8)}, "The left picture was preferred in 70\u00a0%"),
        ({"left_share": 0.3, "left_interval": (0.2, 0.4)}, "The right picture was preferred in 70\u00a0%"),
        (
            {"ceiling": 0.87, "ceiling_interval": (0.7, 0.95), "repeats": 12},
            "about 87\u00a0% (70\u00a0% to 95\u00a0%) is possible: 12 pairs were asked twice",
        ),
        ({"advice": "Good enough."}, "Good enough."),
        ({"interval": (0.45, 0.8)}, "not yet surely better than a coin"),
    ],
)
def test_how_good_says_what_is_known_and_nothing_else(known, text):
    assert text in accuracy_of(report(**known))
    assert text not in accuracy_of(report())


def test_no_share_of_two_answers_in_large_letters():
    few = report(verdict="few", predicted=2, correct=0.0, accuracy=0.0, interval=(0.0, 0.66), advice="give 7 more")
    assert "0\u00a0%" not in accuracy_of(few)
    assert "Too early to say" in accuracy_of(few) and "give 7 more" in accuracy_of(few)


def test_a_side_that_may_be_chance_is_not_mentioned():
    assert "preferred in" not in accuracy_of(report(left_share=0.6, left_interval=(0.4, 0.8)))


def test_pictures_come_small_with_the_original_behind(studio):
    html = strip_of(("a", "b"), replace(HERE, prompts={"a": "a <b>"}))
    assert 'src="small/a"' in html and 'data-large="large/a"' in html and 'data-said="a &lt;b&gt;"' in html
    assert strip_of(("a",), HERE) == "" and map_of((), HERE) == ""
    big = studio.store.add_image(np.zeros((700, 400, 3), np.float32))
    thumbs = Thumbs(studio.store)
    assert thumbs.of(big)[:2] == b"\xff\xd8" and thumbs.of(big) is thumbs.of(big)


@pytest.mark.parametrize(("much", "said"), [(True, True), (False, False), (None, False)])
def test_the_list_says_which_answers_were_much_better(much, said):
    row = taste_view.answer_row(Comparison("me", "a", "b", "left", "a star", id=1, much=much))
    assert ("Much better" in row) == said


@pytest.mark.parametrize(
    ("tiers", "outcome", "text", "numbers"),
    [
        ((("c",), ("a", "b", "d")), "ranked", "Best of 4", 0),
        ((("d",), ("a",), ("c",), ("b",)), "ranked", "In this order", 4),
        ((("a", "b"), ("c", "d")), "ranked", "In this order", 4),
        ((("a", "b", "c", "d"),), "ranked", "All alike", 0),
        ((), "both_bad", "None is good", 0),
        ((), "skip", "Skipped", 0),
    ],
)
def test_a_ranking_is_one_row_with_its_pictures_the_best_first(tiers, outcome, text, numbers):
    ranking = Ranking("me", ("a", "b", "c", "d"), tiers, outcome, prompt=HOSTILE, id=7)
    first = replace(ranking.implied()[0], id=3)
    html = taste_view.answer_rows([first], {7: ranking})
    order = [image for tier in tiers or (ranking.images,) for image in tier]
    assert re.findall(r"thumbs/(\w)", html) == order
    assert text in html and html.count("<b>") == numbers and html.count("data-answer-id") == 1
    assert "data-change" not in html and "data-delete" in html and "<img src=x" not in html
    assert "much better" not in html
    if ranking.best is not None:
        assert f"{text}, much better" in taste_view.ranking_row(first, replace(ranking, much=True))


def test_a_half_life_makes_old_answers_count_less_and_is_kept(studio, looks):
    fakes.answer_some(studio.store, number=20)
    for day, one in enumerate(studio.store.comparisons("me")):
        studio.store.add(Comparison("kim", one.left, one.right, one.outcome, created=1e9 + 86400.0 * day))
    plain, learned = studio.taste("kim").weights, looks.of("kim")
    studio.half_lives.keep("kim", 3)
    expected = fit_taste(studio.store, studio.encoder(), "kim", half_life=3.0).weights
    assert torch.equal(studio.taste("kim").weights, expected) and not torch.equal(expected, plain)
    assert looks.of("kim") is not learned
    tested = learned_report(studio.store, studio.encoder(), "kim", half_life=3.0)
    assert studio.reports.of("kim").log_loss == tested.log_loss
    folder = palate_home() / "panel" / "half_life"
    assert HalfLives(folder).of("kim") == 3.0 and HalfLives(folder).of("me") is None
    (folder / "me.json").write_text("[-1", encoding="utf-8")  # whatever is there
    assert HalfLives(folder).of("me") is None
    studio.half_lives.keep("kim", None)
    assert torch.equal(studio.taste("kim").weights, plain)


def test_a_half_life_is_set_in_the_tab(studio):
    fakes.answer_some(studio.store, number=8)
    app = FastAPI()
    app.include_router(taste_routes(Rooms(studio)))
    client = TestClient(app)

    def ask(path, **body):
        return client.post(f"/palate/api/{path}", json={"tab": "one", "person": "me", **body}).json()

    assert 'value=""' in settled(ask, "taste")["html"]
    for days in (-1, 1e9, "soon", True):
        assert "expected days above 0" in ask("taste/half-life", days=days)["error"]
    assert ask("taste/half-life", days=30) == {"half_life": 30.0}
    assert 'value="30"' in settled(ask, "taste")["html"]
    assert ask("taste/half-life", days="") == {"half_life": None}


def settled(ask, path):
    """What is told once the work for it is done."""
    until = time.monotonic() + 30
    while "job" in (told := ask(path)) and time.monotonic() < until:
        time.sleep(0.02)
    return told
