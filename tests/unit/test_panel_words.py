"""Words that are offered under Generate: what a person likes, where the prompt leaves it open, and somebody knows."""

import panel_fakes as fakes
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from palate.ui.panel.blends import Part
from palate.ui.panel.generate_routes import generate_routes
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.studio import Studio


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", fakes.fake_tools())
    fakes.answer_some(studio.store, "Ada", 40)
    yield Rooms(studio)
    studio.close()


def ada(weight=1.0):
    return [Part("person:Ada", weight)]


def test_what_is_liked_is_offered_and_turned_around_it_is_disliked(rooms):
    found, turned = (rooms.words.offer("a star", ada(weight)) for weight in (1.0, -1.0))
    assert found["liked"] and found["disliked"] and not set(found["liked"]) & set(found["disliked"])
    assert turned["liked"] and turned["liked"][0] not in found["liked"]


def test_a_prompt_that_names_a_colour_gets_none(rooms):
    colour = rooms.words.offer("a star", ada())["liked"][0]
    assert rooms.words.offer(f"a {colour} star", ada()) == {"liked": [], "disliked": []}


def test_nothing_is_offered_where_nobody_knows(rooms, monkeypatch):
    nothing = {"liked": [], "disliked": []}
    assert rooms.words.offer("a star", []) == nothing
    assert rooms.words.offer("a star", [Part("person:Nobody", 1.0)]) == nothing
    assert rooms.words.offer("a star", [Part("user:Somebody", 1.0)]) == nothing
    monkeypatch.setattr(type(rooms.studio.encoder()), "has_text", False)
    assert rooms.words.offer("a star", ada()) == nothing


def test_the_page_asks_with_what_its_form_holds(rooms):
    app = FastAPI()
    app.include_router(generate_routes(rooms))
    with TestClient(app) as client:
        tastes = [{"source": "person:Ada", "weight": 1}]
        answer = client.post("/palate/api/words", json={"prompt": "a star", "tastes": tastes}).json()
        assert answer == rooms.words.offer("a star", ada()) and answer["liked"]
        broken = client.post("/palate/api/words", json={"prompt": "a star", "tastes": [{"source": "elsewhere"}]}).json()
        assert "Cannot use the taste" in broken["error"]
