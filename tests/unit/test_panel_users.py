"""People and user files of a PPD under Generate: blended, with other weights, kept on a shelf, refused by name."""

from dataclasses import replace

import panel_fakes as fakes
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from palate.adapters.errors import FileFormatError, SteeringError
from palate.adapters.files import save_user
from palate.adapters.ppd import User
from palate.ui.panel.blends import Part
from palate.ui.panel.generate_routes import generate_routes
from palate.ui.panel.jobs import Job
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.share_routes import share_routes
from palate.ui.panel.studio import Studio
from palate.ui.panel.users import own_user, user_of
from palate.ui.panel.wish import Wish

ME, ADA = {"source": "person:me", "weight": 1}, {"source": "person:Ada", "weight": 1}
API = "/palate/api"


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", fakes.fake_tools())
    fakes.answer_some(studio.store, number=4)
    fakes.answer_some(studio.store, person="Ada", number=3, seed=5)
    yield Rooms(studio)
    studio.close()


def user_bytes(tmp_path, ppd=fakes.FakePPD.identity, value=2.0, person="Zoe"):
    user = User(torch.full((2, 3), value), ppd, person=person, pairs=4, base="fake")
    return save_user(user, tmp_path / "brought").read_bytes()


def paint(rooms, **wish):
    job = Job()
    sent = {"prompt": "a cat", "seeds": [3], "method": "user", "tastes": [ME, ADA]} | wish
    job.run(lambda job: rooms.easel.paint(Wish.read(sent), "me", job))
    return job.state()


def test_a_user_file_is_blended_with_people(rooms, tmp_path):
    """Tokens: me 4 answers with weight 1, Zoe's file 2.0 with weight 0.5."""
    name = rooms.users.add("zoe.safetensors", user_bytes(tmp_path)).name
    ppd = rooms.studio.tools.ppd(None)
    user = user_of(rooms.studio, rooms.users, [Part("person:me", 1.0), Part(f"user:{name}", 0.5)], ppd)
    assert torch.equal(user.tokens, torch.full((2, 3), 5.0))


def test_a_user_of_another_ppd_is_refused_before_painting(rooms, tmp_path):
    name = rooms.users.add("zoe.safetensors", user_bytes(tmp_path, ppd="another")).name
    state = paint(rooms, tastes=[{"source": f"user:{name}", "weight": 1}])
    assert "made by the PPD 'another'" in state["error"] and state["frames"] == []


def test_a_user_file_cannot_move_the_prompt_and_says_where_it_goes(rooms, tmp_path):
    name = rooms.users.add("zoe.safetensors", user_bytes(tmp_path)).name
    with pytest.raises(SteeringError, match=r"a user file is for the denoiser.*under Moves"):
        rooms.blends.of([Part(f"user:{name}", 1.0)])


def test_other_weights_are_painted_after_what_was_asked_for(rooms):
    state = paint(rooms, tastes=[ME, ADA], blends=[[1, 0], [0.25, 0.75]])
    told = [(frame["strength"], frame.get("weights")) for frame in state["frames"]]
    assert told[:4] == [(0.0, None), (1.0, None), (1.0, [1.0, 0.0]), (1.0, [0.25, 0.75])]
    used = rooms.gallery.get(state["frames"][3]["id"]).used
    assert (used.tastes, used.method) == ((("person:me", 0.25), ("person:Ada", 0.75)), "user")
    assert len(rooms.gallery.shots()) == 2  # tries lie between, like those of the slider


def test_other_weights_steer_the_prompt_as_well_and_keep_the_turn_that_was_told(rooms):
    state = paint(rooms, method="auto", blends=[[0, 1]])
    assert state["degrees"][20] == 12.0
    tried = next(frame for frame in state["frames"] if "weights" in frame)
    used = rooms.gallery.get(tried["id"]).used
    asked = rooms.gallery.get(state["frames"][1]["id"]).used
    assert used.tastes == (("person:Ada", 1.0),) and used.degrees is None
    assert used.fingerprint != asked.fingerprint


def test_what_a_page_has_already_is_not_painted_plainly_again(rooms):
    assert [frame["strength"] for frame in paint(rooms, plain=False)["frames"]][:1] == [1.0]
    assert [frame["strength"] for frame in paint(rooms, plain=False, tastes=[])["frames"]] == [0.0]


@pytest.mark.parametrize("blends", [[[1]], [[1, 0]] * 17])
def test_blends_that_fit_no_tastes_or_are_too_many_are_refused(blends):
    with pytest.raises(SteeringError, match="expected at most 16, a weight for each taste"):
        Wish.read({"prompt": "a", "tastes": [ME, ADA], "blends": blends})


def test_a_weight_of_a_blend_that_is_too_large_is_refused(rooms):
    assert "expected -1 to 1" in paint(rooms, blends=[[2, 0]])["error"]


def test_your_own_user_is_saved_and_may_leave_out_your_name(rooms):
    own = own_user(rooms.studio, "me")
    assert rooms.users.save(own, "me").said.person == "me"
    entry = rooms.users.save(own, "me", named=False)
    assert (entry.name, entry.said.person) == ("somebody.safetensors", "")
    assert rooms.users.load("me.safetensors").tokens.shape == (2, 3)


@pytest.mark.parametrize(("trained_with", "read_by"), [("5ec0" * 8, "second"), ("", "fake"), ("0dd0" * 8, "fake")])
def test_people_are_read_by_the_encoder_that_the_ppd_was_trained_with(rooms, trained_with, read_by):
    class Second(fakes.FakeEncoder):
        identity, name = "5ec0" * 8, "second"

    class PPD(fakes.FakePPD):
        image_encoder = trained_with

    asked, real = [], rooms.studio.tools.user
    tools = replace(rooms.studio.tools, more_encoders=lambda: [Second()], ppd=lambda painter: PPD())
    rooms.studio.tools = replace(tools, user=lambda store, *who: asked.append(who[0].name) or real(store, *who))
    own_user(rooms.studio, "me")
    user_of(rooms.studio, rooms.users, [Part("person:me", 1.0)], PPD())
    assert asked == [read_by, read_by]


def test_without_a_ppd_there_is_no_user_to_save(rooms):
    rooms.studio.tools = replace(rooms.studio.tools, ppd=lambda painter: None)
    with pytest.raises(SteeringError, match="found no PPD for this model"):
        own_user(rooms.studio, "me")


def test_what_is_dropped_goes_to_the_shelf_that_it_belongs_to(rooms, tmp_path):
    taste = rooms.studio.tools.save(rooms.studio.taste("me"), tmp_path / "t.safetensors").read_bytes()
    app = FastAPI()
    for routes in (share_routes, generate_routes):
        app.include_router(routes(rooms))
    with TestClient(app) as client:
        client.get(f"{API}/model")
        kinds = [
            client.post(f"{API}/tastes?name={name}", content=data).json()
            for name, data in (
                ("a.safetensors", taste),
                ("b.safetensors", user_bytes(tmp_path)),
                ("c.safetensors", user_bytes(tmp_path, ppd="another")),
            )
        ]
        assert [(one["kind"], one["fits"]) for one in kinds] == [("taste", True), ("user", True), ("user", False)]
        assert "It was made by the PPD another" in kinds[2]["trouble"]
        listed = client.get(f"{API}/tastes").json()["files"]
        assert [one["source"] for one in listed] == ["file:a.safetensors", "user:b.safetensors", "user:c.safetensors"]
        assert client.get(f"{API}/users/b.safetensors").content == user_bytes(tmp_path)
        assert client.get(f"{API}/users/none.safetensors").status_code == 404
        begun = client.post(f"{API}/users/save", json={"person": "me"}).json()
        rooms.jobs.get(begun["job"]).wait(30)
        saved = client.get(f"{API}/jobs/{begun['job']}").json()
        assert (saved["state"], saved["file"], saved["answers"]) == ("done", "me.safetensors", 4)
        client.post(f"{API}/users/remove", json={"file": "b.safetensors"})
        assert client.get(f"{API}/users/b.safetensors").status_code == 404
        assert client.post(f"{API}/users/restore", json={"file": "b.safetensors"}).json()["fits"]


def test_a_user_file_that_is_cut_off_is_named_and_not_kept(rooms, tmp_path):
    with pytest.raises(FileFormatError, match=r"zoe\.safetensors"):
        rooms.users.add("zoe.safetensors", user_bytes(tmp_path)[:-5])
    assert rooms.users.entries() == []
