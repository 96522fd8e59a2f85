"""`palate train ppd` where people are known by profiles of a vision-language model, or by name."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import PPDError
from palate.adapters.files import load_user
from palate.adapters.files.ppd_file import describe_ppd, load_ppd, save_ppd
from palate.adapters.ppd import describing
from palate.adapters.ppd import training as loop
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.batches import batch_of
from palate.adapters.ppd.data import PreparedPPD, support_of
from palate.adapters.ppd.known import DescribedPeople, chunks_of, split_pairs
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.adapters.ppd.profiles import Profile
from palate.ui.cli import main
from PIL import Image

STATES, WIDE = 3, 8


class Sizes:
    num_hidden_layers, hidden_size = STATES - 1, WIDE

    def get_text_config(self):
        return self


class Model:
    config = Sizes()


class Describes:
    """Stands for LLaVA-OneVision, which `test_ppd_vlm.py` has as it is: says how red the chosen pictures are."""

    name, identity, model = "describer", "d" * 64, Model()
    loaded, asked = 0, 0

    def profile(self, pairs, length: int) -> Profile:
        Describes.asked += 1
        red = sum(pair.chosen.getpixel((0, 0))[0] - pair.rejected.getpixel((0, 0))[0] for pair in pairs) / len(pairs)
        draw = torch.Generator().manual_seed(int(red))
        return Profile(f"User Profile: likes {red:.0f}", torch.randn(STATES, WIDE, generator=draw), length)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A training on four people's answers, six each, that takes a moment."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))

    def load(*asked) -> Describes:
        Describes.loaded += 1
        return Describes()

    monkeypatch.setattr(describing, "load_vlm", load)
    monkeypatch.setattr("palate.adapters.ppd.profiles.load_vlm", load)
    Describes.loaded = Describes.asked = 0
    with PreferenceStore(tmp_path / "home" / "store") as store:
        ids = [store.add_image(Image.new("RGB", (16, 16), (20 * k, 10, 10))) for k in range(12)]
        for person in range(4):
            for k in range(6):
                store.add(Comparison(f"p{person}", ids[2 * k + person % 2], ids[2 * k + 1 - person % 2], "left"))
    model = tiny.write_pipeline(tmp_path / "tiny")
    quick = ["--steps", "2", "--batch", "2", "--size", "16", "--check-every", "2", "--device", "cpu", "--seed", "1"]
    return ["train", "ppd", "--model", str(model), "--encoder", str(model / "clip"), *quick]


def test_profiles_are_made_once_and_the_ppd_says_whose_they_are(command: list[str], tmp_path: Path, capsys) -> None:
    """Six answers are two chunks of three: four people have eight profiles."""
    known = ["--user-encoder", "vlm", "--vlm", "somewhere", "--profile-length", "7", "--name", "told"]
    assert main([*command, *known, "--prepare-only"]) == 0
    assert (Describes.loaded, Describes.asked) == (1, 8)
    files = sorted((tmp_path / "home" / "training" / "ppd-told" / "profiles").glob("*.safetensors"))
    assert len(files) == 8
    files[0].unlink()
    assert main([*command, *known]) == 0
    assert (Describes.loaded, Describes.asked) == (2, 9)
    told = capsys.readouterr()
    assert "profiles: 8 of 8" in told.err and "people it never saw" in told.out
    assert main([*command, *known, "--anew"]) == 0
    assert Describes.loaded == 2
    file = tmp_path / "home" / "ppd" / "told.safetensors"
    said = describe_ppd(file)
    assert (said.kind, said.image_encoder, said.image_encoder_name) == ("vlm", "d" * 64, "describer")
    assert said.config["states"] == STATES and said.config["state_width"] == WIDE

    capsys.readouterr()
    make = ["user", "p1", "--ppd", str(file), "-o", str(tmp_path / "p1")]
    assert main(make) == 2 and "knows people by profiles of describer" in capsys.readouterr().err
    assert main([*make, "--vlm", "somewhere"]) == 0
    user = load_user(tmp_path / "p1.safetensors", load_ppd(file))
    assert (user.pairs, user.count, user.encoder) == (4, STATES, "d" * 64)
    Describes.identity = "e" * 64
    try:
        assert main([*make, "--vlm", "other"]) == 2 and "found describer (eeee" in capsys.readouterr().err
    finally:
        Describes.identity = "d" * 64


def test_rewards_by_name_have_tokens_of_their_own(command: list[str], tmp_path: Path, capsys) -> None:
    assert main([*command, "--user-encoder", "learned", "--name", "rewards"]) == 0
    told = capsys.readouterr()
    assert "4 people whom it knows by name, on pairs of theirs that it never saw" in told.out
    assert "Held out: some pairs of each." in told.err and "pairs it never saw: " in told.err
    file = tmp_path / "home" / "ppd" / "rewards.safetensors"
    ppd = load_ppd(file)
    assert ppd.encoder.names == ("p0", "p1", "p2", "p3") and not ppd.image_encoder
    assert main(["user", "p2", "--ppd", str(file), "-o", str(tmp_path / "p2")]) == 0
    how = f"palate generate PROMPT --ppd {file} --user {tmp_path / 'p2.safetensors'}"
    assert f"Known by name, for {ppd.base} models. Pictures: {how}" in capsys.readouterr().err
    torch.testing.assert_close(load_user(tmp_path / "p2.safetensors", ppd).tokens, ppd.encoder.values[2].detach())
    assert main(["user", "p9", "--ppd", str(file), "-o", str(tmp_path / "p9")]) == 2
    assert "'p9': found p0, p1, p2, p3" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["vlm", "learned"])
def test_a_stopped_one_goes_on_to_the_bit(command: list[str], tmp_path: Path, kind: str, monkeypatch) -> None:
    known = ["--user-encoder", kind, "--save-every", "0"]
    assert main([*command, *known, "--name", "whole"]) == 0
    step = loop.Stepper.step

    def stopping(self, number: int):
        if number == 1:
            raise KeyboardInterrupt
        return step(self, number)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Stepper, "step", stopping)
        assert main([*command, *known, "--name", "parts"]) == 130
    assert main([*command, *known, "--name", "parts"]) == 0
    whole, parts = (describe_ppd(tmp_path / "home" / "ppd" / f"{name}.safetensors") for name in ("whole", "parts"))
    assert whole.identity == parts.identity and whole.kind == kind


def test_the_attention_of_another_ppd_is_a_start_and_its_own_kind_goes_on(command: list[str], tmp_path: Path) -> None:
    from palate.adapters.ppd.layers import layers_of, width_of
    from palate.adapters.steering.pipelines import load_pipeline

    unet = load_pipeline(Path(command[3]), torch.float32).pipeline.unet
    start = PPD(UserAttention(layers_of(unet), width_of(unet)), PairsEncoder(5, width_of(unet)), "custom", "first")
    start.attention.values[0].weight.data.fill_(0.25)
    save_ppd(start, tmp_path / "first.safetensors")
    learned = [*command, "--user-encoder", "learned", "--learning-rate", "1e-9"]
    assert main([*learned, "--start", str(tmp_path / "first.safetensors"), "--name", "second"]) == 0
    second = load_ppd(tmp_path / "home" / "ppd" / "second.safetensors")
    torch.testing.assert_close(second.attention.values[0].weight, start.attention.values[0].weight, atol=1e-3, rtol=0)
    assert second.name == "started from first" and second.encoder.kind == "learned"
    again = [*learned, "--start", str(tmp_path / "home" / "ppd" / "second.safetensors"), "--seed", "9"]
    assert main([*again, "--name", "third"]) == 0
    third = load_ppd(tmp_path / "home" / "ppd" / "third.safetensors")
    torch.testing.assert_close(third.encoder.values, second.encoder.values, atol=2e-3, rtol=1e-3)


def test_mistakes_are_one_sentence(command: list[str], capsys) -> None:
    for more, match in [
        (["--user-encoder", "face"], "known by 'face'; expected one of pairs, vlm, learned"),
        (["--vlm", "somewhere"], "expected these with --user-encoder vlm"),
        (["--user-encoder", "vlm", "--profile-length", "1"], "in 1 tokens"),
    ]:
        assert main([*command, *more]) == 2
        assert match in capsys.readouterr().err


def people(each: int = 6, count: int = 2) -> PreparedPPD:
    rows = torch.tensor([(2 * k, 2 * k + 1, 0, person) for person in range(count) for k in range(each)])
    names = tuple(f"p{person}" for person in range(count))
    return PreparedPPD(torch.zeros(2 * each, 4, 2, 2), torch.zeros(2 * each, 5), rows, torch.zeros(2, 3, 6), names)


def test_a_profile_never_speaks_of_the_pair_that_is_asked_about(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    data = people(9)
    chunks = chunks_of(data, 20)
    assert [len(chunk) for chunk in chunks] == [4, 4, 4, 4] and chunks == chunks_of(data, 20)
    assert [len(chunk) for chunk in chunks_of(people(5), 20)] == [2, 2, 2, 2] and len(chunks_of(data, 1)) == 2
    for number in range(4):
        save_file({"states": torch.full((STATES, WIDE), float(number))}, tmp_path / str(number))
    described = DescribedPeople(data, tuple(tmp_path / str(n) for n in range(4)), tuple(chunks), (STATES, WIDE))
    for row in range(18):
        known = support_of(described, row // 9, row, 16, random.Random(row))
        assert known and all(row not in chunks[number] and number // 2 == row // 9 for number in known)
    batch = batch_of(described, [0, 17], [[1], []], torch.device("cpu"))
    assert batch.liked.shape == (2, 1, STATES * WIDE) and batch.mask.tolist() == [[True], [False]]
    assert bool((batch.liked[0] == 1.0).all())
    (tmp_path / "1").write_bytes(b"broken")
    with pytest.raises(PPDError, match="Cannot read the profile 1"):
        described.known(1)


def test_pairs_that_are_held_out_share_no_picture_of_theirs_with_the_others() -> None:
    data = people(8)
    trained, held = split_pairs(data, 0.25, 0)
    assert held is not None and len(held) == 4 and len(trained) == 12
    assert not set(trained.rows) & set(held.rows) and [len(held.pairs_of(person)) for person in (0, 1)] == [2, 2]
    assert support_of(held, 1, 2, 16, random.Random(0)) == [1] and held.known(1).tolist() == [0.0, 1.0]
    assert split_pairs(people(3), 0.1, 0)[1] is None and split_pairs(data, 0.0, 0)[1] is None
