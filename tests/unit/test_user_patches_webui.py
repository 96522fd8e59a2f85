"""A user in a web UI's denoiser: which layers it has, and what is added there."""

from __future__ import annotations

import ldm_files as ldm
import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.host_layers import host_layers
from palate.adapters.ppd.layers import standard_layers
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User
from palate.ui.webui.user_patches import ReadyUser, layers_of_host, with_user
from webui_denoiser import Patcher, drawn, small_ppd, small_user, wanted

PREFIX = "model.diffusion_model."


class Tree(torch.nn.Module):
    """A denoiser's tree of modules as checkpoints name it, with nothing to compute."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], heads: int) -> None:
        super().__init__()
        for name, shape in shapes.items():
            place: torch.nn.Module = self
            for part in name.split(".")[:-1]:
                if part not in dict(place.named_children()):
                    place.add_module(part, torch.nn.Sequential())
                place = place.get_submodule(part)
            if name.endswith("weight"):
                place.in_features, place.out_features = shape[-1], shape[0]
        for name, module in self.named_modules():
            if name.endswith("attn2"):
                module.heads, module.dim_head = heads, module.to_q.out_features // heads


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_hosts_layers_are_found_under_diffusers_names_in_diffusers_order(family: str) -> None:
    shapes = {name.removeprefix(PREFIX): shape for name, shape in ldm.shapes(family).items() if name.startswith(PREFIX)}
    found, width = host_layers(Tree(shapes, heads=4))
    depth = 1 + max(layer.block[2] for layer in found)
    assert [layer.shape.name for layer in found] == [
        layer.name for layer in standard_layers(family) if int(layer.name.split(".")[-2]) < depth
    ]
    assert {layer.block[:2] for layer in found if layer.block[0] == "middle"} == {("middle", 0)}
    assert len({layer.block for layer in found}) == len(found) and width == shapes[f"{found[0].path}.to_k.weight"][1]
    sizes = [(layer.shape.query, layer.shape.inner, layer.shape.out) for layer in found]
    assert sizes == [3 * (shapes[f"{layer.path}.to_q.weight"][0],) for layer in found]


def test_a_model_without_a_cross_attention_is_named() -> None:
    with pytest.raises(PPDError, match="in a denoiser of class Linear; expected a UNet"):
        host_layers(torch.nn.Linear(1, 1))


@pytest.fixture
def small() -> PPD:
    return small_ppd()


@pytest.mark.parametrize("conds", [[0], [1, 0], [0, 1], [0, 0, 1]])
def test_only_the_prompts_half_is_for_the_person(small: PPD, conds: list[int]) -> None:
    patcher, user, n = Patcher(), small_user(small), drawn(2 * len(conds), 5, 12)
    patched, _ = with_user(patcher, ReadyUser.of(small, user, *layers_of_host(patcher)), 0.5)
    there = torch.tensor([cond == 0 for cond in conds]).repeat_interleave(2)[:, None, None]
    plain, found = patcher.run(n, conds), patched.run(n, conds)
    torch.testing.assert_close(found, plain + 0.5 * there * wanted(patcher, small, user, n), atol=1e-5, rtol=1e-5)
    assert torch.equal(found[~there[:, 0, 0]], plain[~there[:, 0, 0]])
    assert patched.preserved == 4 * 3 * 2 * 24  # numbers of four bytes: tokens, heads, query and output


def test_the_person_is_around_what_others_have_there(small: PPD) -> None:
    patcher, user, n = Patcher(), small_user(small), drawn(1, 5, 12)
    patcher.model_options["transformer_options"]["patches"] = {
        "attn2_patch": [lambda n, context, value, extra: (n.repeat(2, 1, 1), context, value)],
        "attn2_output_patch": [lambda n, extra: n.chunk(2)[0] + 1],
    }
    patched, _ = with_user(patcher, ReadyUser.of(small, user, *layers_of_host(patcher)), 1.0)
    found = patched.run(n, [0])
    torch.testing.assert_close(found, patcher.run(n, [0]) + wanted(patcher, small, user, n), atol=1e-5, rtol=1e-5)


def test_strength_zero_and_nobody_are_the_hosts_own_patcher(small: PPD) -> None:
    patcher = Patcher()
    layers = layers_of_host(patcher)
    assert with_user(patcher, ReadyUser.of(small, small_user(small), *layers), 0.0) == (patcher, None)
    nobody = ReadyUser.of(small, small_user(small, torch.zeros(3, 6)), *layers)
    assert with_user(patcher, nobody, 1.0) == (patcher, None)


@pytest.mark.parametrize(("sigma", "there"), [(10.6, False), (10.5, True), (3.5, True), (3.4, False)])
def test_the_window_is_of_noise(small: PPD, sigma: float, there: bool) -> None:
    patcher, n = Patcher(), drawn(1, 5, 12)
    user = ReadyUser.of(small, small_user(small), *layers_of_host(patcher))
    patched, _ = with_user(patcher, user, 1.0, 0.25, 0.75)
    assert torch.equal(patched.run(n, [0], sigma), patcher.run(n, [0], sigma)) != there


def test_what_does_not_belong_together_is_refused(small: PPD) -> None:
    patcher = Patcher()
    layers, width = layers_of_host(patcher)
    with pytest.raises(PPDError, match="strength 6"):
        with_user(patcher, ReadyUser.of(small, small_user(small), layers, width), 6.0)
    with pytest.raises(PPDError, match="has 2 cross-attentions"):
        ReadyUser.of(small, small_user(small), layers * 2, width)
    with pytest.raises(PPDError, match="was made by the PPD ffff"):
        ReadyUser.of(small, User(drawn(3, 6), "f" * 64), layers, width)
    ready_user = ReadyUser(layers * 2, width, None, None)
    with pytest.raises(PPDError, match="the model has changed"):
        with_user(patcher, ready_user, 1.0)
