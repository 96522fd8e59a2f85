"""The page's own requests: every mistake is a sentence, nothing outside the gallery and the shelf is given away."""

import time
from pathlib import Path
from unittest.mock import MagicMock

import panel_fakes as fakes
import pytest

fastapi = pytest.importorskip("fastapi", reason="gradio brings fastapi")
pytest.importorskip("gradio")
from fastapi.testclient import TestClient  # noqa: E402
from palate.adapters.errors import StoreError  # noqa: E402
from palate.ui.panel.gallery import Gallery  # noqa: E402
from palate.ui.panel.generate_routes import generate_routes  # noqa: E402
from palate.ui.panel.rooms import Rooms  # noqa: E402
from palate.ui.panel.share_routes import share_routes  # noqa: E402

LONG = 30.0  # s, only ever waited for when something is broken
WISH = {"prompt": "a cat", "person": "me", "tastes": [{"source": "person:me", "weight": 1}]}


@pytest.fixture
def studio(studio):
    fakes.answer_some(studio.store, number=3)
    return studio


@pytest.fixture
def client(studio):
    app, rooms = fastapi.FastAPI(), Rooms(studio)
    app.include_router(generate_routes(rooms))
    app.include_router(share_routes(rooms))
    return TestClient(app, base_url="http://127.0.0.1/palate/api/")


def painted(client, **wish):
    job = client.post("paint", json=WISH | wish).json()["job"]
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        state = client.get(f"jobs/{job}").json()
        if state["state"] != "working":
            return state
        time.sleep(0.01)
    raise AssertionError("it never ended")


def test_from_a_wish_to_a_picture_and_its_settings(client):
    state = painted(client)
    assert state["state"] == "done"
    shot = client.get("gallery").json()["shots"][0]
    assert (shot["prompt"], shot["strength"], shot["degrees"]) == ("a cat", 1.0, 12.0)
    picture = client.get(f"gallery/{shot['id']}.png")
    assert picture.content[:4] == b"\x89PNG"
    assert "immutable" in picture.headers["cache-control"]
    download = client.get(f"gallery/{shot['id']}/download")
    assert 'filename="palate-1-1.png"' in download.headers["content-disposition"]
    assert client.get(f"gallery/{shot['id']}").json() == shot


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"strength": -5}, "strength -5.0; expected 0 to 2"),
        ({"strength": 100}, "strength 100.0; expected 0 to 2"),
        ({"seeds": {"a": 1}}, "expected a list"),
        ({"person": "a\nb"}, "person is"),
    ],
)
def test_what_cannot_be_painted_is_a_sentence(client, wish, named):
    answer = client.post("paint", json=WISH | wish)
    assert answer.status_code == 200
    assert named in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"no json", b'"text"'])
def test_what_the_page_never_sends_is_refused(client, body):
    answer = client.post("paint", content=body, headers={"Content-Type": "application/json"})
    assert "Cannot read what the page sent" in answer.json()["error"]


def test_preferring_twice_is_one_answer_and_undo_takes_it_back(client, studio):
    frames = painted(client)["frames"]
    two = {"person": "me", "chosen": frames[1]["id"], "rejected": frames[0]["id"]}
    answers = [client.post("prefer", json=two).json()["comparison"] for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(studio.store.comparisons("me")) == 4
    undo = {"person": "me", "comparison": answers[0]}
    told = [client.post("prefer/undo", json=undo).json() for _ in range(2)]
    assert [(one["undone"], one["answers"]) for one in told] == [(True, 3), (False, 3)]
    assert "was deleted" in client.post("prefer", json=two | {"chosen": "nothing"}).json()["error"]


@pytest.mark.parametrize(
    "path", ["gallery/none.png", "gallery/..%2findex.sqlite", "gallery/x/download", "tastes/..%2fx", "embeddings/x"]
)
def test_what_is_not_there_is_not_given(client, path):
    assert client.get(path).status_code == 404


def test_a_picture_that_is_damaged_or_a_disk_that_fails_is_not_called_missing(client, monkeypatch):
    painted(client)
    download = f"gallery/{client.get('gallery').json()['shots'][0]['id']}/download"
    with monkeypatch.context() as broken:
        broken.setattr(Gallery, "path", lambda *_: Path(__file__))
        told = client.get(download)
        assert told.status_code == 500 and "expected a whole picture" in told.json()["detail"]
    with monkeypatch.context() as broken:
        broken.setattr(Gallery, "get", MagicMock(side_effect=StoreError("Cannot read the gallery: locked.")))
        told = client.get(download)
    assert (told.status_code, told.json()) == (500, {"detail": "Cannot read the gallery: locked."})


def test_a_taste_goes_out_and_comes_back(client):
    saved = client.post("tastes/save", json={"person": "me", "named": False}).json()
    assert (saved["name"], saved["fits"]) == ("somebody", True)
    data = client.get(f"tastes/{saved['file']}").content
    brought = client.post("tastes", params={"name": "from me.safetensors"}, content=data).json()
    assert brought["fits"]
    assert {one["file"] for one in client.get("tastes").json()["files"]} == {saved["file"], brought["file"]}
    assert "Cannot read 'cat.png'" in client.post("tastes", params={"name": "cat.png"}, content=b"x").json()["error"]


def test_a_job_that_nobody_knows_is_over(client):
    assert client.get("jobs/none").json() == {"state": "unknown"}
    assert client.post("jobs/none/stop").json() == {}
