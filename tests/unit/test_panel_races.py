"""Requests that run at once, in the order that hurts most: nobody's answer is lost, nobody's wish becomes another's."""

import threading
import time

import panel_fakes as fakes
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from palate.ui.panel import jobs as jobs_module
from palate.ui.panel import session as session_module
from palate.ui.panel.compare_routes import compare_routes
from palate.ui.panel.jobs import Jobs
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.session import Session
from palate.ui.panel.sources import FolderSource
from palate.ui.panel.taste_routes import taste_routes
from palate.ui.panel.wanted import Wanted

LONG = 30.0  # s, only ever waited for when something is broken


@pytest.fixture
def ask(studio):
    """Ask as the tab "one" of Ada, unless the request says otherwise."""
    app = FastAPI()
    app.include_router(compare_routes(studio))
    app.include_router(taste_routes(Rooms(studio)))
    with TestClient(app) as client:
        yield lambda path, **body: client.post(
            f"/palate/api/{path}", json={"tab": "one", "person": "Ada", **body}
        ).json()


def overtaken(monkeypatch, method, ask, path):
    """Have Bob's request come between the moment when a session is Ada's and what is done there for her."""
    real = getattr(Session, method)

    def late(self, *given):
        monkeypatch.setattr(Session, method, real)
        ask(path, person="Bob")
        return real(self, *given)

    monkeypatch.setattr(Session, method, late)


def shown(ask, **body):
    """Return the first pair that the panel hands out."""
    for _ in range(100):
        pairs = ask("compare", waiting=True, **body)["pairs"]
        if pairs:
            return pairs[0]
    pytest.fail("no pair came")


def test_an_undo_takes_back_only_an_answer_of_who_asked_for_it(ask, studio, monkeypatch):
    for person in ("Ada", "Bob"):
        ask("compare", person=person, answers=[{"ticket": shown(ask, person=person)["ticket"], "outcome": "left"}])
    overtaken(monkeypatch, "undo", ask, "hello")
    assert ask("undo")["undone"]
    assert (studio.store.count("Ada"), studio.store.count("Bob")) == (0, 1)


def test_a_page_is_never_handed_the_pairs_of_somebody_else(ask, monkeypatch):
    theirs = shown(ask, person="Bob")
    shown(ask)
    overtaken(monkeypatch, "pairs", ask, "compare")
    assert ask("compare")["pairs"] == []
    assert shown(ask, person="Bob") == theirs


def test_what_one_wants_to_compare_never_becomes_the_wish_of_the_next(ask, studio, monkeypatch):
    shown(ask)
    overtaken(monkeypatch, "use", ask, "hello")
    ask("wanted", prompt="a green house", way="best")
    assert studio.wishes.of("Ada") == Wanted("a green house", way="best")
    assert studio.wishes.of("Bob") is None
    assert ask("hello", person="Bob")["person"] == "Bob"
    assert studio.session("tab:one").wished() == Wanted()


def test_a_large_folder_is_not_for_whoever_chooses_by_the_time_it_was_looked_through(studio, tmp_path, monkeypatch):
    for number in range(2):
        fakes.picture(number).save(tmp_path / f"{number}.png")
    looking, go_on = threading.Event(), threading.Event()

    def slow(*given):
        looking.set()
        assert go_on.wait(LONG)
        return FolderSource(*given)

    session = studio.session("tab", "Ada")
    studio.session("tab", "Bob")
    theirs = session.show(LONG)
    session.use_person("Ada")
    monkeypatch.setattr(session_module, "FolderSource", slow)
    using = threading.Thread(target=session.use, args=(Wanted(folder=str(tmp_path)),))
    using.start()
    assert looking.wait(LONG)
    session.use_person("Bob")
    go_on.set()
    using.join(LONG)
    assert session.wished() == Wanted()
    assert session.show(LONG).ticket == theirs.ticket
    assert studio.wishes.of("Ada").folder == str(tmp_path)
    assert studio.wishes.of("Bob") is None


def test_a_look_at_a_taste_leaves_the_pairs_of_who_answers_in_the_tab(ask, studio):
    fakes.answer_some(studio.store, person="Ada")
    first = shown(ask, person="Bob")
    for _ in range(3000):  # a minute; a busy machine takes a few rounds
        held = ask("compare", person="Bob", waiting=True)["pairs"]
        if len(held) == 3:
            break
        time.sleep(0.02)
    assert held[0] == first
    for path in ("answers", "second-look", "taste/accuracy"):  # sent before somebody else was chosen, and late
        ask(path)
    answers = [{"ticket": one["ticket"], "outcome": "left"} for one in held]
    ask("compare", person="Bob", answers=answers)
    assert studio.store.count("Bob") == 3


def test_a_closing_panel_ends_the_work_for_open_pages(studio):
    session = studio.session("tab:one", "Ada")
    studio.arrive("page", "tab:one")
    session.show(LONG)
    studio.close()
    assert session.closed


def test_work_that_goes_on_can_be_asked_about_however_much_came_after_it(monkeypatch):
    monkeypatch.setattr(jobs_module, "KEPT", 3)
    jobs, go_on = Jobs(threading.Event()), threading.Event()
    long = jobs.start("long", lambda job: go_on.wait(LONG))
    short = [jobs.start(f"short {number}", lambda job: None) for number in range(6)]
    assert all(job.wait(LONG) for job in short)
    jobs.start("last", lambda job: None)
    assert jobs.get(long.id) is long
    assert jobs.get(short[0].id) is None
    go_on.set()
