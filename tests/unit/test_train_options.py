"""`palate train lora` on pairs from elsewhere, in stages, with samples and merged models."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import steering_models as tiny
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import SteeringError
from palate.adapters.files.lora_file import load_lora_file
from palate.ui.cli import main
from palate.ui.train_options import require_model
from PIL import Image


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    model = tiny.write_pipeline(tmp_path / "tiny")
    quick = ["--steps", "2", "--batch", "2", "--rank", "2", "--size", "16", "--device", "cpu"]
    return ["train", "lora", "--model", str(model), *quick]


def folders(path: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for k in range(7):
            Image.new("RGB", (16, 16), (40 + 150 * shade + k, k, k)).save(path / name / f"{k}.png")
    return path


def test_stages_on_folders_with_samples_and_a_merged_model(command: list[str], tmp_path: Path, capsys) -> None:
    data = folders(tmp_path / "pairs", "chosen", "rejected")
    more = ["--data", str(data), "--prompt", "a red star", "--loss", "sft,dpo", "--samples", "1", "--json"]
    assert main([*command, *more, "--merge", str(tmp_path / "merged"), "-o", str(tmp_path / "mine")]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["step"] for one in told if one["event"] == "step"] == [1, 2, 3, 4]
    assert [one["step"] for one in told if one["event"] == "sample"] == [0, 2]
    assert all(Path(file).is_file() for one in told if one["event"] == "sample" for file in one["files"])
    assert told[-1]["event"] == "done" and (tmp_path / "merged" / "model_index.json").is_file()
    _, about = load_lora_file(tmp_path / "mine.safetensors")
    assert main(["show", str(tmp_path / "mine.safetensors")]) == 0
    assert re.search(r"Loss +sft, dpo\n", capsys.readouterr().out)
    assert "sft" in about["palate.stages"] and "palate.person" not in about and about["palate.pairs"] == "7"
    file = str(tmp_path / "mine.safetensors")
    export = ["export", "checkpoint", "--model", str(tmp_path / "tiny"), "--lora", file, "--strength", "0.5"]
    assert main([*export, "-o", str(tmp_path / "half")]) == 0
    assert "half." in capsys.readouterr().out and (tmp_path / "half" / "unet").is_dir()


def test_liked_pictures_alone(command: list[str], tmp_path: Path, capsys) -> None:
    liked = folders(tmp_path, "mine") / "mine"
    how = ["--loss", "mapo", "--variant", "paper_prefactor", "--check-every", "1", "--caption-dropout", "0.5"]
    assert main([*command, "--liked", str(liked), "--prompt", "a red star", *how, "--name", "cat"]) == 0
    assert len(list((tmp_path / "home" / "training" / "cat" / "sampled").glob("*.png"))) == 7
    _, about = load_lora_file(tmp_path / "home" / "loras" / "cat.safetensors")
    kept = [about[f"palate.{name}"] for name in ("variant", "check_every", "caption_dropout")]
    assert kept == ["paper_prefactor", "1", "0.5"]


def test_a_folder_of_the_playgrounds_name_is_not_the_playground(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "playground").mkdir()
    monkeypatch.chdir(tmp_path)
    require_model("playground")
    with pytest.raises(SteeringError, match="a folder without model_index"):
        require_model("./playground")


def test_liked_pictures_without_a_prompt_are_told_before_a_model_is_loaded(
    command, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("palate.adapters.finetune.liked.paints_of", None)
    liked = ["--liked", str(folders(tmp_path, "mine") / "mine")]
    assert main([*command, *liked]) == main([*command, *liked, "--prompt", "  "]) == 2
    assert capsys.readouterr().err.count("has no prompt") == 2


def test_mistakes_are_said_before_anything_is_loaded(command: list[str], tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for more, said in (
        (["--data", str(tmp_path / "nothing")], "no such file or folder"),
        (["--loss", "sft,dop"], "loss 'dop'"),
        (["--optimizer", "sgd"], "optimizer 'sgd'"),
        (["--fixed-noise", "-1"], "fixed_noise is -1"),
        (["--loss", "dpo", "--variant", "released"], "with dpo: variant 'released'; expected none"),
        (["--loss", "cdpo", "--flip-rate", "0.5"], "flip_rate is 0.5"),
        (["--loss", "rpo", "--temperature", "0"], "temperature is 0"),
        (["--full", "--merge", "all.safetensors"], "--merge would do nothing; expected it without --full"),
        (["--flip-rate", "0.2"], "--flip-rate would do nothing; expected it with --loss cdpo or rdpo"),
        (["--temperature", "1"], "--temperature would do nothing"),
        (["--limit", "5"], "--limit would do nothing"),
        (["--limit", "0", "--data", "pairs"], "--limit is 0"),
        (["--data", ""], "--data is empty"),
        (["--each", "0"], "--each is 0"),
    ):
        assert main([*command, *more]) == 2
        assert said in capsys.readouterr().err


def test_doubted_answers_are_left_out_and_said(command: list[str], tmp_path: Path, capsys) -> None:
    """Thirty-nine answers for the lighter picture and one for the darker, from a folder and from a store."""
    data = tmp_path / "pairs"
    for side in ("chosen", "rejected"):
        (data / side).mkdir(parents=True)
    home = tmp_path / "home"
    with PreferenceStore(home / "store") as store:
        for k in range(40):
            shades = (40, 190) if k == 39 else (190, 40)
            ids = []
            for side, shade in zip(("chosen", "rejected"), shades, strict=True):
                picture = Image.new("RGB", (16, 16), (shade + k, k, k))
                picture.save(data / side / f"{k}.png")
                ids.append(store.add_image(picture))
            store.add(Comparison("mara", *ids, "left", prompt="a red star"))
            bright = {name: [shade / 100, 1.0] for name, shade in zip(ids, shades, strict=True)}
            store.put_vectors("bright", {name: np.array(vector) for name, vector in bright.items()})
    drop = [*command, "--drop-doubted"]
    assert main([*drop, "--person", "mara", "--json", "-o", str(tmp_path / "mine")]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (out,) = (one for one in told if one["event"] == "left_out")
    (line,) = Path(out["file"]).read_text().splitlines()
    assert out["count"] == 1 and out["of"] == 34 and json.loads(line)["chosen"].endswith(f"{ids[0]}.png")
    _, about = load_lora_file(tmp_path / "mine.safetensors")
    assert about["palate.dropped"] == "1 of 34" and about["palate.drop_doubted"] == "True"
    assert json.loads(about["palate.dropped_pairs"])[0][:2] == ids and about["palate.pairs"] == "40"
    assert main(["show", str(tmp_path / "mine.safetensors")]) == 0
    assert "Left out as doubted  1 of 34" in capsys.readouterr().out
    folder = ["--data", str(data), "--prompt", "a red star"]
    assert main([*drop, *folder]) == 2
    assert "vectors for the pictures of 0 of 34 answers" in capsys.readouterr().err
    assert main([*drop, *folder, "--encoder", "playground"]) == 0
    assert "of 34 answers" in capsys.readouterr().err
