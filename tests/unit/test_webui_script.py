"""What the extension for Automatic1111 and Forge does in a run, and with the pictures that came out of it."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from palate.adapters.comparisons import PreferenceStore
from palate.adapters.errors import ComparisonError
from palate.adapters.files import save_taste
from palate.ui.webui import extension
from palate.ui.webui.batches import Batch, LastBatches
from palate.ui.webui.learning import NO_TASTE, PanelError, PanelProcess, taste_names, taste_path
from PIL import Image
from webui_engines import Engine, Model, Prompts, taste, text_parts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model():
    return Model(Engine(*text_parts()))


def batch(count, prompt="a red star", first=0):
    images = [Image.new("RGB", (8, 8), (40 * n, 9, 9)) for n in range(first + count)]
    processed = SimpleNamespace(
        images=images, index_of_first_image=first, all_prompts=[prompt] * count, all_seeds=list(range(count))
    )
    return Batch.of(processed, "dreams")


def test_the_selected_picture_is_preferred_over_all_others(tmp_path):
    last = LastBatches()
    last.put("txt2img", batch(4, first=1))
    assert last.prefer("txt2img", 3, "mara", tmp_path) == "Recorded: 1 answer of mara."
    assert last.prefer("txt2img", 3, "mara", tmp_path) == "Recorded already."  # a double click is one answer
    with PreferenceStore(tmp_path) as store:
        (one,) = store.rankings("mara")
        assert (one.tiers[0], one.seeds[0], one.prompt) == ((one.images[0],), 2, "a red star")
        assert len(one.images) == 4


def test_a_single_picture_is_compared_with_the_one_before(tmp_path):
    last = LastBatches()
    for colour in (10, 200):
        processed = SimpleNamespace(
            images=[Image.new("RGB", (8, 8), (colour, 0, 0))],
            index_of_first_image=0,
            all_prompts=["x"],
            all_seeds=[colour],
        )
        last.put("txt2img", Batch.of(processed))
    last.prefer("txt2img", 0, "mara", tmp_path)
    with PreferenceStore(tmp_path) as store:
        (one,) = store.comparisons("mara")
        assert (one.outcome, one.left_seed, one.right_seed) == ("left", 200, 10)


@pytest.mark.parametrize(
    ("made", "place", "said"),
    [
        (None, 0, "nothing was made yet"),
        (batch(1), 0, "no other picture"),
        (batch(2, first=1), 0, "Click it, not the grid"),
    ],
)
def test_a_choice_that_says_nothing_is_explained(tmp_path, made, place, said):
    last = LastBatches()
    if made is not None:
        last.put("txt2img", made)
    with pytest.raises(ComparisonError, match=said):
        last.prefer("txt2img", place, "mara", tmp_path)


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.setenv("PALATE_HOME", str(tmp_path))
    monkeypatch.setattr(extension, "_options", lambda: None)
    made = extension.script_class(
        SimpleNamespace(Script=object, AlwaysVisible="always"), MagicMock(__version__="3.41.2")
    )()
    made.is_img2img = False
    return made


def work(model):
    info = SimpleNamespace(model_name="dreams")
    model.sd_checkpoint_info = info
    return SimpleNamespace(
        sd_model=model, extra_generation_params={}, cached_c=["old", 1], cached_uc=["old", 1], comment=MagicMock()
    )


def test_a_run_begins_moves_and_ends(script, model):
    save_taste(taste(), taste_path_of("mara"))
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    p = work(model)
    script.process(p, "mara.safetensors", 1.0, "eos_token")
    assert (p.cached_c, p.extra_generation_params["Palate strength"]) == ([None, None], "1")
    assert not torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    script.postprocess(p, SimpleNamespace(images=[], index_of_first_image=0, all_prompts=[], all_seeds=[]))
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)


def test_an_interrupted_run_is_over_at_the_next_one(script, model):
    save_taste(taste(), taste_path_of("mara"))
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    script.process(work(model), "mara.safetensors", 1.0, "eos_token")
    script.process(work(model), NO_TASTE, 1.0, "auto")
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)


def test_a_taste_that_cannot_be_used_is_told_in_the_picture_and_the_run_goes_on(script, model):
    save_taste(taste(width=768), taste_path_of("mara"))
    p = work(model)
    script.process(p, "mara.safetensors", 1.0, "auto")
    assert "text side is 768 wide" in p.comment.call_args[0][0]
    assert p.cached_c == ["old", 1]


def taste_path_of(name):
    return Path(os.environ["PALATE_HOME"]) / "tastes" / f"{name}.safetensors"


def test_only_files_of_the_list_are_read(script):
    assert taste_names() == [NO_TASTE]
    with pytest.raises(PanelError, match="it is gone"):
        taste_path("../store/store.sqlite")


def test_the_panel_says_how_to_get_it(tmp_path):
    with pytest.raises(PanelError, match=r"install.py\" panel` once in a terminal"):
        PanelProcess(tmp_path).open()


def test_the_hosts_way_in_loads_palate_under_its_own_name(monkeypatch):
    """As a host runs it: the extension's folder on the import path, and Palate nowhere."""
    code = (
        "import sys, types, runpy\n"
        "root = sys.argv[1]; sys.path.insert(0, root)\n"
        "scripts = types.SimpleNamespace(Script=object, AlwaysVisible=1)\n"
        "callbacks = types.SimpleNamespace(on_ui_tabs=lambda tab: print('tab'), on_ui_settings=lambda own: None)\n"
        "host = types.ModuleType('modules'); host.scripts, host.script_callbacks = scripts, callbacks\n"
        "sys.modules.update(modules=host, gradio=types.ModuleType('gradio'))\n"
        "sys.modules.pop('palate', None)\n"
        "found = runpy.run_path(root + '/scripts/palate_webui.py')\n"
        "print(found['PalateScript'].__module__, sorted({'nodes', 'ui', 'adapters', 'comfy'} & set(sys.modules)))\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, cwd="/")
    assert done.stdout.split("\n")[:2] == ["tab", "palate.ui.webui.extension []"], done.stderr
