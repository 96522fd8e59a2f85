"""What goes wrong while training: clear words, and the last good checkpoint safe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from palate.adapters.errors import CancelledError, FineTuneError, ImageError, SteeringError, StoreError
from palate.adapters.finetune.checkpoint import begin_training, only_training, write_checkpoint
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.merging import require_new
from palate.adapters.finetune.noising import Noising
from palate.adapters.finetune.pairs import LabelledPair
from palate.adapters.finetune.personal import train_personal_lora
from palate.adapters.finetune.prepared import Prepared
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.finetune.several import Several
from palate.adapters.finetune.step import Denoiser
from palate.adapters.finetune.told import Trained
from palate.adapters.finetune.weights import all_parameters
from PIL import Image

SETTINGS = TrainSettings(full=True, loss="mapo", steps=6, batch=2, learning_rate=1e-2, check_every=3, save_every=2)


class Small(torch.nn.Module):
    """Predicts noise from latents, as a UNet does; from some call on it may give NaN."""

    def __init__(self, breaks_at: int = -1) -> None:
        super().__init__()
        self.config, self.calls, self.breaks_at = SimpleNamespace(), 0, breaks_at
        self.mixed = torch.nn.Parameter(0.1 * torch.ones(4, 4, 3, 3))

    def forward(self, noisy: torch.Tensor, *_: object, **__: object) -> SimpleNamespace:
        self.calls += 1
        factor = math.nan if self.calls == self.breaks_at else 1.0
        return SimpleNamespace(sample=factor * torch.nn.functional.conv2d(noisy, self.mixed, padding=1))


def train(folder: Path, model: Small | None = None, settings: TrainSettings = SETTINGS, **more: object) -> Trained:
    generator = torch.Generator().manual_seed(0)
    sides = torch.randn(2, 6, 4, 6, 6, generator=generator)
    data = Prepared(tuple(sides[0]), tuple(sides[1]), (0,) * 6, torch.zeros(2, 5, 6))
    noising = Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100)
    denoiser = Denoiser(model or Small(), noising, torch.device("cpu"), torch.float32)
    return train_lora(denoiser, all_parameters(denoiser.unet), data, None, settings, folder, **more)


def test_nan_in_the_middle_ends_it_and_it_goes_on_from_before(tmp_path: Path) -> None:
    at_once = train(tmp_path / "one")
    with pytest.raises(FineTuneError, match=r"loss is nan at step 5.*last checkpoint is safe.*lower learning rate"):
        train(tmp_path / "two", Small(breaks_at=5))
    assert torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)["step"] == 4
    assert torch.equal(train(tmp_path / "two").state["mixed"], at_once.state["mixed"])


def test_nan_before_anything_was_trained_is_the_models(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match=r"Cannot begin training: the loss is nan.*--precision float32"):
        train(tmp_path, Small(breaks_at=1))


def test_nan_at_the_start_of_a_later_stage_names_the_stage(tmp_path: Path) -> None:
    """Six steps of sft ask the model six times; the reference of the second stage is asked after the model itself."""
    stages = replace(SETTINGS, stages=("sft",), loss="dpo")
    with pytest.raises(FineTuneError, match=r"Cannot begin the stage dpo: the loss is nan.*--anew"):
        train(tmp_path, Small(breaks_at=7), stages)


def test_a_gradient_without_end_moves_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Small()
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: torch.tensor(math.inf))
    before = model.mixed.detach().clone()
    with pytest.raises(FineTuneError, match="its gradient inf"):
        train(tmp_path, model)
    assert torch.equal(model.mixed, before)


def test_a_disk_that_fills_at_a_checkpoint_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = train(tmp_path / "one")
    real, saves = torch.save, iter([True, False])

    def save(state: object, file: object) -> None:
        if not next(saves):
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: No space left on device")
        real(state, file)

    monkeypatch.setattr("torch.save", save)
    with pytest.raises(FineTuneError, match=r"No space left on device.*The last checkpoint is safe; make room"):
        train(tmp_path / "two")
    monkeypatch.setattr("torch.save", real)
    assert [file.name for file in (tmp_path / "two").glob("*check*")] == ["checkpoint.pt"]
    told: list[int] = []
    again = train(tmp_path / "two", on_step=lambda step: told.append(step.step))
    assert told == [3, 4, 5, 6] and torch.equal(again.state["mixed"], at_once.state["mixed"])


def test_a_disk_that_is_full_from_the_start_claims_no_checkpoint(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 64 vs 0")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(FineTuneError, match=r": the disk is full, or fails\. There was no checkpoint before it"):
        train(tmp_path)


def test_two_trainings_at_once_are_one_too_many(tmp_path: Path) -> None:
    with only_training(tmp_path), pytest.raises(FineTuneError, match="another training is at work there"):
        train(tmp_path)
    assert train(tmp_path).steps == 6


def test_a_stage_that_was_stopped_is_not_gone_on_with_by_another_training(tmp_path: Path) -> None:
    staged = replace(SETTINGS, stages=("sft",))
    stop: Iterator[bool] = iter([False, False, False, True])
    with pytest.raises(CancelledError):
        train(tmp_path, settings=staged, cancelled=lambda: next(stop))
    with pytest.raises(FineTuneError, match=r"begun with seed 0 \(now 1\), and stopped"):
        train(tmp_path, settings=replace(staged, seed=1))
    assert train(tmp_path, settings=staged).steps == 6


def test_begun_anew_it_forgets_stopped_stages_too(tmp_path: Path) -> None:
    stop: Iterator[bool] = iter([False, True])
    with pytest.raises(CancelledError):
        train(tmp_path, settings=replace(SETTINGS, stages=("sft",)), cancelled=lambda: next(stop))
    begin_training(tmp_path, True, Several())
    assert train(tmp_path, settings=replace(SETTINGS, stages=("sft",), seed=1)).steps == 6


def test_what_another_version_began_is_said_to_be_so(tmp_path: Path) -> None:
    """A setting that it didn't know, something that it didn't keep, or fewer weights; what had ended makes room."""
    stop: Iterator[bool] = iter([False, False, True])
    with pytest.raises(CancelledError):
        train(tmp_path, cancelled=lambda: next(stop))
    begun = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    settings = {name: value for name, value in begun["settings"].items() if name != "drop_doubted"}
    older = {name: value for name, value in begun.items() if name != "looks"}
    for state in ({**begun, "settings": settings}, older, {**begun, "parameters": []}):
        write_checkpoint(tmp_path, state)
        with pytest.raises(FineTuneError, match=r"another version of Palate began it.*--anew"):
            train(tmp_path)
    write_checkpoint(tmp_path, {**older, "ended": True})
    assert train(tmp_path).steps == 6


# -- before it begins


def test_a_model_is_not_written_over_itself(tmp_path: Path) -> None:
    model = tmp_path / "base.safetensors"
    model.write_bytes(b"weights")
    for path in (model, tmp_path / "base", tmp_path / "x" / ".." / "base.safetensors"):
        with pytest.raises(StoreError, match=r"Cannot save 'base.safetensors'.*it is the model itself"):
            require_new(model, tmp_path / "another", path)
    require_new(model, tmp_path / "another.safetensors")


def pairs(folder: Path) -> list[LabelledPair]:
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    Image.new("RGB", (16, 16), (9, 9, 9)).save(folder / "b.png")
    return [LabelledPair(folder / "a.png", folder / "b.png", "a star")]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere.safetensors", "no such folder or file"),
        ("nowhere/at all/model", "no such folder or file"),
        ("flux.safetensors", "a Flux model"),
        ("empty", "Cannot load the model 'empty'"),
    ],
)
def test_an_unknown_base_says_what_was_found(model: str, said: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2)}, tmp_path / "flux.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SteeringError, match=said):
        train_personal_lora(tmp_path / model, pairs(tmp_path), SETTINGS, tmp_path / "run", tmp_path / "mine")
    assert not (tmp_path / "mine.safetensors").exists()


def test_pictures_that_are_gone_or_broken_are_named(tmp_path: Path) -> None:
    found = pairs(tmp_path)
    settings = replace(SETTINGS, full=False, rank=2, size=16)
    for ruin, said in (
        (lambda: (tmp_path / "b.png").write_bytes(b"no picture"), "b.png"),
        (lambda: (tmp_path / "a.png").unlink(), "a.png"),
    ):
        ruin()
        with pytest.raises(ImageError, match=said):
            train_personal_lora("playground", found, settings, tmp_path / "run", tmp_path / "mine")


def test_one_pair_is_trained_on_and_nobody_says_that_it_helped(tmp_path: Path) -> None:
    settings = replace(SETTINGS, full=False, rank=2, size=16, steps=1)
    found = train_personal_lora("playground", pairs(tmp_path), settings, tmp_path / "run", tmp_path / "mine")
    assert (found.pairs, found.held_out) == (1, 0) and found.trained.better is None
    assert "too few comparisons" in found.trained.summary
    assert not list((tmp_path / "run").rglob("tensors.*"))  # what pictures were made into isn't needed any more


def test_what_a_killed_training_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    for name in (".checkpoint-abc", "checkpoint.pt", "mine.txt"):
        (tmp_path / name).write_bytes(b"x")
    with only_training(tmp_path):
        there = {file.name for file in tmp_path.iterdir()}
    assert ".checkpoint-abc" not in there
    assert {"checkpoint.pt", "mine.txt"} <= there


class Among:
    """One of two processes, and what it waited for."""

    count = 2

    def __init__(self, index: int, heard: Callable[[], None]) -> None:
        self.first, self._heard = index == 0, heard

    def told(self, value: object) -> object:
        self._heard()
        return value


@pytest.mark.parametrize("index", [0, 1])
def test_all_processes_begin_anew_together(tmp_path: Path, index: int) -> None:
    """The first forgets before it tells; the others don't look before they are told."""
    write_checkpoint(tmp_path, {"step": 3})
    heard = []

    def hear() -> None:
        heard.append((tmp_path / "checkpoint.pt").is_file())

    begin_training(tmp_path, True, Among(index, hear))
    assert heard == [index == 1]


@pytest.mark.parametrize("command", ["lora", "ppd"])
def test_both_commands_wait_for_each_other_before_they_read_anything(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from palate.adapters.finetune import several
    from palate.ui import cli

    def stop() -> None:
        raise FineTuneError("waited")

    monkeypatch.setenv("PALATE_HOME", str(tmp_path))
    among = Among(1, stop)
    monkeypatch.setattr(several, "several", lambda: among)
    assert cli.main(["train", command, "--anew", "--data", "none.jsonl"]) == 2
    assert "waited" in capsys.readouterr().err
