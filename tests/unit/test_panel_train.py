"""The tab "Train" behind its page: what would happen, one training at a time, and where a reload finds it."""

import json
import shutil
import time

import panel_fakes as fakes
import pytest
import torch

fastapi = pytest.importorskip("fastapi", reason="gradio brings fastapi")
pytest.importorskip("gradio")
from fastapi.testclient import TestClient  # noqa: E402
from palate.adapters.comparisons import PreferenceStore  # noqa: E402
from palate.adapters.errors import FineTuneError  # noqa: E402
from palate.adapters.finetune.losses import LOSSES  # noqa: E402
from palate.adapters.finetune.settings import TrainSettings  # noqa: E402
from palate.adapters.finetune.usual import USUAL_LOSS  # noqa: E402
from palate.ui.panel import train_view  # noqa: E402
from palate.ui.panel.rooms import Rooms  # noqa: E402
from palate.ui.panel.studio import Studio  # noqa: E402
from palate.ui.panel.train_routes import train_routes  # noqa: E402
from palate.ui.panel.training_plan import enough_to_tell  # noqa: E402
from palate.ui.panel.training_record import POINTS  # noqa: E402

LONG = 30.0  # s, only ever waited for when something is broken


@pytest.fixture
def trainer():
    return fakes.FakeTrainer(steps=20)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A store with forty answers, made once."""
    folder = tmp_path_factory.mktemp("answered") / "store"
    with PreferenceStore(folder) as store:
        fakes.answer_some(store, number=40)
    return folder


@pytest.fixture
def studio(tmp_path, monkeypatch, trainer, answered):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    shutil.copytree(answered, tmp_path / "store")
    studio = Studio(tmp_path / "store", fakes.fake_tools(train=trainer))
    yield studio
    studio.close()


@pytest.fixture
def client(studio):
    return opened(studio)


def opened(studio):
    """A panel that was just opened."""
    app = fastapi.FastAPI()
    app.include_router(train_routes(Rooms(studio)))
    return TestClient(app, base_url="http://127.0.0.1/palate/api/")


def until(client, *states):
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        training = client.get("train").json()["training"]
        if training["state"] in states:
            return training
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def halted(client, trainer):
    """A training that was stopped after two steps."""
    trainer.last = 2
    client.post("train", json={})
    end = time.monotonic() + LONG
    while client.get("train").json()["training"]["step"] < 2:
        assert time.monotonic() < end
        time.sleep(0.005)
    client.post("train/stop")
    found = until(client, "stopped")
    trainer.last = None
    return found


def test_what_would_happen_is_said_before_it_does(client):
    plan = client.get("train/plan", params={"loss": "mapo"}).json()
    assert plan["pairs"] == 40 and plan["held_out"] == 6 and plan["steps"] >= 1 and plan["model"] == "fake"
    assert plan["worth"].startswith("It may help") and "gets 6 of 6" in plan["worth"] and plan["sure"] == 1.0
    assert plan["rank"] >= 1 and 0 < plan["learning_rate"] < 1
    assert plan["stopped"] is None and plan["seconds"] is None and plan["trouble"] == ""
    assert "pairs" not in client.get("train/plan", params={"person": "nobody"}).json()


@pytest.mark.parametrize(("held_out", "needed"), [(0, None), (3, None), (4, 4), (15, 12), (60, 38)])
def test_how_many_right_answers_are_surely_better_than_a_coin(held_out, needed):
    """Wilson's 95 % interval: of 15 answers 12 right give 0.548 to 0.930, 11 right 0.480 to 0.891."""
    assert enough_to_tell(held_out) == needed


def test_from_answers_to_a_file_with_curves_and_pictures(client, studio, trainer):
    begun = client.post("train", json={"loss": "mapo", "rank": "3", "learning_rate": " 0.001 ", "steps": ""}).json()
    assert begun["training"]["state"] in ("working", "done")
    training = until(client, "done")
    assert [point[0] for point in training["points"]] == list(range(1, 21)) and len(training["looks"]) == 10
    assert training["result"]["better"] is True and [one["step"] for one in training["samples"]] == [0, 20]
    assert client.get("train/samples/me-fake-mapo/20/1").headers["content-type"] == "image/png"
    assert client.get("train/samples/me-fake-mapo/20/9").status_code == 404
    assert client.get("train/samples/me-fake-mapo/7/0").status_code == client.get("train/file/other").status_code == 404
    assert client.get("train/file/me-fake-mapo").content == b"a LoRA"
    (arguments,) = trainer.asked
    assert arguments[0] == "lora" and {"--loss=mapo", "--rank=3", "--learning-rate=0.001"} <= set(arguments)
    assert f"--store={studio.store.path}" in arguments and "--model=fake" in arguments
    assert client.get("train/plan", params={"loss": "mapo"}).json()["seconds"] >= 0


def test_everybody_sees_their_own_and_whatever_is_at_work(client, studio, trainer):
    fakes.answer_some(studio.store, person="otto", number=8)
    client.post("train", json={})
    until(client, "done")
    assert client.get("train", params={"person": "otto"}).json()["training"] is None
    trainer.gate.clear()
    client.post("train", json={"person": "otto"})
    assert client.get("train").json()["training"]["person"] == "otto"
    trainer.gate.set()
    end = time.monotonic() + LONG
    while client.get("train").json()["training"]["person"] == "otto":
        assert time.monotonic() < end
        time.sleep(0.01)
    assert client.get("train").json()["training"]["result"]["file"].endswith(f"me-fake-{USUAL_LOSS}.safetensors")


def test_a_page_that_has_the_curve_gets_what_is_new(client):
    client.post("train", json={})
    until(client, "done")
    assert [point[0] for point in client.get("train", params={"since": 18}).json()["training"]["points"]] == [19, 20]


def test_a_long_training_is_thinned_out(client, trainer):
    trainer.steps = 3 * POINTS
    client.post("train", json={})
    points = until(client, "done")["points"]
    assert len(points) <= 2 * POINTS and points[-1][0] == 3 * POINTS


def test_two_at_once_are_refused(client, trainer):
    trainer.gate.clear()
    client.post("train", json={})
    assert "at work already" in client.post("train", json={"loss": "sft"}).json()["error"]
    trainer.gate.set()
    assert until(client, "done")["loss"] == USUAL_LOSS


def test_stopped_it_goes_on_where_it_was_also_in_a_new_panel(client, studio, trainer):
    stopped = halted(client, trainer)
    again = opened(studio)
    assert again.get("train").json()["training"]["points"] == stopped["points"]
    assert again.get("train/plan").json()["stopped"]["step"] == stopped["step"]
    refused = again.post("train", json={"rank": 5, "frozen": "int8"}).json()["error"]
    assert (
        "Cannot go on with rank 5 and the model held in bytes: the training" in refused
        and "after step 2 was begun with rank as it chose and the model as it is. Empty the field" in refused
    )
    again.post("train", json={})
    done = until(again, "done")
    assert [point[0] for point in done["points"]] == list(range(1, 21)) and stopped["step"] == 2
    assert "--anew" not in trainer.asked[-1]


def test_after_new_answers_or_on_wish_it_begins_anew(client, studio, trainer):
    halted(client, trainer)
    client.post("train", json={"anew": True})
    assert until(client, "done")["points"][0][0] == 1 and "--anew" in trainer.asked[-1]
    halted(client, trainer)
    fakes.answer_some(studio.store, number=1, seed=9)
    assert client.get("train/plan").json()["stopped"] is None
    client.post("train", json={})
    assert until(client, "done")["points"][0][0] == 1


def test_one_that_was_at_work_when_its_panel_was_killed_is_a_stopped_one(client, studio, trainer, tmp_path):
    halted(client, trainer)
    (file,) = (tmp_path / "home" / "training").glob("*/panel.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"state": "working", "text": "Step 2"}))
    assert opened(studio).get("train").json()["training"]["state"] == "stopped"
    file.write_text('{"state": "wor')
    assert opened(studio).get("train").json()["training"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"rank": "many"}, "rank is 'many'; expected a number"),
        ({"steps": "0"}, "steps is 0; expected 1 to 1,000,000"),
        ({"loss": "dop"}, "loss 'dop'; expected one of"),
        ({"person": "nobody"}, "'nobody': found none"),
    ],
)
def test_a_mistake_is_a_sentence_and_nothing_begins(client, trainer, body, words):
    assert words in client.post("train", json=body).json()["error"]
    assert client.get("train").json()["training"] is None and trainer.asked == []


def test_without_an_environment_it_says_so_before_the_button_is_pressed(studio, tmp_path):
    def missing():
        raise FineTuneError("Run `python install.py train` once.")

    bare = Studio(tmp_path / "other", fakes.fake_tools(trainer=missing))
    fakes.answer_some(bare.store, number=8)
    client = opened(bare)
    assert client.get("train/plan").json()["trouble"] == "Run `python install.py train` once."
    assert "install.py train" in client.post("train", json={}).json()["error"]
    bare.close()


def test_a_training_that_fails_says_why(studio, tmp_path):
    def fails(arguments, on_event, cancelled):
        raise FineTuneError("Cannot go on training: the loss is nan.")

    bare = Studio(tmp_path / "other", fakes.fake_tools(train=fails))
    fakes.answer_some(bare.store, number=8)
    client = opened(bare)
    client.post("train", json={})
    assert until(client, "failed")["error"] == "Cannot go on training: the loss is nan."
    bare.close()


def test_on_a_gpu_the_model_makes_room_and_is_loaded_again(studio, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    before = studio.painter()
    studio.rest()
    assert studio.painter() is not before


def test_every_loss_has_its_line_on_the_page():
    assert set(train_view.LOSSES) | set(train_view.MORE) == set(LOSSES)
    assert all(train_view.train_page().count(f'value="{name}"') == 1 for name in LOSSES)
    assert f'value="{TrainSettings().loss}" checked' in train_view.train_page()


def test_answers_that_the_others_doubt_are_left_out_and_shown(client, studio, trainer):
    """How many is said beforehand where the pictures have vectors; which, as soon as it begins."""
    keep = {"drop_doubted": False}
    assert client.get("train/plan", params=keep).json()["dropped"] == 0
    assert client.get("train/plan").json()["dropped"] is None
    answers = studio.store.comparisons("me")
    wrong = answers[7].id
    for number, one in enumerate(answers):
        sign = -1.0 if one.id == wrong else 1.0
        near = {one.chosen: [sign, 0.01 * number], one.rejected: [-sign, 0.0]}
        studio.store.put_vectors("numbers", {name: torch.tensor(vector).numpy() for name, vector in near.items()})
    plan = client.get("train/plan").json()
    assert plan["dropped"] == 1 and plan["pairs"] == 40 and plan["held_out"] == 6 and not plan["trouble"]
    client.post("train", json={})
    training = until(client, "done")
    assert "--no-drop-doubted" not in trainer.asked[-1] and training["left_out"]["count"] == 1
    assert training["left_out"]["pairs"][0] == [answers[0].chosen, answers[0].rejected]
    client.post("train", json=keep)
    assert "left_out" not in until(client, "done") and "--no-drop-doubted" in trainer.asked[-1]


def test_the_model_is_held_in_bytes_where_that_is_ticked(client, trainer):
    assert 'data-part="train-frozen"' in train_view.train_page()
    client.post("train", json={"frozen": "int8"})
    until(client, "done")
    assert "--frozen=int8" in trainer.asked[-1]
    said = client.post("train", json={"frozen": "int3"}).json()["error"]
    assert "frozen 'int3'; expected one of int8" in said
    client.post("train", json={})
    until(client, "done")
    assert not any("frozen" in word for word in trainer.asked[-1])
