"""A user in the web UIs, with stand-ins of their objects: who is chosen, what is done in a run, what it says."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.encoders import load_encoder
from palate.adapters.errors import PPDError
from palate.adapters.files import save_ppd, save_user
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.ui.webui import accordion, extension, infotext
from palate.ui.webui.users import ANY_PPD, NOBODY, ReadyUsers, WantedUser, ppd_names, user_names
from PIL import Image
from torch import Tensor
from webui_denoiser import SHAPE, Patcher, drawn, small_ppd, small_user, wanted


@pytest.fixture
def small() -> PPD:
    return small_ppd()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PALATE_HOME", str(tmp_path))
    for name in ("users", "ppd", "tastes"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The host's settings."""
    found = SimpleNamespace()
    monkeypatch.setattr(extension, "_options", lambda: found)
    return found


@pytest.fixture
def script(home: Path, options: SimpleNamespace) -> Any:
    host = SimpleNamespace(Script=object, AlwaysVisible="always")
    made = extension.script_class(host, MagicMock(__version__="4.40.0"))()
    made.is_img2img = False
    return made


def work(patcher: Any) -> SimpleNamespace:
    """The host's `p`."""
    info = SimpleNamespace(model_name="dreams")
    model = SimpleNamespace(forge_objects=SimpleNamespace(unet=patcher), sd_checkpoint_info=info)
    return SimpleNamespace(sd_model=model, extra_generation_params={}, comment=MagicMock())


def sampled(script: Any, p: SimpleNamespace, patcher: Any, n: Tensor) -> Tensor:
    """As Forge does it before each sampling: its own patcher again, then the scripts."""
    p.sd_model.forge_objects.unet = patcher
    script.process_before_every_sampling(p, *["arguments"] * 9, x=n)
    found: Tensor = p.sd_model.forge_objects.unet.run(n, [1, 0])
    return found


NOTHING = SimpleNamespace(images=[], index_of_first_image=0, all_prompts=[], all_seeds=[])


def test_every_batch_and_the_pass_that_enlarges_are_for_the_person_until_the_end(
    script: Any, home: Path, small: PPD
) -> None:
    save_ppd(small, home / "ppd" / "people")
    save_user(small_user(small), home / "users" / "mara")
    patcher, n = Patcher(), drawn(2, 5, 12)
    p, plain = work(patcher), patcher.run(n, [1, 0])
    script.process(p, "none", 1.0, "auto", "mara.safetensors", 0.5, 0.0, 0.9)
    found = [sampled(script, p, patcher, n) for _ in range(3)]
    assert all(torch.equal(one, found[0]) for one in found) and torch.equal(found[0][0], plain[0])
    torch.testing.assert_close(
        found[0][1:], plain[1:] + 0.5 * wanted(patcher, small, small_user(small), n[1:]), atol=2e-3, rtol=2e-3
    )
    assert p.extra_generation_params == {
        "Palate user": "mara",
        "Palate user strength": "0.5",
        "Palate PPD": "people",
        "Palate user start": "0",
        "Palate user end": "0.9",
    }
    script.postprocess(p, NOTHING)
    assert torch.equal(sampled(script, p, patcher, n), plain)
    p.comment.assert_not_called()


@pytest.mark.parametrize(("name", "strength"), [(NOBODY, 1.0), (None, 1.0), ("mara.safetensors", 0.0)])
def test_nobody_and_strength_zero_touch_nothing(script: Any, name: str | None, strength: float) -> None:
    p, patcher = work(Patcher()), Patcher()
    script.process(p, "none", 1.0, "auto", name, strength)
    sampled(script, p, patcher, drawn(2, 5, 12))
    assert p.sd_model.forge_objects.unet is patcher and p.extra_generation_params == {}


def test_an_interrupted_run_is_over_at_the_next_one(script: Any, home: Path, small: PPD) -> None:
    save_ppd(small, home / "ppd" / "people")
    save_user(small_user(small), home / "users" / "mara")
    patcher = Patcher()
    script.process(work(patcher), "none", 1.0, "auto", "mara.safetensors")
    p = work(patcher)
    script.process(p)
    sampled(script, p, patcher, drawn(2, 5, 12))
    assert p.sd_model.forge_objects.unet is patcher


def test_a_user_that_cannot_be_is_told_in_the_picture_and_the_run_goes_on(script: Any, home: Path, small: PPD) -> None:
    patcher = Patcher()
    for given, said in [
        (("mara.safetensors",), "there is none of this name"),
        (("../store/store.sqlite",), "there is none of this name"),
        (("answers of mara",), "found none in"),
    ]:
        p = work(patcher)
        script.process(p, "none", 1.0, "auto", *given)
        assert said in p.comment.call_args[0][0]
        sampled(script, p, patcher, drawn(2, 5, 12))
        assert p.sd_model.forge_objects.unet is patcher and p.extra_generation_params == {}


def test_a_host_without_a_way_in_says_so(script: Any) -> None:
    p = SimpleNamespace(sd_model=SimpleNamespace(), extra_generation_params={}, comment=MagicMock())
    script.process(p, "none", 1.0, "auto", "answers of mara")
    assert "this host has no way into its denoiser; expected Forge or reForge" in p.comment.call_args[0][0]


def test_another_model_for_the_pass_that_enlarges_is_told_and_left_alone(script: Any, home: Path, small: PPD) -> None:
    save_ppd(small, home / "ppd" / "people")
    save_user(small_user(small), home / "users" / "mara")
    p = work(Patcher())
    script.process(p, "none", 1.0, "auto", "mara.safetensors")
    larger = SimpleNamespace(model=SimpleNamespace(diffusion_model=torch.nn.Linear(1, 1)))
    p.sd_model.forge_objects.unet = larger
    script.process_before_every_sampling(p)
    assert p.sd_model.forge_objects.unet is larger
    assert "in a denoiser of class Linear" in p.comment.call_args[0][0]


def test_a_persons_answers_become_a_user_and_new_ones_count_at_once(home: Path) -> None:
    encoder = load_encoder("playground")
    attention = UserAttention([SHAPE], 6)
    attention.values[0].weight.data += drawn(8, 6, seed=1)
    ppd = PPD(attention, PairsEncoder(96, 6, tokens=2, hidden=32), "custom", "x", encoder.identity, "playground")
    save_ppd(ppd, home / "ppd" / "people")
    (home / "ppd" / "other.safetensors").write_bytes(b"nothing of ours")
    with PreferenceStore(home / "store") as store:
        ids = [store.add_image(Image.new("RGB", (16, 16), (60 * n, 9, 9))) for n in range(4)]
        store.add(Comparison("mara", ids[0], ids[1], "left"))
        assert user_names() == [NOBODY, "answers of mara"] and ppd_names() == [
            ANY_PPD,
            "other.safetensors",
            "people.safetensors",
        ]
        users, patcher, asked = ReadyUsers(), Patcher(), WantedUser("answers of mara")
        first, file = users.get(asked, patcher)
        assert file == "people.safetensors" and users.get(asked, patcher)[0] is first
        store.add(Comparison("mara", ids[2], ids[3], "right"))
        second, _ = users.get(asked, patcher)
    assert not torch.equal(first.cond.keys[0], second.cond.keys[0])


def test_a_users_file_finds_the_weights_that_made_it(home: Path, small: PPD) -> None:
    attention = UserAttention([SHAPE], 6, seed=5)
    save_ppd(small, home / "ppd" / "old")
    other = save_ppd(PPD(attention, None, "custom", "other"), home / "ppd" / "new")
    os.utime(other, (2e9, 2e9))
    save_user(small_user(small), home / "users" / "mara")
    assert ReadyUsers().get(WantedUser("mara.safetensors"), Patcher())[1] == "old.safetensors"
    with pytest.raises(PPDError, match="was made by the PPD"):
        ReadyUsers().get(WantedUser("mara.safetensors", "new.safetensors"), Patcher())


# -- what is shown


def shown(monkeypatch: pytest.MonkeyPatch, users: bool) -> tuple[MagicMock, list[Any], list[Any]]:
    monkeypatch.setattr(accordion, "host_takes_users", lambda: users)
    gradio = MagicMock()
    gradio.update = lambda **changes: changes
    for kind in ("Dropdown", "Slider", "Textbox"):
        setattr(gradio, kind, MagicMock(side_effect=lambda *_, **__: MagicMock()))
    return gradio, *accordion.accordion(gradio, ["encoder"])


def test_an_infotext_that_is_pasted_sets_all_again(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for file in ("tastes/mara", "users/mara", "ppd/people"):
        (home / f"{file}.safetensors").touch()
    _, inputs, fields = shown(monkeypatch, True)
    said = {
        "Palate taste": "mara",
        "Palate strength": "0.7",
        "Palate way": "encoder",
        "Palate user": "mara",
        "Palate user strength": "-1",
        "Palate user start": "0.2",
        "Palate PPD": "people",
    }
    assert [component for component, _ in fields] == inputs[:-1]  # the encoder is a path of this machine
    found = [field(said) for _, field in fields]
    file = "mara.safetensors"
    assert [one["value"] if isinstance(one, dict) else one for one in found] == [
        file, "0.7", "encoder", file, "-1", "0.2", "1", "people.safetensors",
    ]  # fmt: skip
    found = [field({"Palate user": "gone"}) for _, field in fields]
    assert [one["value"] for one in (found[0], found[3], found[7])] == ["none", NOBODY, ANY_PPD]


def test_without_names_an_infotext_says_which_taste_and_user_and_comes_back_by_paste(
    monkeypatch: pytest.MonkeyPatch, script: Any, options: SimpleNamespace, home: Path, small: PPD
) -> None:
    added: dict[str, Any] = {}
    infotext.add_setting(SimpleNamespace(opts=SimpleNamespace(add_option=added.__setitem__), OptionInfo=MagicMock()))
    setattr(options, *added, True)
    save_ppd(small, home / "ppd" / "people")
    user = save_user(small_user(small), home / "users" / "mara")
    p = work(Patcher())
    script.process(p, "none", 1.0, "auto", "mara.safetensors")
    said = p.extra_generation_params
    assert said["Palate user"] == "#" + hashlib.sha256(user.read_bytes()).hexdigest()[:12]
    with monkeypatch.context() as unread:
        unread.setattr(Path, "open", lambda file, *_: pytest.fail(f"{file.name} was read again"))
        assert infotext.told("mara.safetensors", home / "users", options) == said["Palate user"]
    (home / "tastes" / "mara.safetensors").write_bytes(b"a taste")
    with PreferenceStore(home / "store") as store:
        ids = [store.add_image(Image.new("RGB", (16, 16), (60 * n, 9, 9))) for n in range(3)]
        for person, image in (("mara", ids[1]), ("otto", ids[2])):
            store.add(Comparison(person, ids[0], image, "left"))
    _, _, fields = shown(monkeypatch, True)
    for key, name, folder in (
        ("Palate taste", "mara.safetensors", "tastes"),
        ("Palate user", "mara.safetensors", "users"),
        ("Palate user", "answers of otto", "users"),
    ):
        text = infotext.told(name, home / folder, options)
        field = fields[0 if key == "Palate taste" else 3][1]
        assert text.startswith("#") and field({key: text})["value"] == name
        assert field({key: "#000000000000"})["value"] == NOBODY


def test_a_host_without_a_way_in_shows_no_inputs_for_it_and_says_why(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    gradio, inputs, fields = shown(monkeypatch, False)
    assert len(inputs) == len(fields) == 3
    assert "not in this host" in gradio.Markdown.call_args[0][0]
    assert not shown(monkeypatch, True)[0].Markdown.called


@pytest.mark.parametrize("users", [True, False])
def test_the_tab_says_what_this_host_can(monkeypatch: pytest.MonkeyPatch, users: bool) -> None:
    from palate.ui.webui import tab

    monkeypatch.setattr(tab, "host_takes_users", lambda: users)
    gradio = MagicMock()
    tab.palate_tab(gradio)
    text = gradio.Markdown.call_args[0][0]
    assert ("draws for a user" in text) == users
    assert ("Automatic1111 has no way into its denoiser" in text) != users
