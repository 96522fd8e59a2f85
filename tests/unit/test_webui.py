"""The extension for Automatic1111 and Forge, with stand-ins of their objects and, where a copy is at hand, their own.

FORGE_PATH: a folder of lllyasviel/stable-diffusion-webui-forge. A1111_PATH: one of AUTOMATIC1111/stable-diffusion-webui
or of a fork that kept its text encoding (reForge).
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from palate.adapters.comparisons import PreferenceStore
from palate.adapters.encoders import text_model_from_state_dict
from palate.adapters.errors import ComparisonError, EncoderMismatchError, SteeringError
from palate.adapters.files import save_taste
from palate.adapters.playground import playground_folder
from palate.adapters.steering import SteeringSettings
from palate.adapters.taste import Taste
from palate.ui.webui import extension
from palate.ui.webui.batches import Batch, LastBatches
from palate.ui.webui.learning import NO_TASTE, PanelError, PanelProcess, taste_names, taste_path
from palate.ui.webui.steered import Steered
from palate.ui.webui.text_engines import engines_of
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

ROOT = Path(__file__).parents[2]


class Prompts(list):
    is_negative_prompt = False


class Engine:
    """What Forge's ClassicTextProcessingEngine is to the extension."""

    minimal_clip_skip, final_layer_norm = 1, True

    def __init__(self, model, tokenizer):
        self.clip_skip = 1
        self.text_encoder = SimpleNamespace(transformer=model)
        self.tokenizer = tokenizer
        self.embeddings = SimpleNamespace(fixes=None)

    def encode_with_transformers(self, tokens):
        outputs = self.text_encoder.transformer(tokens, output_hidden_states=True)
        z = outputs.hidden_states[-self.clip_skip]
        return self.text_encoder.transformer.text_model.final_layer_norm(z)

    def __call__(self, texts):
        ids = self.tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
        return self.encode_with_transformers(ids)


class Model:
    def __init__(self, engine):
        self.text_processing_engine = engine

    @torch.inference_mode()
    def get_learned_conditioning(self, prompts):
        return self.text_processing_engine(list(prompts))


@pytest.fixture(scope="module")
def parts():
    return text_model(), CLIPTokenizer.from_pretrained(playground_folder() / "tokenizer")


def text_model():
    """As the hosts have it: transformers 4 puts all of it into `text_model`, as the core's own tower does."""
    return text_model_from_state_dict(CLIPTextModel.from_pretrained(playground_folder() / "text_encoder").state_dict())


@pytest.fixture
def model(parts):
    return Model(Engine(*parts))


def taste(width=96, person="mara", **changes):
    generator = torch.Generator().manual_seed(3)
    side = torch.randn(width, generator=generator)
    known = {"text_weights": side} | changes
    return Taste(torch.randn(96, generator=generator), "e" * 64, "playground", person, 30, **known)


def steered(model, strength=1.0, method="encoder", trouble=None, **changes):
    settings = SteeringSettings(method=method, strength=strength, steps=2)
    tell = trouble.append if trouble is not None else pytest.fail
    return Steered(model, engines_of(model), [taste(**changes)], settings, tell)


def test_prompts_move_until_the_end_and_negative_ones_never(model):
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    on = steered(model)
    moved = model.get_learned_conditioning(Prompts(["a red star"]))
    negative = Prompts(["a red star"])
    negative.is_negative_prompt = True
    assert torch.equal(model.get_learned_conditioning(negative), plain)
    assert not torch.allclose(moved, plain, atol=1e-3)
    on.end()
    on.end()
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    assert "encode_with_transformers" not in vars(model.text_processing_engine)


def test_it_moves_as_far_as_everywhere_else(model, parts):
    from palate.adapters.steering import adapt_text_weights

    ids = parts[1](["a red star"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    settings = SteeringSettings(method="encoder", steps=2)
    expected = adapt_text_weights(parts[0], ids, taste(), None, settings).adapted
    on = steered(model)
    torch.testing.assert_close(model.get_learned_conditioning(Prompts(["a red star"])), expected, atol=1e-4, rtol=1e-4)
    on.end()


def test_prompts_of_a_batch_are_moved_each_by_itself_and_once(model, monkeypatch):
    from palate.ui.webui import steered as steering

    on, calls = steered(model), []
    real = steering.adapt_text_weights
    monkeypatch.setattr(steering, "adapt_text_weights", lambda *a, **k: calls.append(a) or real(*a, **k))
    both = model.get_learned_conditioning(Prompts(["a red star", "a blue fish"]))
    alone = model.get_learned_conditioning(Prompts(["a blue fish"]))
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)
    assert len(calls) == 2
    on.end()


def test_strength_zero_is_the_hosts_own_bits(model):
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    on = steered(model, strength=0.0)
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    on.end()


def test_a_textual_inversion_stays_where_it_stands(model):
    vector = torch.randn(1, 96, generator=torch.Generator().manual_seed(1))
    on = steered(model)
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    model.text_processing_engine.embeddings.fixes = [[(1, SimpleNamespace(vec=vector))]]
    assert not torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    on.end()


def test_what_goes_wrong_while_encoding_leaves_the_prompt_as_it_is(model, monkeypatch):
    trouble = []
    plain = model.get_learned_conditioning(Prompts(["a red star"]))
    on = steered(model, trouble=trouble)
    monkeypatch.setattr("palate.ui.webui.steered.adapt_text_weights", MagicMock(side_effect=RuntimeError("no room")))
    assert torch.equal(model.get_learned_conditioning(Prompts(["a red star"])), plain)
    assert trouble == ["no room"]
    on.end()


def test_what_does_not_fit_is_named_before_anything_is_changed(model):
    with pytest.raises(EncoderMismatchError, match="text side is 768 wide; expected one learned with a CLIP"):
        steered(model, width=768)
    with pytest.raises(SteeringError, match="its file has no text side"):
        steered(model, text_weights=None)
    with pytest.raises(SteeringError, match=r"found SimpleNamespace; expected Stable Diffusion 1.5 or SDXL"):
        engines_of(SimpleNamespace())
    assert "get_learned_conditioning" not in vars(model)


class Embedder(torch.nn.Module):
    """Automatic1111's wrapped text encoder, with what reForge adds to it."""

    def __init__(self, layer, layer_idx, limit=None, key="clip_l"):
        super().__init__()
        self.wrapped = torch.nn.Module()
        self.wrapped.transformer = text_model()
        self.wrapped.transformer.text_model.embeddings.token_embedding.textual_inversion_key = key
        self.wrapped.layer, self.wrapped.layer_idx = layer, layer_idx
        self.hijack = SimpleNamespace(fixes=None)
        if limit is not None:
            self.minimal_clip_skip = limit

    def encode_with_transformers(self, tokens):
        raise NotImplementedError


def test_each_hosts_clip_skip_is_its_own():
    """Hidden states are counted from the embeddings, 0, so the next to last is layers - 1 or -2."""
    layers = len(text_model().text_model.encoder.layers)
    options = SimpleNamespace(CLIP_stop_at_last_layers=3, sdxl_clip_l_skip=False)
    small = SimpleNamespace(cond_stage_model=Embedder("last", None))
    both = SimpleNamespace(embedders=[Embedder("hidden", layers - 1), object()])
    large = SimpleNamespace(conditioner=both, cond_stage_model=both)
    one, other = Embedder("hidden", layers - 1, 2), Embedder("hidden", -2, 2, "clip_g")
    reforge = SimpleNamespace(conditioner=SimpleNamespace(embedders=[one, other]))
    refiner = SimpleNamespace(conditioner=SimpleNamespace(embedders=[other]), cond_stage_model=other)

    def found(model):
        return [(one.name, one.clip_skip(), one.norm_skipped) for one in engines_of(model, options)]

    assert found(small) == [("clip_l", 2, True)]
    assert found(large) == [("clip_l", 1, False)]
    assert found(reforge) == [("clip_l", 2, False), ("clip_g", 2, False)] and found(refiner) == [("clip_g", 2, False)]
    options.CLIP_stop_at_last_layers, options.sdxl_clip_l_skip = 1, True
    assert found(small) == [("clip_l", 0, True)] and found(large) == [("clip_l", 0, False)]
    assert found(reforge) == [("clip_l", 1, False), ("clip_g", 1, False)]


# -- choices


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


# -- the script


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


# -- the hosts' own text encoding


def host(variable):
    folder = os.environ.get(variable, "").strip()
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"no {variable}: see the top of {Path(__file__).name}")
    return Path(folder)


@pytest.fixture
def modules(monkeypatch):
    """Stand-ins for what the hosts' text encoding imports beside it."""
    options = SimpleNamespace(
        emphasis="Original", CLIP_stop_at_last_layers=1, sdxl_clip_l_skip=False, comma_padding_backtrack=20
    )
    for name in ("modules", "modules.shared", "modules.devices", "modules.prompt_parser", "modules.sd_hijack"):
        monkeypatch.setitem(sys.modules, name, MagicMock(opts=options))
    return options


def loaded(monkeypatch, folder, name, *parts):
    spec = importlib.util.spec_from_file_location(name, folder.joinpath(*parts))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_forges_own_engine(monkeypatch, modules, parts):
    folder = host("FORGE_PATH") / "backend"
    for name in ("backend", "backend.text_processing"):
        package = ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    device = SimpleNamespace(text_encoder_device=lambda: torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "backend.memory_management", device)
    monkeypatch.setattr(sys.modules["backend"], "memory_management", device, raising=False)
    for part in ("parsing", "emphasis", "textual_inversion"):
        module = loaded(monkeypatch, folder, f"backend.text_processing.{part}", "text_processing", f"{part}.py")
        monkeypatch.setattr(sys.modules["backend.text_processing"], part, module, raising=False)
    classic = loaded(
        monkeypatch, folder, "backend.text_processing.classic_engine", "text_processing", "classic_engine.py"
    )
    text = text_model()
    text.text_model.embeddings.position_ids = torch.arange(77)[None]
    engine = classic.ClassicTextProcessingEngine(SimpleNamespace(transformer=text), parts[1])
    model = Model(engine)
    plain = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on = steered(model)
    moved = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on.end()
    assert moved.shape == plain.shape and not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(model.get_learned_conditioning(Prompts(["a (red:1.3) star"])), plain)


def test_automatic1111s_own_embedder(monkeypatch, modules, parts):
    folder = host("A1111_PATH") / "modules"
    parser = sys.modules["modules.prompt_parser"]
    parser.parse_prompt_attention = lambda line: [["a ", 1.0], ["red", 1.3], [" star", 1.0]]
    monkeypatch.setattr(sys.modules["modules"], "prompt_parser", parser)
    devices = SimpleNamespace(device=torch.device("cpu"), torch_npu_set_device=lambda: None)
    monkeypatch.setattr(sys.modules["modules"], "devices", devices)
    emphasis = loaded(monkeypatch, folder, "modules.sd_emphasis", "sd_emphasis.py")
    monkeypatch.setattr(sys.modules["modules"], "sd_emphasis", emphasis)
    hijack = loaded(monkeypatch, folder, "modules.sd_hijack_clip", "sd_hijack_clip.py")
    modules.use_old_emphasis_implementation = modules.textual_inversion_add_hashes_to_infotext = False
    wrapped = torch.nn.Module()
    wrapped.transformer, wrapped.tokenizer = text_model(), parts[1]
    hijacked = SimpleNamespace(
        fixes=None,
        extra_generation_params={},
        embedding_db=SimpleNamespace(find_embedding_at_position=lambda *_: (None, None)),
    )
    part = hijack.FrozenCLIPEmbedderWithCustomWords(wrapped, hijacked)
    model = SimpleNamespace(cond_stage_model=part, get_learned_conditioning=lambda prompts: part(list(prompts)))
    plain = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on = Steered(model, engines_of(model, modules), [taste()], SteeringSettings(method="eos_token"), pytest.fail)
    moved = model.get_learned_conditioning(Prompts(["a (red:1.3) star"]))
    on.end()
    assert moved.shape == plain.shape and not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(model.get_learned_conditioning(Prompts(["a (red:1.3) star"])), plain)
    assert "encode_with_transformers" not in vars(part)
