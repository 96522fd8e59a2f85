"""Several processes that train a PPD together do what one does with a larger batch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from palate.adapters.finetune.noising import Noising
from palate.adapters.finetune.several import several
from palate.adapters.ppd import diffusers, training
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.data import PreparedPPD
from palate.adapters.ppd.layers import LayerShape
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.pairs_encoder import PairsEncoder
from palate.adapters.ppd.settings import PPDSettings
from palate.adapters.ppd.trained import TrainedPPD
from palate.adapters.ppd.training import train_ppd
from two_processes import run_in_two_processes

WIDTH, D = 6, 5
WAYS = {"plain": {}, "accumulated": {"accumulate": 2, "loss": "ipo"}}


class Small(torch.nn.Module):
    """Predicts noise from latents, text and a user's tokens; who they are comes from the branch."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mixed = torch.nn.Parameter(0.3 * torch.randn(4, 4, 3, 3, generator=generator))
        self.said = torch.nn.Parameter(0.3 * torch.randn(WIDTH, 4, generator=generator))
        self.branch, self.attention, self.config = diffusers.Branch(), None, SimpleNamespace()

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, encoder_hidden_states: torch.Tensor):
        text = encoder_hidden_states.mean(1) @ self.said
        if self.branch.tokens is not None:
            keys, values = self.attention.project(0, self.branch.tokens)
            text = text + (keys.softmax(-1) * values).mean(1)
        return SimpleNamespace(sample=torch.nn.functional.conv2d(noisy, self.mixed, padding=1) + text[:, :, None, None])


@contextlib.contextmanager
def branch_of(unet: Small, ppd: PPD) -> Iterator[diffusers.Branch]:
    unet.attention = ppd.attention
    yield unet.branch


def people(count: int, seed: int) -> PreparedPPD:
    draw = torch.Generator().manual_seed(seed)
    rows = [(8 * person + 2 * k, 8 * person + 2 * k + 1, k % 2, person) for person in range(count) for k in range(4)]
    latents = 0.5 * torch.randn(8 * count, 4, 6, 6, generator=draw)
    latents[::2] += 0.3
    vectors = torch.nn.functional.normalize(torch.randn(8 * count, D, generator=draw), dim=1)
    names = tuple(f"p{person}" for person in range(count))
    return PreparedPPD(latents, vectors, torch.tensor(rows), torch.randn(3, 7, WIDTH, generator=draw), names)


def train(way: str, batch: int, folder: Path, told: list | None = None, last: dict | None = None) -> TrainedPPD:
    """`told` hears of each step; `last` gets the weights after the last one."""
    layers = [LayerShape("down_blocks.0.attentions.0.transformer_blocks.0.attn2", 4, 4, 1, 4)]
    ppd = PPD(UserAttention(layers, WIDTH), PairsEncoder(D, WIDTH, tokens=2, hidden=32, layers=1), "custom")
    # From weights that are not at rest: Adam's first step makes as much of a rounding as of a gradient.
    torch.nn.init.normal_(ppd.attention.values[0].weight, std=0.1, generator=torch.Generator().manual_seed(3))
    quick = {"steps": 4, "check_every": 2, "save_every": 0.0, "learning_rate": 1e-2, "beta": 50.0, "judged_pairs": 6}
    settings = PPDSettings(batch=batch, **(quick | WAYS[way]))
    noising = Noising("epsilon", torch.linspace(0.99, 0.01, 100), 100)

    def on_step(step) -> None:
        if told is not None and last is not None:
            told.append((step.loss, step.margin, step.accuracy))
            last.update({name: weight.detach().clone() for name, weight in ppd.named_parameters()})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "branch_in", branch_of)
        return train_ppd(
            ppd, Small(), noising, people(5, 0), people(3, 1), settings, folder, on_step, several=several()
        )


def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    run_in_two_processes(__file__, tmp_path)
    for way in WAYS:
        alone = train(way, 4, tmp_path / f"{way} alone")
        first, second = (torch.load(tmp_path / f"{way} {rank}.pt", weights_only=True) for rank in range(2))
        last = torch.load(tmp_path / f"{way} alone" / "checkpoint.pt", weights_only=True)["parameters"]
        for name, value in last.items():
            assert torch.equal(first["last"][name], second["last"][name]), (way, name)
            # Softmax doesn't see a bias of all keys: its gradient is rounding, of which Adam makes whole steps.
            if not name.endswith("projections.bias"):
                assert torch.allclose(first["last"][name], value, rtol=1e-3, atol=1e-5), (way, name)
        assert first["accuracies"] == second["accuracies"] == [look.accuracy for look in alone.looks]
        assert first["loss"] == second["loss"] and torch.equal(first["hits"], second["hits"])
        # What was best is in both, not what the last step made of it.
        assert all(torch.equal(value, second["best"][name]) for name, value in first["best"].items())
        assert way == "plain" or any(not torch.equal(v, first["last"][name]) for name, v in first["best"].items())


def _one_of_two(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    # A file rather than a port, which somebody else may have taken; accelerate takes the group that is there.
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    for way in WAYS:
        told: list[tuple[float, ...]] = []
        last: dict[str, torch.Tensor] = {}
        found = train(way, 2, folder / way, told, last)
        best = {name: weight.detach() for name, weight in found.ppd.named_parameters()}
        looks = [look.accuracy for look in found.looks]
        made = {"last": last, "best": best, "accuracies": looks, "loss": told, "hits": found.hits}
        torch.save(made, folder / f"{way} {rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _one_of_two(Path(sys.argv[1]))
