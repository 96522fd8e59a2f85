"""Several processes that train together, and parts of a batch one after the other, do what one does with it whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from palate.adapters.errors import CancelledError, FineTuneError, OutOfMemoryError
from palate.adapters.finetune.gradients import KnownOfPairs
from palate.adapters.finetune.judging import Judge
from palate.adapters.finetune.loop import train_lora
from palate.adapters.finetune.losses import LOSSES, PairErrors
from palate.adapters.finetune.noising import Noising
from palate.adapters.finetune.prepared import Batch, Prepared
from palate.adapters.finetune.settings import TrainSettings
from palate.adapters.finetune.several import Several, several
from palate.adapters.finetune.step import Denoiser
from palate.adapters.finetune.told import Trained
from palate.adapters.finetune.weights import all_parameters
from two_processes import run_in_two_processes

WAYS = {
    "dpo": {},
    "kto": {"accumulate": 2},
    "adaptive_dpo": {},
    "rpo": {"accumulate": 2},
    "cdpo": {"fixed_noise": 3, "ema": 0.9},
}


class Small(torch.nn.Module):
    """Predicts noise from latents, timesteps and text, as a UNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        generator = torch.Generator().manual_seed(0)
        self.mixed = torch.nn.Parameter(0.3 * torch.randn(4, 4, 3, 3, generator=generator))
        self.said = torch.nn.Parameter(0.3 * torch.randn(6, 4, generator=generator))
        self.late = torch.nn.Parameter(torch.zeros(4))

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, encoder_hidden_states: torch.Tensor):
        text = encoder_hidden_states.mean(1) @ self.said + self.late * timesteps[:, None] / 100
        mixed = torch.nn.functional.conv2d(noisy, self.mixed, padding=1)
        return SimpleNamespace(sample=torch.tanh(mixed + text[:, :, None, None]))


def train(loss: str, batch: int, folder: Path, at_once: int | None = None, **more: object) -> Trained:
    generator = torch.Generator().manual_seed(1)

    def pairs(count: int) -> Prepared:
        sides = (
            0.5 * torch.randn(2, count, 4, 6, 6, generator=generator)
            + torch.tensor([0.3, -0.3])[:, None, None, None, None]
        )
        return Prepared(
            tuple(sides[0]),
            tuple(sides[1]),
            tuple(k % 2 for k in range(count)),
            torch.randn(3, 5, 6, generator=generator),
        )

    data, held = pairs(9), pairs(4)
    denoiser = Denoiser(
        Small(), Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100), torch.device("cpu"), torch.float32
    )
    ways = {"loss": loss, "batch": batch, **WAYS.get(loss, {})}
    settings = TrainSettings(full=True, steps=5, learning_rate=1e-2, warmup=0.0, check_every=2, beta=50.0, **ways)
    known = KnownOfPairs(tuple(torch.randn(2, 9, 8, generator=generator)))
    return train_lora(
        denoiser, all_parameters(denoiser.unet), data, held, settings, folder, known, at_once=at_once, **more
    )


def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Every loss, with those whose pairs hang together: kto's mean, rpo's contrast, adaptive_dpo's normalisation."""
    run_in_two_processes(__file__, tmp_path)
    for loss in WAYS:
        alone = train(loss, 4, tmp_path / f"{loss} alone")
        first, second = (torch.load(tmp_path / f"{loss} {rank}.pt", weights_only=True) for rank in range(2))
        for name, value in alone.state.items():
            assert torch.equal(first["state"][name], second["state"][name]), (loss, name)
            assert torch.allclose(first["state"][name], value, rtol=1e-4, atol=1e-6), (loss, name)
        assert first["accuracies"] == second["accuracies"] == [look.accuracy for look in alone.looks]
        assert first["least"] == second["least"] == [1, 2, None]
        assert (tmp_path / loss / "checkpoint.pt").is_file()
        in_parts = torch.load(tmp_path / f"{loss} in parts 0.pt", weights_only=True)
        for name, value in alone.state.items():
            assert torch.allclose(in_parts["state"][name], value, rtol=1e-4, atol=1e-6), (loss, name)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_batch_in_parts_comes_to_the_same_weights(loss: str, at_once: int, tmp_path: Path) -> None:
    """Of four pairs one by one, or three and one; with what is accumulated beside it."""
    whole, parts = train(loss, 4, tmp_path / "whole"), train(loss, 4, tmp_path / "parts", at_once)
    for name, value in whole.state.items():
        assert torch.allclose(parts.state[name], value, rtol=1e-4, atol=1e-6), name
    assert [look.accuracy for look in parts.looks] == [look.accuracy for look in whole.looks]


def test_a_training_goes_on_with_fewer_pairs_at_once(tmp_path: Path) -> None:
    steps: list[object] = []
    with pytest.raises(CancelledError):
        train("mapo", 4, tmp_path, on_step=steps.append, cancelled=lambda: len(steps) == 2)
    whole, found = train("mapo", 4, tmp_path / "whole"), train("mapo", 4, tmp_path, at_once=1)
    assert all(torch.allclose(found.state[name], value, rtol=1e-4, atol=1e-6) for name, value in whole.state.items())


class Tight:
    """Memory for so many pairs at a time, in passes with gradients or in those without; and how many were tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, with_gradients: bool) -> None:
        self.most, self.seen, inside = 1, list[int](), Denoiser.errors

        def errors(denoiser: Denoiser, batch: Batch, *more: object) -> PairErrors:
            if torch.is_grad_enabled() == with_gradients:
                self.seen.append(len(batch.chosen))
                if self.seen[-1] > self.most:
                    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return inside(denoiser, batch, *more)

        monkeypatch.setattr(Denoiser, "errors", errors)


def test_where_memory_runs_out_half_as_many_are_taken_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("kto", 4, tmp_path / "whole")
    tight = Tight(monkeypatch, with_gradients=True)
    found = train("kto", 4, tmp_path / "tight")
    assert all(torch.allclose(found.state[name], value, rtol=1e-4, atol=1e-6) for name, value in whole.state.items())
    assert tight.seen[:2] == [4, 2] and set(tight.seen[2:]) == {1}
    tight.most = 0
    with pytest.raises(FineTuneError, match=r"memory ran out, 1 of a batch's pairs at a time .*checkpoint is safe"):
        train("kto", 4, tmp_path / "none")


def test_where_memory_runs_out_in_a_look_half_as_many_are_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At held-out pairs, and where fixed noise is measured: to the same training."""
    monkeypatch.setitem(WAYS, "dpo", {"fixed_noise": 2})
    whole = train("dpo", 4, tmp_path / "whole")
    tight = Tight(monkeypatch, with_gradients=False)
    found = train("dpo", 4, tmp_path / "tight")
    assert all(torch.allclose(found.state[name], value, rtol=1e-4, atol=1e-6) for name, value in whole.state.items())
    for look, other in zip(found.looks, whole.looks, strict=True):
        assert look.accuracy == other.accuracy and look.log_loss == pytest.approx(other.log_loss, abs=1e-4)
    assert (
        tight.seen[:2] == [4, 2] and max(tight.seen[3:]) > 1 and tight.seen.count(4) <= 2
    )  # once measuring, once looking
    tight.most = 0
    with pytest.raises(FineTuneError, match="Cannot look at the held-out pairs: memory ran out, one of them at a time"):
        train("dpo", 4, tmp_path / "none")
    monkeypatch.setattr(Judge, "begin", lambda _: None)
    with pytest.raises(
        FineTuneError, match="Cannot measure the reference's errors: memory ran out, one pair at a time"
    ):
        train("dpo", 4, tmp_path / "neither")


def test_where_an_optimiser_has_no_room_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(OutOfMemoryError, match=r"Cannot go on training: memory ran out .*--optimizer adafactor"):
        train("mapo", 4, tmp_path)


def test_noise_that_is_fixed_is_measured_by_as_many_pairs_as_memory_holds(tmp_path: Path, monkeypatch) -> None:
    inside, seen = Denoiser.errors, []

    def errors(self: Denoiser, batch: Batch, *more: object) -> PairErrors:
        seen.append(len(batch.chosen))
        return inside(self, batch, *more)

    monkeypatch.setattr(Denoiser, "errors", errors)
    monkeypatch.setattr(Judge, "_errors", lambda *_, **__: (torch.ones(4), torch.ones(4)))
    train("cdpo", 4, tmp_path, at_once=2)
    assert len(seen) > 10 and max(seen) == 2


def test_alone_nothing_is_sent() -> None:
    alone, values = several(), torch.ones(2, requires_grad=True)
    assert alone == Several() and alone.first and alone.part(3) == slice(0, 3)
    assert alone.gathered(values) is values and alone.told("x") == "x" and alone.any(True) and not alone.any(False)
    assert alone.least(3) == 3 and alone.least(None) is None


def test_several_without_accelerate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(FineTuneError, match="accelerate is not installed"):
        several()


def _one_of_two(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    # A file rather than a port, which somebody else may have taken; accelerate takes the group that is there.
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    # The second has less memory, then only the first knows how much is free, then nobody does.
    least = [several().least(value) for value in (2 - rank, None if rank else 2, None)]
    for loss in WAYS:
        found = train(loss, 2, folder / loss)
        looks = [look.accuracy for look in found.looks]
        torch.save({"state": found.state, "accuracies": looks, "least": least}, folder / f"{loss} {rank}.pt")
        in_parts = train(loss, 2, folder / f"{loss} in parts", at_once=1)
        torch.save({"state": in_parts.state}, folder / f"{loss} in parts {rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _one_of_two(Path(sys.argv[1]))
