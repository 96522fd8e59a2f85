"""What the page of Compare, Taste and People asks the panel, over HTTP; no browser, no real model."""

import re
import threading
import time

import panel_fakes as fakes
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from palate.adapters.comparisons import Ranking
from palate.adapters.errors import StoreError
from palate.ui.panel.compare_routes import compare_routes
from palate.ui.panel.people_routes import people_routes
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.taste_routes import PAGE, taste_routes

WAIT = "palate.ui.panel.taste_routes.WAIT"
LONG = 30.0  # s, only ever waited for when something is broken


@pytest.fixture
def rooms(studio):
    return Rooms(studio)


@pytest.fixture
def ask(studio, rooms, monkeypatch):
    """Ask as the tab "one" of Ada, unless the request says otherwise; Taste waits for its work, however busy it is."""
    monkeypatch.setattr(WAIT, LONG)
    app = FastAPI()
    for routes in (compare_routes, people_routes):
        app.include_router(routes(studio))
    app.include_router(taste_routes(rooms))
    with TestClient(app) as client:

        def asked(path, **body):
            answer = client.post(f"/palate/api/{path}", json={"tab": "one", "person": "Ada", **body})
            assert answer.status_code == 200
            return answer.json()

        yield asked


def pairs(ask, **body):
    """Return the pairs that the panel hands out, as many as it ever does."""
    until, found = time.monotonic() + LONG, []
    while len(found) < 3 and time.monotonic() < until:
        found = ask("compare", waiting=True, **body)["pairs"]
    return found


def test_answers_are_acknowledged_one_by_one_and_stored_once(ask, studio):
    given = [{"ticket": one["ticket"], "outcome": "left", "seconds": 0.5} for one in pairs(ask)]
    assert ask("compare", answers=given)["done"] == [one["ticket"] for one in given]
    told = ask("compare", answers=given)  # the same request again, as after a lost connection
    assert (told["done"], told["answers"]) == ([one["ticket"] for one in given], 3)
    assert [one.seconds for one in studio.store.comparisons("Ada")] == [0.5] * 3


def test_what_could_not_be_stored_is_not_acknowledged(ask, studio, monkeypatch):
    ticket = pairs(ask)[0]["ticket"]

    def full(*anything):
        raise OSError("the disk is full")

    monkeypatch.setattr(studio.store, "answer", full)
    told = ask("compare", answers=[{"ticket": ticket, "outcome": "left"}])
    assert told["done"] == []
    assert "the disk is full" in told["problem"]
    assert ticket in [one["ticket"] for one in told["pairs"]]


@pytest.mark.parametrize("seconds", [None, True, "long", -1, 1e99])
def test_any_time_is_taken(ask, studio, seconds):
    ticket = pairs(ask)[0]["ticket"]
    assert ask("compare", answers=[{"ticket": ticket, "outcome": "tie", "seconds": seconds}])["done"] == [ticket]
    assert studio.store.comparisons("Ada")[0].seconds in (None, 0.0, 3600.0)


def test_undo_brings_the_pair_back(ask):
    first = pairs(ask)[0]
    ask("compare", answers=[{"ticket": first["ticket"], "outcome": "left"}])
    told = ask("undo")
    assert (told["undone"], told["pairs"][0], told["answers"]) == (True, first, 0)
    assert ask("undo")["undone"] is False


def test_a_request_without_a_tab_or_a_name_that_nobody_has_is_an_error_in_words(ask):
    assert "which tab" in ask("compare", tab="")["error"]
    assert "which tab" in ask("compare", tab="x" * 1000)["error"]
    assert "person is" in ask("hello", person="a\nb")["error"]


def test_a_folder_that_is_none_is_an_error_and_the_pairs_stay(ask):
    before = pairs(ask)
    assert "is no folder" in ask("wanted", folder="/no/such/folder")["error"]
    assert pairs(ask) == before


@pytest.mark.parametrize("prompt", ["word " * 2000, "\U0001f431 ((a:1.3)) [b|c] <lora:x:1>", "a\0b"])
def test_any_prompt_is_taken(ask, prompt):
    ask("wanted", prompt=prompt)
    assert pairs(ask)[0]["prompt"] == prompt.strip()


def test_every_answer_is_listed_newest_first_page_by_page(ask, studio):
    fakes.answer_some(studio.store, "Ada", PAGE + 5)
    first = ask("answers")
    second = ask("answers", before=first["more"])
    ids = [one.id for one in studio.store.comparisons("Ada")][::-1]
    assert [f'data-answer-id="{one}"' in first["rows"] for one in ids] == [True] * PAGE + [False] * 5
    assert (second["rows"].count("<li "), second["more"]) == (5, None)


def test_an_answer_is_changed_deleted_and_brought_back(ask, studio):
    fakes.answer_some(studio.store, "Ada", 3)
    number, revision = studio.store.comparisons("Ada")[1].id, studio.store.revision("Ada")
    ask("answers/change", id=number, outcome="both_bad")
    assert studio.store.comparisons("Ada")[1].outcome == "both_bad"
    assert studio.store.revision("Ada") > revision
    before = studio.store.comparisons("Ada")
    ask("answers/delete", id=number)
    assert len(studio.store.comparisons("Ada")) == 2
    ask("answers/restore")
    assert studio.store.comparisons("Ada") == before
    assert "nothing was deleted" in ask("answers/restore")["error"]


def test_nobody_changes_the_answers_of_somebody_else(ask, studio):
    fakes.answer_some(studio.store, "Ben", 1)
    number = studio.store.comparisons("Ben")[0].id
    assert "none of this number" in ask("answers/change", id=number, outcome="tie")["error"]
    assert "none of this number" in ask("answers/delete", id=number)["error"]


def test_the_taste_page_says_what_to_do_before_there_are_answers(ask, studio):
    assert "Nothing learned yet" in ask("taste")["html"]
    fakes.answer_some(studio.store, "Ada", 12)
    assert "What Ada likes" in ask("taste")["html"]
    fakes.answer_some(studio.store, "me", 12)
    assert "What you like" in ask("taste", person="me")["html"]


def test_people_are_listed_renamed_and_deleted_only_by_their_typed_name(ask, studio):
    fakes.answer_some(studio.store, "Ben", 2)
    rows = ask("people")["rows"]
    assert rows.index("Ada") < rows.index("Ben")
    assert "has answers of their own" in ask("people/rename", before="Ada", name="Ben")["error"]
    ask("people/rename", before="Ben", name=" Cy ")
    assert studio.store.people() == ["Cy"]
    assert "not typed" in ask("people/forget", name="Cy", typed="cy")["error"]
    assert ask("people/forget", name="Cy", typed="Cy") == {"answers": 2}
    assert studio.store.people() == []


def test_a_half_life_goes_with_its_person(ask, studio):
    for person in ("Ada", "Ben"):
        fakes.answer_some(studio.store, person=person, number=2)
    studio.half_lives.keep("Ben", 9)
    assert "error" in ask("people/rename", before="Ben", name="Ada")
    assert (studio.half_lives.of("Ada"), studio.half_lives.of("Ben")) == (None, 9.0)
    ask("people/rename", before="Ben", name="Cy")
    assert (studio.half_lives.of("Ben"), studio.half_lives.of("Cy")) == (None, 9.0)
    ask("people/rename", before="Cy", name="Cy")
    ask("people/rename", before="Ada", name="Ben")
    assert (studio.half_lives.of("Ben"), studio.half_lives.of("Cy")) == (None, 9.0)
    ask("people/forget", name="Cy", typed="Cy")
    assert studio.half_lives.of("Cy") is None


def test_two_who_like_red_are_alike(ask, studio):
    assert ask("people/alike") == {"html": ""}
    fakes.answer_some(studio.store, "Ada", 30, seed=1)
    fakes.answer_some(studio.store, "Ben <b>", 30, seed=2)
    fakes.answer_some(studio.store, "Too few", 3, seed=3)
    people, shares = studio.alike()
    assert sorted(people) == ["Ada", "Ben <b>"]
    assert shares[0][1] > 0.7
    html = ask("people/alike")["html"]
    assert "Ben &lt;b&gt;" in html
    assert "Too few" not in html


def test_a_look_that_takes_long_is_followed_and_can_be_stopped(ask, rooms, monkeypatch):
    fakes.answer_some(rooms.studio.store, person="Ada")
    gate, begun = threading.Event(), threading.Event()
    encode = rooms.looks.encode

    def slow(person, subject, tell):
        while not gate.wait(0.01):
            tell(1, 4)
            begun.set()
        encode(person, subject, tell)

    monkeypatch.setattr(rooms.looks, "encode", slow)
    monkeypatch.setattr(WAIT, 0.1)
    job = rooms.jobs.get(ask("taste")["job"])
    assert begun.wait(LONG)
    told = job.state()
    assert (told["state"], told["text"], told["share"]) == ("working", "Looking at the pictures… 1 of 4", 0.25)
    job.stop()
    assert job.wait(LONG) and job.state()["state"] == "stopped"
    gate.set()
    monkeypatch.setattr(WAIT, LONG)
    assert "Likes" in ask("taste")["html"]


def test_pictures_are_painted_for_a_prompt_and_lie_on_its_strip(ask, rooms):
    fakes.answer_some(rooms.studio.store, person="Ada")
    assert "No picture of" in ask("taste", subject="a red star")["html"]
    job = rooms.jobs.get(ask("taste/paint", subject="a red star")["job"])
    assert job.wait(LONG) and job.state()["state"] == "done"
    assert ask("taste", subject="a red star")["html"].count('class="pl-picked"') == 8 + 4 + 4


def test_how_good_it_is_comes_with_its_curve(ask, rooms):
    fakes.answer_some(rooms.studio.store, person="Ada", number=20)
    told = ask("taste/accuracy")
    assert "of your choices foreseen" in told["html"] and len(told["curve"]) > 5
    assert told["curve"][-1][0] == 20


def test_a_page_is_made_and_given(ask, rooms):
    fakes.answer_some(rooms.studio.store, person="Ada")
    job = rooms.jobs.get(ask("taste/page", named=True)["job"])
    assert job.wait(LONG)
    assert job.state()["file"].startswith("Ada-")
    assert rooms.pages.path(job.state()["file"]).is_file()


def test_a_ranking_is_listed_deleted_and_brought_back_as_a_whole(ask, studio):
    images = tuple(studio.store.add_image(fakes.picture(seed)) for seed in range(4))
    studio.store.add_ranking(Ranking("Ada", images, (images[2:3], images[:2] + images[3:])))
    fakes.answer_some(studio.store, person="Ada", number=1)
    rows = ask("answers")["rows"]
    assert rows.count("data-answer-id") == 2 and rows.count("Best of 4") == 2  # once for those who listen
    number = int(re.findall(r'data-answer-id="(\d+)"', rows)[1])
    assert "expected an answer about two images" in ask("answers/change", id=number, outcome="tie")["error"]
    ask("answers/delete", id=number)
    assert (studio.store.count("Ada"), studio.store.rankings("Ada")) == (1, [])
    ask("answers/restore")
    assert (studio.store.count("Ada"), [one.images for one in studio.store.rankings("Ada")]) == (2, [images])


def test_who_waits_for_a_long_test_can_leave_and_find_it_done(ask, rooms, monkeypatch):
    fakes.answer_some(rooms.studio.store, person="Ada")
    gate, begun, real = threading.Event(), threading.Event(), rooms.studio.reports.of

    def slow(person):
        begun.set()
        assert gate.wait(LONG)
        return real(person)

    monkeypatch.setattr(rooms.studio.reports, "of", slow)
    monkeypatch.setattr(WAIT, 0.1)
    job = rooms.jobs.get(ask("taste/accuracy")["job"])
    assert begun.wait(LONG) and job.state()["text"] == "Testing the taste on every answer…"
    job.stop()
    assert job.wait(LONG) and job.state()["state"] == "stopped"
    gate.set()
    monkeypatch.setattr(WAIT, LONG)
    assert "foreseen" in ask("taste/accuracy")["html"]


def test_a_test_that_fails_is_told(ask, rooms, monkeypatch):
    fakes.answer_some(rooms.studio.store, person="Ada")

    def broken(person):
        raise StoreError("Cannot read the store.")

    monkeypatch.setattr(rooms.studio.reports, "of", broken)
    assert ask("taste/accuracy")["error"] == "Cannot read the store."


def test_the_average_of_others_is_known_without_their_looking_first(ask, rooms):
    fakes.answer_some(rooms.studio.store, person="Ada", number=20)
    fakes.answer_some(rooms.studio.store, person="Ben", number=12, seed=4)
    assert "the average of others" in ask("taste/accuracy")["html"]
