"""The study train-cost: operations counted by hand's rule, and every step run once."""

from __future__ import annotations

import pytest
from palate.adapters.studies import _shapes, train_cost
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


def test_a_tiny_shape_is_counted_without_memory() -> None:
    found = count_passes(TINY, rank=2)
    # Backward through all weights is about twice the forward pass, through a LoRA about once.
    assert 1.6 * found.forward < found.full_backward < 2.2 * found.forward
    assert 0.8 * found.forward < found.backward < 1.5 * found.forward
    assert found.held > 0 and 0 < found.lora < found.unet


def test_costs_by_hand() -> None:
    """Forward 2, backward 3, all weights 4, pictures 5, text 1: our dpo 2 + 2 + 3, its script's 2 + 2 + 3 + 6."""
    found = train_cost.costs(Passes(2, 3, 4, 5, 1, held=100, full_held=90, unet=10, vae=2, texts=3, lora=1))
    assert found["Palate: sft, mapo"] == (5, 136)  # 2 * 10 + 16 + 100
    assert found["Palate: dpo, cdpo, rdpo, ipo, kto, rpo"][0] == 7
    assert found["script: Diffusion-DPO, LoRA"] == (13, 146)
    assert found["script: Diffusion-DPO, all weights"] == (14, 280)  # 160 + 90 + 20 + 10


def test_it_prints_both_tables(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_cost, "count_passes", lambda shape, rank: Passes(*[1.0] * 7, 1, 1, 1, 1))
    assert train_cost.run(["--shapes", "sd15", "--pairs", "1", "--repeats", "1", "--rank", "2"]) == 0
    printed = capsys.readouterr().out
    assert "| Palate: sft, mapo | 0.00 | 50 % | 40 % |" in printed
    assert "| as Diffusion-DPO's script |" in printed and "Medians of 1" in printed
    assert set(_shapes.SHAPES) == {"sd15", "sdxl"}
