"""What the panel opens with: models and encoders that are looked at before anything is loaded, and named when wrong."""

import json
from types import SimpleNamespace

import panel_fakes as fakes
import pytest
import torch
from palate.adapters.errors import EncoderError, SteeringError
from palate.ui.panel.jobs import Job
from palate.ui.panel.preflight import FITTING, check_start, fitting_encoders
from palate.ui.panel.rooms import Rooms
from palate.ui.panel.studio import Studio
from palate.ui.panel.tools import real_tools
from palate.ui.panel.wish import Wish
from safetensors.torch import save_file

SD15 = {
    "model.diffusion_model.input_blocks.0.0.weight": (2, 4, 1, 1),
    "first_stage_model.decoder.conv_in.weight": (1,),
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (2, 768),
}


def checkpoint(path, shapes):
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    return str(path)


def folder(path, kind):
    path.mkdir()
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return str(path)


def test_the_playground_needs_nothing():
    assert check_start("playground") == ""


@pytest.mark.parametrize(
    ("kind", "family"), [("StableDiffusionPipeline", "sd15"), ("StableDiffusionXLPipeline", "sdxl")]
)
def test_a_folder_without_an_encoder_is_told_which_one_fits(tmp_path, kind, family):
    model = folder(tmp_path / "model", kind)
    advice = check_start(model)
    assert all(f"--encoder {spec}" in advice for spec in FITTING[family])
    assert check_start(model, ["open_clip:ViT-L-14/openai"]) == ""
    (tmp_path / "model" / "clip").mkdir()
    assert check_start(model) == ""


def test_a_checkpoint_without_an_encoder_is_told_which_one_fits(tmp_path):
    model = checkpoint(tmp_path / "model.safetensors", SD15)
    assert "Stable Diffusion 1.5" in check_start(model)
    assert fitting_encoders(model) == "For this model it is open_clip:ViT-L-14/openai."


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"hello")
    with pytest.raises(SteeringError, match=r"Cannot load the model 'model.safetensors'"):
        check_start(str(tmp_path / "model.safetensors"))
    with pytest.raises(SteeringError, match="a LoRA"):
        check_start(checkpoint(tmp_path / "lora.safetensors", {"lora_up.weight": (1,)}))


def test_a_folder_that_is_no_pipeline_is_named(tmp_path):
    with pytest.raises(SteeringError, match=r"no readable model_index.json"):
        check_start(str(tmp_path))


@pytest.mark.parametrize("spec", ["nonsense", "./clip", "a/b/c", "clip.safetensors"])
def test_an_encoder_that_is_neither_there_nor_a_name_is_named(spec):
    with pytest.raises(EncoderError, match=f"with the encoder '{spec}': no such file"):
        check_start("playground", [spec])


@pytest.mark.parametrize("device", ["tpu", "cpu:x", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(SteeringError, match="this machine has no such device"):
        check_start("playground", device=device)


def test_a_model_that_comes_without_an_encoder_says_what_fits_when_one_is_needed(tmp_path):
    tools = real_tools(checkpoint(tmp_path / "model.safetensors", SD15), None, "cpu")
    with pytest.raises(EncoderError, match=r"comes without an encoder.*--encoder.*open_clip:ViT-L-14/openai"):
        tools.encoder()


def test_the_playground_learns_with_its_own_encoder_and_has_no_second():
    tools = real_tools("playground", None, "cpu")
    assert tools.encoder().name == "playground"
    assert tools.encoder() is tools.encoder()
    assert list(tools.more_encoders()) == []


def test_the_first_encoder_learns_and_the_second_steers_the_other_side():
    tools = real_tools("playground", ["playground", "playground"], "cpu")
    assert len(tools.more_encoders()) == 1


def test_the_playground_paints_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "store", real_tools("playground", None, "cpu"))
    fakes.answer_some(studio.store, number=2)
    rooms, job = Rooms(studio), Job()
    wish = Wish.read({"prompt": "a red star", "steps": 1, "tastes": [{"source": "person:me", "weight": 1}]})
    job.run(lambda job: rooms.easel.paint(wish, "me", job))
    state = job.state()
    studio.close()
    assert state["error"] == ""
    assert [frame["strength"] for frame in state["frames"]] == [0.0, 1.0, 0.5, 1.5, 2.0]
    assert state["degrees"][0] == 0.0
    assert state["degrees"] == sorted(state["degrees"])
    assert 10 < state["degrees"][20] < 40
    used = rooms.gallery.get(state["frames"][1]["id"]).used
    assert (used.model, used.steps, used.width) == ("playground", 1, 128)


def test_words_can_be_encoded_before_the_model_imports_of_the_same_library(monkeypatch):
    """Two threads in transformers at once find parts missing: a tab that opened at once then said ImportError."""
    order = []
    monkeypatch.setattr("palate.ui.panel.loaded._import_tokenizer", lambda: order.append("tokenizer"))
    monkeypatch.setattr("palate.adapters.encoders.load_encoder", lambda *given: order.append("encoder"))
    monkeypatch.setattr("palate.adapters.steering.Generator", lambda *given: order.append("model"))
    made = real_tools("playground", None, "cpu")
    made.painter()
    made.encoder()
    assert order == ["tokenizer", "encoder", "model"]


def test_a_link_to_a_disk_that_is_away_is_no_ppd(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path))
    from palate.adapters.errors import PPDError
    from palate.ui.webui.users import ANY_PPD, WantedUser, _weights, ppd_names

    (tmp_path / "ppd").mkdir()
    (tmp_path / "ppd" / "away.safetensors").symlink_to(tmp_path / "nowhere.safetensors")
    asked = []
    painter = SimpleNamespace(ppd=None, use_ppd=asked.append)
    assert real_tools("sd15", None, "cpu").ppd(painter) is None and asked == []
    assert ppd_names() == [ANY_PPD]
    with pytest.raises(PPDError, match="found none"):
        _weights(WantedUser().ppd, (), None)
