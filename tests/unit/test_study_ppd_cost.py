"""What a user costs: the counted operations by hand on a small UNet, and that every arm leaves it as it was."""

from __future__ import annotations

import pytest
import torch
from palate.adapters.studies import ppd_cost
from palate.adapters.studies._ppd_cost_arms import ARMS, MODELS, Model, arm, build
from palate.adapters.studies.ppd_cost import count, timed

SEEN, TOKENS = 1024, 3
SMALL = Model(
    "small",
    8,
    {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": 12,
        "norm_num_groups": 4,
    },
)


@pytest.fixture(scope="module")
def step():
    return build(SMALL, "cpu", batch=1, tokens=TOKENS)


def places(step) -> list[int]:
    """How many places of the picture each layer asks for."""
    seen: list[int] = []
    blocks = [step.unet.get_submodule(layer.name) for layer in step.ppd.attention.layers]
    hooks = [b.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1])) for b in blocks]
    step()
    for hook in hooks:
        hook.remove()
    return sorted(seen)


def test_operations_are_those_of_the_formulas(step):
    """Two rows. In diffusers 2 products of 2 * N * K * inner; folded, in one row, 2 * N * heads * K * (query + out); an
    IP-Adapter as in diffusers, and in every step two products of K * W * inner and its projector's."""
    layers = step.ppd.attention.layers
    sizes = {8: 64, 16: 16}  # places by channels
    n = [sizes[layer.query] for layer in layers]
    assert sorted(n) == places(step)
    ours = sum(2 * 4 * many * TOKENS * layer.inner for many, layer in zip(n, layers, strict=True))
    folded = sum(
        2 * many * layer.heads * TOKENS * (layer.query + layer.out) for many, layer in zip(n, layers, strict=True)
    )
    projected = sum(2 * 2 * 2 * TOKENS * 12 * layer.inner for layer in layers) + 2 * 2 * SEEN * TOKENS * 12
    flops = {name: cost.flops for name, cost in count(SMALL, 1, TOKENS).items()}
    bare = flops.pop("the bare model")
    # Once more 2 * query * inner and 2 * inner * out for each place, in one row, and the tokens' attention there.
    again = ours // 2 + sum(2 * many * 2 * layer.inner * layer.query for many, layer in zip(n, layers, strict=True))
    assert [found - bare for found in flops.values()] == [ours, folded, again, ours + projected]


def test_a_step_of_eight_costs_eight_times_one():
    one, eight = count(SMALL, 1, TOKENS), count(SMALL, 8, TOKENS)
    bare = "the bare model"
    assert eight[bare].flops == pytest.approx(8 * one[bare].flops, rel=0.01)
    assert eight["a user, in diffusers"].held == one["a user, in diffusers"].held > 0


def test_the_two_ways_give_one_picture_and_all_arms_leave_the_model_as_it_was(step):
    found = {}
    before = step()
    for name in ARMS:
        with arm(name, step) as (ready, _):
            found[name] = ready()
        assert torch.equal(step(), before)
    assert torch.equal(found["the bare model"], before)
    one = found["a user, in diffusers"]
    for other in ("a user, folded as in ComfyUI", "the same, projected again"):
        torch.testing.assert_close(one, found[other], atol=1e-4, rtol=1e-4)
    assert torch.equal(one[:1], before[:1]) and (one[1:] - before[1:]).abs().max() > 1e-4


def test_timing_takes_turns_and_counts_the_repeats(step):
    costs = timed(count(SMALL, 1, TOKENS), step, repeats=2)
    assert [len(cost.seconds) for cost in costs.values()] == [2] * len(ARMS)
    assert all(bool((cost.seconds > 0).all()) and cost.flops > 0 for cost in costs.values())


def test_the_table_says_command_and_aim(monkeypatch, capsys):
    monkeypatch.setattr(ppd_cost, "MODELS", {"sd15": SMALL})
    argv = ["--models", "sd15", "--batches", "1", "--tokens", "3", "--device", "cpu", "--repeats", "2"]
    assert ppd_cost.run(argv) == 0
    out = capsys.readouterr().out
    assert "small, 1 picture with guidance, 3 tokens" in out and "Aim: at most 1.03" in out
    assert "palate study ppd-cost --models sd15" in out and "of the bare step's time" in out


def test_models_that_are_not_known_are_named(capsys):
    with pytest.raises(SystemExit):
        ppd_cost.run(["--models", "flux"])
    assert f"flux; expected some of {', '.join(MODELS)}" in capsys.readouterr().err
