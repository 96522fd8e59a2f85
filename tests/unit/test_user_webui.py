"""A user in the web UIs' own denoisers, where a copy of them is at hand: as much as in diffusers, by the same weights.

FORGE_PATH: a folder of lllyasviel/stable-diffusion-webui-forge; its backend is used. A1111_PATH: one of reForge, whose
ldm_patched is used; Automatic1111 itself has no UNet patcher. Both need einops, Forge gguf too, beside this test's own
libraries.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import ldm_files as ldm
import pytest
import torch
from palate.adapters.ppd.attention import UserAttention
from palate.adapters.ppd.diffusers import use_user
from palate.adapters.ppd.layers import layers_of, width_of
from palate.adapters.ppd.model import PPD
from palate.adapters.ppd.user import User
from palate.ui.webui.user_patches import ReadyUser, layers_of_host, with_user
from safetensors.torch import load_file
from torch import Tensor

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
def forge(request: pytest.FixtureRequest) -> Iterator[Host]:
    with at_hand("FORGE_PATH", ("backend", "packages_3rdparty", "modules_forge"), "einops", "gguf"):
        from diffusers import DDIMScheduler

        weights = request.getfixturevalue("weights")
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
def reforge(request: pytest.FixtureRequest) -> Iterator[Host]:
    with at_hand("A1111_PATH", ("ldm_patched", "modules_forge", "modules"), "einops", "torchdiffeq", "torchsde"):
        weights = request.getfixturevalue("weights")
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


@pytest.fixture(scope="module", params=["forge", "reforge"])
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
