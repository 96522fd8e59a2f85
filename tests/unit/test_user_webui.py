"""A user in the web UIs' own denoisers, where a copy of them is at hand: as much as in diffusers, by the same weights.

FORGE_PATH: a folder of lllyasviel/stable-diffusion-webui-forge; its backend is used. A1111_PATH: one of reForge, whose
ldm_patched is used; Automatic1111 itself has no UNet patcher. Both need einops, Forge gguf too, beside this test's own
libraries.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.attention import UserAttention, attend
from palate.adapters.ppd.diffusers import use_user
from palate.adapters.ppd.host_layers import host_layers
from palate.adapters.ppd.layers import LayerShape, layers_of, standard_layers, width_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User
from palate.ui.webui.user_patches import ReadyUser, layers_of_host, with_user
from safetensors.torch import load_file
from torch import Tensor

ldm = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("ldm_files.py"))))
PREFIX = "model.diffusion_model."
CONFIG = {
    "in_channels": 4,
    "model_channels": ldm.UNET_WIDTH,
    "out_channels": 4,
    "num_res_blocks": [2, 2, 2, 2],
    "use_spatial_transformer": True,
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": ldm.SMALL,
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Host:
    """A host's patcher of a small UNet, and its step: (patcher, x, sigma, uncond, cond) -> denoised (cond, uncond)."""

    patcher: Any
    predicted: Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ldm.write_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", "sd15")


@pytest.fixture(scope="module")
def unet(weights: Path) -> Any:
    from palate.adapters.steering.pipelines import load_pipeline

    return load_pipeline(weights, torch.float32).pipeline.unet


@contextlib.contextmanager
def at_hand(variable: str, top: tuple[str, ...], *needed: str) -> Iterator[None]:
    """The host's modules can be imported while this lasts; skips where they are not there."""
    folder = Path(os.environ.get(variable, "").strip() or "nowhere").expanduser()
    if not (folder / top[0]).is_dir():
        pytest.skip(f"no {top[0]}: set {variable} (see the top of {Path(__file__).name})")
    for name in needed:
        pytest.importorskip(name)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    given, sys.argv = sys.argv, ["webui", "--always-cpu"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.argv = given
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in top:
                del sys.modules[name]


def state_of(weights: Path) -> dict[str, Tensor]:
    found = load_file(weights).items()
    return {name.removeprefix(PREFIX): value.float() for name, value in found if name.startswith(PREFIX)}


@pytest.fixture(scope="module")
def forge(weights: Path) -> Iterator[Host]:
    from diffusers import DDIMScheduler

    with at_hand("FORGE_PATH", ("backend", "packages_3rdparty", "modules_forge"), "einops", "gguf"):
        unet_module = importlib.import_module("backend.nn.unet")
        patching = importlib.import_module("backend.patcher.unet")
        sampling = importlib.import_module("backend.sampling.sampling_function")
        model = unet_module.IntegratedUNet2DConditionModel(**CONFIG).eval().requires_grad_(False)
        model.load_state_dict(state_of(weights))
        cpu = torch.device("cpu")
        model.load_device = model.offload_device = model.initial_device = cpu
        model.storage_dtype = model.computation_dtype = torch.float32
        scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
        patcher = patching.UnetPatcher.from_model(model, scheduler, dict(CONFIG))

        def predicted(patcher: Any, x: Tensor, sigma: Tensor, uncond: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
            given = SimpleNamespace(x=x, sigma=sigma, text_uncond=uncond, text_cond=cond, image_cond=None)
            with torch.inference_mode():
                sampling.sampling_prepare(patcher, x)
                found = sampling.sampling_function(
                    denoiser_of(patcher, len(x)), given, 7.0, [[(n, 1.0)] for n in range(len(x))]
                )
            return found[1], found[2]

        yield Host(patcher, predicted)


@pytest.fixture(scope="module")
def reforge(weights: Path) -> Iterator[Host]:
    from unittest.mock import MagicMock

    with at_hand("A1111_PATH", ("ldm_patched", "modules_forge", "modules"), "einops", "torchdiffeq", "torchsde"):
        # What it imports of the program around it; nothing of that is about the denoiser.
        around = ("modules", "modules.shared", "modules.errors", "modules.sd_samplers_kdiffusion_smea")
        sys.modules.update(dict.fromkeys(around, MagicMock()))
        importlib.import_module("ldm_patched.modules.options").enable_args_parsing()
        patching = importlib.import_module("modules_forge.unet_patcher")
        sampling = importlib.import_module("modules_forge.forge_sampler")
        bases = importlib.import_module("ldm_patched.modules.model_base")
        latents = importlib.import_module("ldm_patched.modules.latent_formats")
        more = {"image_size": 32, "legacy": False, "use_linear_in_transformer": False, "dtype": torch.float32}
        config = SimpleNamespace(
            unet_config=CONFIG | more,
            latent_format=latents.SD15(),
            manual_cast_dtype=None,
            custom_operations=None,
            optimizations={},
            scaled_fp8=None,
            sampling_settings={},
            memory_usage_factor=1.0,
        )
        model = bases.BaseModel(config).eval().requires_grad_(False)
        model.diffusion_model.load_state_dict(state_of(weights))
        patcher = patching.UnetPatcher(model, torch.device("cpu"), torch.device("cpu"))

        def predicted(patcher: Any, x: Tensor, sigma: Tensor, uncond: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
            seen: list[tuple[Tensor, Tensor]] = []

            def look(given: dict[str, Any]) -> Tensor:
                seen.append((given["cond_denoised"], given["uncond_denoised"]))
                return given["denoised"]

            watched = patcher.clone()
            watched.set_model_sampler_post_cfg_function(look)
            given = SimpleNamespace(x=x, sigma=sigma, text_uncond=uncond, text_cond=cond, image_cond=None)
            with torch.inference_mode():
                sampling.sampling_prepare(watched, x)
                sampling.forge_sample(denoiser_of(watched, len(x)), given, 7.0, [[(n, 1.0)] for n in range(len(x))])
            return seen[0]

        yield Host(patcher, predicted)


def denoiser_of(patcher: Any, count: int) -> SimpleNamespace:
    engine = SimpleNamespace(forge_objects=SimpleNamespace(unet=patcher))
    return SimpleNamespace(inner_model=SimpleNamespace(inner_model=engine), p=SimpleNamespace(seeds=[1] * count))


@pytest.fixture(params=["forge", "reforge"])
def host(request: pytest.FixtureRequest) -> Host:
    found: Host = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def ppd(unet: Any) -> PPD:
    attention = UserAttention(layers_of(unet), width_of(unet))
    for place, value in enumerate(attention.values):
        value.weight.data += 0.3 * drawn(*value.weight.shape, seed=place)
    return PPD(attention, None, "custom", "test")


def someone(ppd: PPD, **more: Any) -> User:
    return User(drawn(3, ppd.width, seed=7), ppd.identity, person="mara", **more)


def ready(ppd: PPD, user: User, host: Host) -> ReadyUser:
    return ReadyUser.of(ppd, user, *layers_of_host(host.patcher))


BATCH = 2


def step(host: Host, patcher: Any, timestep: float = 599.0, cut: int = 9) -> tuple[Tensor, Tensor]:
    """(cond, uncond) noise that the host predicts at a timestep; `cut` words in the negative prompt."""
    model = host.patcher.model
    sigma = float((getattr(model, "predictor", None) or model.model_sampling).sigma(torch.tensor(timestep)))
    x = drawn(BATCH, 4, 8, 8, seed=3) * (1 + sigma**2) ** 0.5
    uncond, cond = drawn(BATCH, 9, ldm.SMALL, seed=4)[:, :cut], drawn(BATCH, 9, ldm.SMALL, seed=5)
    one, other = host.predicted(patcher, x, torch.full((BATCH,), sigma), uncond, cond)
    return (x - one) / sigma, (x - other) / sigma


def by_diffusers(unet: Any, ppd: PPD, user: User | None, timestep: float = 599.0, **more: Any) -> tuple[Tensor, Tensor]:
    text = torch.cat([drawn(BATCH, 9, ldm.SMALL, seed=4), drawn(BATCH, 9, ldm.SMALL, seed=5)])
    x = drawn(BATCH, 4, 8, 8, seed=3).repeat(2, 1, 1, 1)
    with torch.no_grad(), use_user(unet, ppd, user, **more):
        uncond, cond = unet(x, timestep, encoder_hidden_states=text).sample.chunk(2)
    return cond, uncond


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_a_host_draws_for_the_person_as_diffusers_does(host: Host, unet: Any, ppd: PPD, strength: float) -> None:
    user = someone(ppd)
    plain = step(host, host.patcher)
    patched, blocks = with_user(host.patcher, ready(ppd, user, host), strength)
    found = step(host, patched)
    torch.testing.assert_close(found, by_diffusers(unet, ppd, user, strength=strength), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[0], plain[0], atol=1e-2) and torch.equal(found[1], plain[1])
    again = step(host, host.patcher)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert blocks is not None and not blocks.empty
    blocks.forget()
    assert torch.equal(step(host, patched.clone())[0], found[0])  # other extensions copy the patcher after us


def test_a_hosts_negative_half_has_tokens_of_its_own(host: Host, unet: Any, ppd: PPD) -> None:
    user = someone(ppd, negative=drawn(2, ppd.width, seed=8))
    found = step(host, with_user(host.patcher, ready(ppd, user, host), 1.0)[0])
    torch.testing.assert_close(found, by_diffusers(unet, ppd, user), atol=1e-4, rtol=1e-4)


def test_prompts_of_unlike_length_go_by_themselves(host: Host, unet: Any, ppd: PPD) -> None:
    user = someone(ppd)
    found = step(host, with_user(host.patcher, ready(ppd, user, host), 1.0)[0], cut=1)
    torch.testing.assert_close(found[0], by_diffusers(unet, ppd, user)[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(found[1], step(host, host.patcher, cut=1)[1])


@pytest.mark.parametrize(("timestep", "there"), [(900.0, False), (599.0, True), (100.0, False)])
def test_a_host_has_the_person_in_a_part_of_the_schedule(
    host: Host, unet: Any, ppd: PPD, timestep: float, there: bool
) -> None:
    user = someone(ppd)
    found = step(host, with_user(host.patcher, ready(ppd, user, host), 1.0, 0.2, 0.7)[0], timestep)
    wanted = by_diffusers(unet, ppd, user if there else None, timestep)
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=2e-4)


# -- without a host


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


SHAPE = LayerShape("mid_block.attentions.0.transformer_blocks.0.attn2", 12, 8, 2, 12)


class Attention(torch.nn.Module):
    heads, dim_head = 2, 4

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k = torch.nn.Linear(12, 8, bias=False), torch.nn.Linear(6, 8, bias=False)
        self.to_out = torch.nn.Sequential(torch.nn.Linear(8, 12))
        for seed, weight in enumerate(self.parameters()):
            weight.requires_grad_(False).copy_(drawn(*weight.shape, seed=seed))


class Denoiser(torch.nn.Module):
    """One cross-attention between two lists of patches, as the hosts have it."""

    def __init__(self) -> None:
        super().__init__()
        block = torch.nn.Module()
        block.attn2 = Attention()
        spatial = torch.nn.Module()
        spatial.transformer_blocks = torch.nn.ModuleList([block])
        self.middle_block = torch.nn.ModuleList([spatial])

    def forward(self, n: Tensor, options: dict[str, Any], conds: list[int], sigma: float) -> Tensor:
        extra = {"block": ("middle", 0), "block_index": 0, "cond_or_uncond": conds, "sigmas": torch.tensor([sigma])}
        patches = options.get("patches", {})
        context = value = None
        for patch in patches.get("attn2_patch", []):
            n, context, value = patch(n, context, value, extra)
        attention = self.middle_block[0].transformer_blocks[0].attn2
        n = attention.to_out(attention.to_q(n).sin())
        for patch in patches.get("attn2_output_patch", []):
            n = patch(n, extra)
        return n


class Patcher:
    """What a host's UNet patcher is to the extension."""

    def __init__(self, model: Any = None, options: Any = None) -> None:
        schedule = SimpleNamespace(percent_to_sigma=lambda percent: 14.0 * (1 - percent))
        self.model = model or SimpleNamespace(diffusion_model=Denoiser(), predictor=schedule)
        self.model_options = options or {"transformer_options": {}}
        self.preserved = 0

    def clone(self) -> Patcher:
        return Patcher(self.model, copy.deepcopy(self.model_options))

    def add_extra_preserved_memory_during_sampling(self, count: int) -> None:
        self.preserved += count

    def run(self, n: Tensor, conds: list[int], sigma: float = 7.0) -> Tensor:
        return self.model.diffusion_model(n, self.model_options["transformer_options"], conds, sigma)


@pytest.fixture
def small() -> PPD:
    attention = UserAttention([SHAPE], 6)
    attention.values[0].weight.data += drawn(8, 6, seed=1)
    return PPD(attention, None, "custom", "small")


def small_user(small: PPD, tokens: Tensor | None = None, **more: Any) -> User:
    return User(drawn(3, 6, seed=7) if tokens is None else tokens, small.identity, person="mara", **more)


def wanted(patcher: Patcher, ppd: PPD, user: User, n: Tensor) -> Tensor:
    """What the user adds, by the formula and not folded."""
    attention = patcher.model.diffusion_model.middle_block[0].transformer_blocks[0].attn2
    answer = attend(attention.to_q(n), *ppd.attention.project(0, user.tokens[None]), 2)
    return (answer @ attention.to_out[0].weight.T).detach()


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
