"""`palate train lora`, from a store to a file."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import StoreError
from palate.adapters.files.lora_file import load_lora_file, require_replaceable_lora, save_lora
from palate.adapters.finetune.protocol import STOP, STOPPED, Event, Finished, Prepared, Stepped, read_line
from palate.ui.cli import main
from palate.ui.train import _require_place, _Told
from palate.ui.training import Lines
from PIL import Image
from safetensors.torch import save_file


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A training on eight answers that takes a moment."""
    monkeypatch.setenv("PALATE_HOME", str(tmp_path / "home"))
    with PreferenceStore(tmp_path / "home" / "store") as store:
        for k in range(8):
            light, dark = (store.add_image(Image.new("RGB", (16, 16), (c + k, c, c))) for c in (200, 40))
            store.add(Comparison("mara", light, dark, "left", prompt="a red star"))
    model = tiny.write_pipeline(tmp_path / "tiny")
    quick = ["--steps", "4", "--batch", "2", "--rank", "2", "--size", "16", "--device", "cpu"]
    return ["train", "lora", "--person", "mara", "--model", str(model), *quick]


@pytest.mark.parametrize("loss", ["mapo", "adaptive_dpo"])
def test_answers_become_a_lora_and_it_says_how_good_it_is(loss: str, command: list[str], tmp_path, capsys) -> None:
    assert main([*command, "--loss", loss, "-o", str(tmp_path / "mine")]) == 0
    told = capsys.readouterr()
    assert "comparisons it did not see" in told.out and "Load LoRA" in told.out
    assert f"8 comparisons of 'mara', loss {loss}." in told.err and "step 4/4" in told.err
    _, about = load_lora_file(tmp_path / "mine.safetensors")
    assert about["palate.loss"] == loss and about["palate.person"] == "mara"


def test_answers_whose_pictures_are_gone_are_counted(command: list[str], tmp_path: Path, capsys) -> None:
    with PreferenceStore(tmp_path / "home" / "store") as store:
        store.image_path(store.comparisons("mara")[0].left).unlink()
    assert main(command) == 0
    assert "7 comparisons of 'mara', loss mapo. Left out: 1 whose pictures are gone." in capsys.readouterr().err


def test_private_leaves_the_name_out_and_a_second_run_is_at_once(command: list[str], tmp_path, capsys) -> None:
    for _ in range(2):
        assert main([*command, "--private", "-o", str(tmp_path / "home")]) == 0
    (file,) = (tmp_path / "home").glob("*.safetensors")
    assert "palate.person" not in load_lora_file(file)[1]
    assert "step 4/4" not in capsys.readouterr().err.split("comparisons of")[2]


def test_mistakes_are_one_sentence(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert main([*command, "--loss", "dop"]) == 2
    assert "loss 'dop'; expected one of" in capsys.readouterr().err
    assert main([*command, "--person", "nobody"]) == 2
    assert "'nobody': found none" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(command) == 2
    assert "python install.py train" in capsys.readouterr().err


def test_mistakes_are_told_before_torch_is_loaded(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    wrong = [["--loss", "dop"], ["--person", "nobody"], ["--model", "nothing"], ["--model", str(tmp_path / "folder")]]
    wrong += [["--full", "--merge", "all"], ["--rank", "0"]]
    look = (
        "import sys; from palate.ui import cli\n"
        f"print([cli.main([*{command[:4]}, *one]) for one in {wrong}], 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{[2] * len(wrong)} False\n"
    assert "'nothing': no such folder or file" in ran.stderr and "a folder without model_index.json" in ran.stderr
    assert not (tmp_path / "home" / "training").exists()


def test_where_nothing_can_be_saved_is_told_before_it_trains(command: list[str], tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("no folder")
    for option in ("-o", "--merge"):
        assert main([*command, option, str(tmp_path / "file" / "mine")]) == 2
        assert "file is no folder; expected a folder that can be written" in capsys.readouterr().err
    assert not (tmp_path / "home" / "training").exists()


def test_a_file_that_is_no_model_is_told_by_its_header(command: list[str], tmp_path, monkeypatch, capsys) -> None:
    save_file({"a.lora_up.weight": torch.zeros(2, 4)}, tmp_path / "lora.safetensors")
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main([*command, "--model", str(tmp_path / "lora.safetensors")]) == 2
    assert "found a LoRA" in capsys.readouterr().err


def test_it_says_where_it_goes_on_and_that_nothing_was_left_to_do(tmp_path, capsys) -> None:
    (tmp_path / "mine").write_bytes(b"lora")
    done = Finished(str(tmp_path / "mine"), "Good.", True, 4)
    told = _Told(terminal=True)
    for event in (Prepared(2, 2), Stepped(3, 4, 4e-8), Stepped(4, 4, 0.5), done):
        told(event)
    said = capsys.readouterr().err
    assert "loss 4e-08" in said  # IPO's are as small as that
    assert "pictures read: 2 of 2" in said and "Going on after step 2 of 4." in said and "no step was left" not in said
    told = _Told(terminal=False)
    told(Prepared(2, 2))
    told(done)
    assert capsys.readouterr().err == "It had come to its end before: no step was left to do.\n"


def test_stopped_before_the_first_step_it_says_so_and_loads_nothing(command, tmp_path, monkeypatch, capsys) -> None:
    import palate.adapters.finetune.personal as personal

    def begun(file: Path, anew: bool, among: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("palate.adapters.finetune.checkpoint.begin_training", begun)
    monkeypatch.setattr(personal, "open_model", None)
    assert main(command) == STOPPED
    assert "begins again: no step was done yet" in capsys.readouterr().err


def test_stopped_as_nobody_reads_any_more_is_not_done(command, tmp_path, monkeypatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            if "Training stopped" in text:
                raise BrokenPipeError
            return super().write(text)

    def begun(file: Path, anew: bool, among: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("palate.adapters.finetune.checkpoint.begin_training", begun)
    monkeypatch.setattr(sys, "stderr", Gone())
    assert main(command) == STOPPED


def test_no_place_for_a_file_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, found in (
        (Path(tmp_path.anchor), "is no folder|nothing can"),
        (tmp_path / "file" / "x", "is no folder"),
    ):
        with pytest.raises(StoreError, match=f"Cannot save .*({found})"):
            _require_place(place)
    _require_place(tmp_path / "new" / "mine.safetensors")


def test_another_program_reads_lines_and_nothing_else(command: list[str], tmp_path, capsys) -> None:
    assert main([*command, "--json"]) == 0
    told = [read_line(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [type(event) for event in told]
    assert kinds == sorted(kinds, key=[Prepared, Stepped, Finished].index) and kinds.count(Stepped) == 4
    assert told[-2].judgement["accuracy"] >= 0 and "did not see" in told[-1].summary
    assert Path(told[-1].file).parent == tmp_path / "home" / "loras"
    assert main([*command, "--json", "--person", "nobody"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "'nobody': found none" in read_line(line).text


def test_a_file_stop_ends_it_with_a_checkpoint_that_it_goes_on_from(command, tmp_path, monkeypatch, capsys) -> None:
    folder = tmp_path / "home" / "training" / "mine"

    def tell(self: Lines, event: Event) -> None:
        told.append(event)
        if isinstance(event, Stepped) and event.step == 2:
            (folder / STOP).write_text("")

    told: list[Event] = []
    monkeypatch.setattr(Lines, "__call__", tell)
    quick = [*command, "--json", "--name", "mine"]
    assert main(quick) == STOPPED == 130
    assert told[-1].step == 2 and not (folder / STOP).exists()
    assert "goes on from the last checkpoint" in capsys.readouterr().err
    told.clear()
    assert main(quick) == 0
    assert next(event.step for event in told if isinstance(event, Stepped)) == 3
    told.clear()
    assert main([*quick, "--anew"]) == STOPPED
    assert next(event.step for event in told if isinstance(event, Stepped)) == 1


def test_what_is_installed_and_broken_is_said_to_be_broken(command: list[str], tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "peft.py").write_text("raise ImportError('no operator nms', name='torchvision')")
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(command) == 2
    assert "can't be loaded (no operator nms)" in capsys.readouterr().err


def test_a_lora_takes_the_place_of_ones_own_and_of_no_others(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.safetensors"
    require_replaceable_lora(theirs, "mara")
    theirs.write_bytes(b"something else")
    with pytest.raises(StoreError, match="is no LoRA of Palate's"):
        require_replaceable_lora(theirs, "mara")
    state = {"a.down": torch.zeros(2, 4), "a.up": torch.zeros(4, 2)}
    save_lora(state, theirs, "sd15", {"palate.person": "otto"})
    with pytest.raises(StoreError, match="another person's"):
        require_replaceable_lora(theirs, "mara")
    require_replaceable_lora(theirs, "otto")
