"""The study train-cost: operations counted by hand's rule, and every step run once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from palate.adapters.finetune import sparing
from palate.adapters.studies import _models, _plain_steps, _shapes, train_cost
from palate.adapters.studies._plain_steps import Measured, Setup
from palate.adapters.studies._shapes import Passes, Shape, count_passes

TINY = Shape(
    32,
    {
        "block_out_channels": (32, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
    ({"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},),
)


@pytest.fixture(autouse=True)
def the_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparing, "_let_go", lambda: None)


def test_a_tiny_shape_is_counted_without_memory() -> None:
    found = count_passes(TINY, rank=2)
    # Backward through all weights is about twice the forward pass, through a LoRA about once.
    assert 1.6 * found.forward < found.full_backward < 2.2 * found.forward
    assert 0.8 * found.forward < found.backward < 1.5 * found.forward
    assert 0 < found.spared < found.held < found.plain_held < found.full_held and 0 < found.again < found.forward
    assert 0 < found.lean < 0.5 * found.again
    assert 0 < found.lora < found.unet
    assert found.unet < found.in_bytes < 1.2 * found.unet  # a byte each; biases, norms and rows' scales in two


def test_costs_by_hand() -> None:
    """Forward 2, backward 3, of all 4, again 0.25, pictures 5, text 1: dpo 2 + 2 + 3.25, its script 2 + 2 + 3 + 6."""
    bytes_ = {"held": 80, "plain_held": 100, "full_held": 90, "spared": 7, "in_bytes": 11}
    found = train_cost.costs(Passes(2, 3, 4, 0.25, 0.5, 5, 1, unet=10, vae=2, texts=3, lora=1, **bytes_))
    assert found["Palate: sft, mapo"] == (5.25, 116)  # 2 * 10 + 16 + 80
    assert found["Palate: sft, mapo, checkpointing"] == (5.5, 43)
    assert found["Palate: sft, mapo, int8"] == (5.25, 107)  # 11 + 16 + 80
    assert found["Palate: sft, mapo, checkpointing, int8"] == (5.5, 34)
    assert found["Palate: dpo, cdpo, rdpo, ipo, kto, rpo"][0] == 7.25
    assert found["script: Diffusion-DPO, LoRA"] == (13, 146)
    assert found["script: Diffusion-DPO, all weights"] == (14, 280)  # 160 + 90 + 20 + 10


def test_it_prints_both_tables(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_cost, "count_passes", lambda shape, rank: Passes(*[1.0] * 11, 1, 1, 1, 1, 1))
    monkeypatch.setattr(train_cost, "measure_alone", lambda name, setup, repeats: Measured((len(name),), len(name)))
    assert train_cost.run(["--shapes", "sd15", "--pairs", "1", "--repeats", "1", "--rank", "2"]) == 0
    printed = capsys.readouterr().out
    assert "| Palate: sft, mapo | 0.00 | 75 % | 60 % | 0.0 | 83 % |" in printed  # 19 bytes of 23
    assert "| playground, 128 pixels, 1 pair a step, float32 |" in printed
    assert "| Palate, mapo | 12.00 | 0.48 (0.48 to 0.48) | 0.0 |" in printed and "Medians of 1" in printed
    assert train_cost.run(["--shapes", "", "--repeats", "1", "--arms", "Palate, mapo, checkpointing"]) == 0
    timed = [
        line.split(" | ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith(("| Pal", "| as"))
    ]
    assert timed == ["| Palate, mapo, checkpointing", "| as Diffusion-DPO's script"]
    assert set(_shapes.SHAPES) == {"sd15", "sdxl"}


TWO_TOWERS = Shape(
    32,
    {
        **TINY.unet,
        "cross_attention_dim": 32,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 16 + 6 * 4,
    },
    (TINY.texts[0], TINY.texts[0]),
)


@pytest.mark.parametrize("name", _plain_steps.STEPS)
@pytest.mark.parametrize("shape", [TINY, TWO_TOWERS], ids=["one tower", "two towers"])
def test_each_step_trains_the_lora_on_both_families(shape: Shape, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first the model is its reference: ours and the script's have the same loss of the same batch."""
    monkeypatch.setattr(_models, "SHAPES", {"tiny": shape})
    monkeypatch.setattr(_shapes, "_VAE", {"block_out_channels": (32,), "layers_per_block": 1})
    setup = Setup("tiny", 16, pairs=2, rank=2, checkpointing=True)
    bench = _plain_steps._Bench(_plain_steps.STEPS[name], setup)
    before = [parameter.clone() for group in bench.optimizer.param_groups for parameter in group["params"]]
    errors = bench._ours() if bench.kind.ours else bench._as_the_script()
    assert errors.chosen.shape == (2,) and errors.chosen.isfinite().all()
    if bench.kind.loss == "dpo":
        assert errors.ref_chosen is not None
        torch.testing.assert_close(errors.ref_chosen, errors.chosen.detach(), rtol=1e-4, atol=1e-6)
    bench.step()
    after = [parameter for group in bench.optimizer.param_groups for parameter in group["params"]]
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_only_scripts_hold_the_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_models, "SHAPES", {"tiny": TINY})
    monkeypatch.setattr(_shapes, "_VAE", {"block_out_channels": (32,), "layers_per_block": 1})
    benches = {name: _plain_steps._Bench(kind, Setup("tiny", 16)) for name, kind in _plain_steps.STEPS.items()}
    without_encoders = [name for name, bench in benches.items() if bench.models.vae is None]
    assert without_encoders == [name for name in benches if name.startswith("Palate")]


def test_with_fixed_noise_nothing_for_a_backward_pass_is_held_beside_the_steps_own(monkeypatch) -> None:
    monkeypatch.setattr(_models, "SHAPES", {"tiny": TINY})
    monkeypatch.setattr(_shapes, "_VAE", {"block_out_channels": (32,), "layers_per_block": 1})
    bench = _plain_steps._Bench(_plain_steps.STEPS["Palate, dpo, fixed noise"], Setup("tiny", 16))
    assert bench.known is not None and bench.known.chosen.grad_fn is None and bench._ours().chosen.grad_fn is not None


def test_what_a_process_holds_is_not_what_its_parent_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux hands the parent's peak on to `getrusage`: 1000 kB of this process's own, whatever that says."""
    monkeypatch.setattr(_plain_steps, "_STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 2000 kB\nVmHWM:\t 1000 kB\nVmRSS:\t 900 kB\n")
    assert _plain_steps._peak(torch.device("cpu")) == 1000 * 1024
    (tmp_path / "status").write_text("Name:\tpython\n")  # as some containers have it
    assert _plain_steps._peak(torch.device("cpu")) != 1000 * 1024


def test_what_was_held_before_the_steps_is_no_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := tmp_path / "clear_refs").touch()
    monkeypatch.setattr(_plain_steps, "_FORGET", file)
    _plain_steps._forget_peak(torch.device("cpu"))
    assert file.read_text() == "5"  # man 5 proc: resets the peak resident set size
    monkeypatch.setattr(_plain_steps, "_FORGET", tmp_path / "no" / "such")
    _plain_steps._forget_peak(torch.device("cpu"))


def test_a_step_is_timed_and_its_memory_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_models, "SHAPES", {"tiny": TINY})
    monkeypatch.setattr(_shapes, "_VAE", {"block_out_channels": (32,), "layers_per_block": 1})
    found = _plain_steps.measure("Palate, mapo", Setup("tiny", 16, threads=torch.get_num_threads()), 2)
    assert len(found.seconds) == 2 and min(found.seconds) > 0 and found.peak >= 0
