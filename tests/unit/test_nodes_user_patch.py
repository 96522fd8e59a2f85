"""What Apply User adds to a denoiser's blocks, on a block that calls its patches as ComfyUI's do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import node_modules
import pytest
import torch
from palate.adapters.errors import PPDError
from palate.adapters.ppd.attention import UserAttention, attend
from palate.adapters.ppd.host_blocks import UserBlocks, UserTokens, multiplies_by
from palate.adapters.ppd.host_layers import HostLayer
from palate.adapters.ppd.layers import LayerShape
from torch import Tensor, nn

patching, joint = (node_modules.node_module(name) for name in ("user_patch", "user_joint"))

SHAPE = LayerShape("mid_block.attentions.0.transformer_blocks.0.attn2", 12, 8, 2, 12)
LAYER = HostLayer(SHAPE, ("middle", 0, 0), "attn2")
POSITIVE, NEGATIVE = ["positive"], ["negative"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Denoiser(nn.Module):
    """One cross-attention between two lists of patches, as comfy.ldm.modules.attention has it."""

    def __init__(self) -> None:
        super().__init__()
        self.attn2 = nn.Module()
        self.attn2.to_q, self.attn2.to_out = nn.Linear(12, 8, bias=False), nn.Sequential(nn.Linear(8, 12))
        for seed, weight in enumerate(self.parameters()):
            weight.requires_grad_(False).copy_(draw(*weight.shape, seed=seed))

    def forward(self, n: Tensor, options: dict[str, Any], cond_or_uncond: list[int]) -> Tensor:
        extra = {"block": ("middle", 0), "block_index": 0, "cond_or_uncond": cond_or_uncond}
        patches = options["transformer_options"].get("patches", {})
        context = value = None
        for patch in patches.get("attn2_patch", []):
            n, context, value = patch(n, context, value, extra)
        n = self.attn2.to_out(self.attn2.to_q(n).sin())
        for patch in patches.get("attn2_output_patch", []):
            n = patch(n, extra)
        return n


class Joint(nn.Module):
    """One joint attention as SD3 has it: a query, something with it, and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(12, 8), nn.Linear(8, 12)
        for seed, weight in enumerate(self.parameters()):
            weight.requires_grad_(False).copy_(draw(*weight.shape, seed=seed))

    def forward(self, n: Tensor) -> Tensor:
        return self.out(self.query(n).unflatten(2, (2, 4)).flatten(2).sin())


class Run:
    """A sampler's run with a model: what ComfyUI's guider and `calc_cond_batch` are, as far as we see them."""

    def __init__(self, *patches: Any) -> None:
        self.patches = patches
        self.conds = {"positive": POSITIVE, "negative": NEGATIVE}
        self.model = SimpleNamespace(
            diffusion_model=Denoiser(),
            current_weight_patches_uuid=None,
            current_patcher=SimpleNamespace(current_hooks=None),
            model_sampling=SimpleNamespace(percent_to_sigma=lambda percent: 14.0 * (1 - percent)),
        )

    def step(
        self,
        n: Tensor,
        rows: list[int],
        conds: Any = (POSITIVE, NEGATIVE),
        sigma: float = 7.0,
        pictures: int = 0,
        window: Any = None,
        **patches: Any,
    ) -> Tensor:
        """One step of `pictures` pictures, by default as many as `n` has rows for each conditioning in `rows`."""
        made = {"patches": {name: [patch] for name, patch in patches.items()}, "context_window": window}
        options = {"transformer_options": made}
        x = n[: pictures or len(n) // len(rows)]

        def calls(wrappers: tuple[Any, ...], *args: Any) -> Tensor:
            if wrappers:
                return wrappers[0].calc_cond_batch(lambda *given: calls(wrappers[1:], *given), *args)
            return self.model.diffusion_model(n, args[-1], rows)

        found = calls(self.patches, self.model, list(conds), x, torch.full((len(x),), sigma), options)
        assert made == {"patches": {name: [patch] for name, patch in patches.items()}, "context_window": window}
        return found

    def whole(self, n: Tensor, rows: list[int], **more: Any) -> Tensor:
        """A run of one step."""

        class Executor:
            class_obj = self

            def __call__(executor) -> Tensor:  # noqa: N805
                return self.step(n, rows, **more)

        (patch,) = self.patches
        return patch.outer_sample(Executor())


def tokens(seed: int = 5, count: int = 3) -> Any:
    attention = UserAttention([SHAPE], 6)
    with torch.no_grad():
        attention.values[0].weight.copy_(draw(8, 6, seed=1))
    return UserTokens(attention, draw(count, 6, seed=seed))


def added(model: Any, user: Any, n: Tensor) -> Tensor:
    """What a user adds, by the formula and not folded."""
    attention = model.diffusion_model.attn2
    return attend(attention.to_q(n), user.keys[0][None], user.values[0][None], 2) @ attention.to_out[0].weight.T


def patch(user: Any = None, other: Any = None, strength: float = 1.0, window: tuple[float, float] = (0.0, 1.0)) -> Any:
    return patching.UserPatch([LAYER], [(user, other)], strength, window)


@pytest.mark.parametrize("strength", [1.0, -2.0, 0.5])
def test_the_person_is_added_to_what_the_block_gives(strength: float) -> None:
    user, n = tokens(), draw(2, 5, 12)
    run = Run(patch(user, strength=strength))
    plain = Run().step(n, [0])
    torch.testing.assert_close(run.step(n, [0]), plain + strength * added(run.model, user, n), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [[1, 0], [0, 1], [0, 0, 1], [1], [1, 1]])
def test_only_the_positive_rows_change_and_the_others_keep_their_bits(rows: list[int]) -> None:
    user, n = tokens(), draw(2 * len(rows), 5, 12)  # a batch of two pictures
    run = Run(patch(user))
    plain, found = Run().step(n, rows), run.step(n, rows)
    for row, (one, other) in enumerate(zip(plain.chunk(len(rows)), found.chunk(len(rows)), strict=True)):
        assert torch.equal(one, other) == (rows[row] == 1)


def test_the_negative_half_has_tokens_of_its_own() -> None:
    one, other, n = tokens(), tokens(6, count=2), draw(2, 5, 12)
    run = Run(patch(one, other))
    wanted = Run().step(n, [1, 0]) + torch.cat([added(run.model, other, n[:1]), added(run.model, one, n[1:])])
    torch.testing.assert_close(run.step(n, [1, 0]), wanted, atol=1e-5, rtol=1e-5)


def test_a_conditioning_is_negative_by_its_name_wherever_it_stands() -> None:
    """Self-attention guidance asks for the negative one alone; guidance by two prompts has it first."""
    n = draw(1, 5, 12)
    user = patch(tokens())
    run, plain = Run(user), Run().step(n, [0])
    assert torch.equal(run.whole(n, [0], conds=[NEGATIVE]), plain)
    assert not torch.equal(run.whole(n, [0], conds=[POSITIVE]), plain)
    assert not torch.equal(run.whole(n, [2], conds=[NEGATIVE, ["middle"], POSITIVE]), plain)
    assert not torch.equal(run.whole(n, [0], conds=[["made by somebody else"], NEGATIVE]), plain)
    assert torch.equal(run.whole(n, [1], conds=[POSITIVE, ["made by somebody else"]]), plain)


def test_two_people_add_up_and_their_order_does_not_matter() -> None:
    one, other, n = tokens(), tokens(6), draw(1, 5, 12)
    both = Run(patch(one), patch(other))
    wanted = Run().step(n, [0]) + added(both.model, one, n) + added(both.model, other, n)
    torch.testing.assert_close(both.step(n, [0]), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(Run(patch(other), patch(one)).step(n, [0]), wanted, atol=1e-5, rtol=1e-5)


def people(*whose: Any) -> Any:
    return patching.UserPatch([LAYER], whose, 1.0)


@pytest.mark.parametrize("rows", [[0], [1, 0], [0, 1], [0, 1, 0]])
def test_each_picture_of_a_batch_is_for_somebody_and_from_the_first_again(rows: list[int]) -> None:
    """Five pictures for three people, the third of whom is nobody."""
    one, other, negative, n = tokens(), tokens(6), tokens(7, count=2), draw(5 * len(rows), 5, 12)
    run = Run(people((one, None), (other, negative), (None, None)))
    wanted = Run().step(n, rows)
    for chunk, cond in enumerate(rows):
        for picture, whose in enumerate([one, other, None, one, other]):
            half = (negative if whose is other else None) if cond else whose
            if half is not None:
                row = slice(5 * chunk + picture, 5 * chunk + picture + 1)
                wanted[row] += added(run.model, half, n[row])
    torch.testing.assert_close(run.step(n, rows, pictures=5), wanted, atol=1e-5, rtol=1e-5)


def test_a_window_over_the_batch_keeps_everybodys_place() -> None:
    one, other, n = tokens(), tokens(6), draw(2, 5, 12)
    run = Run(people((one, None), (other, None)))
    wanted = Run().step(n, [0]) + torch.cat([added(run.model, other, n[:1]), added(run.model, one, n[1:])])
    for dim, same in ((0, True), (2, False)):
        found = run.step(n, [0], window=SimpleNamespace(dim=dim, index_list=[3, 4]))
        assert torch.allclose(found, wanted, atol=1e-5) == same


def test_parts_of_pictures_that_are_stacked_into_the_batch_keep_their_people() -> None:
    one, other, n = tokens(), tokens(6), draw(4, 5, 12)
    run = Run(people((one, None), (other, None)))
    wanted = Run().step(n, [0]) + torch.cat([added(run.model, (one, other)[i % 2], n[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(run.step(n, [0], pictures=2), wanted, atol=1e-5, rtol=1e-5)


def test_the_pair_is_around_other_patches_whoever_came_first() -> None:
    """Another pack that splits each row into regions and joins them again, as attention couples do."""
    user, n = tokens(), draw(1, 5, 12)
    more = {
        "attn2_patch": lambda n, context, value, extra: (n.repeat(2, 1, 1), context, value),
        "attn2_output_patch": lambda n, extra: n.chunk(2)[0] + 1,
    }
    run = Run(patch(user))
    wanted = Run().step(n, [0], **more) + added(run.model, user, n)
    torch.testing.assert_close(run.step(n, [0], **more), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("sigma", "there"), [(10.6, False), (10.5, True), (7.0, True), (3.5, True), (3.4, False)])
def test_it_acts_inside_its_window_only(sigma: float, there: bool) -> None:
    n = draw(1, 5, 12)
    run = Run(patch(tokens(), window=(0.25, 0.75)))
    assert torch.equal(run.step(n, [0], sigma=sigma), Run().step(n, [0])) != there


def test_a_block_that_the_ppd_does_not_know_is_left_alone() -> None:
    n, extra = draw(1, 5, 12), {}
    remember, add = UserBlocks([LAYER], 1.0).pair(Denoiser(), lambda conds, rows: [tokens()])
    remember(n, None, None, extra)
    assert add(n, extra) is n and add(n, {"block": ("middle", 0)}) is n


def test_other_weights_are_folded_anew_and_the_same_ones_once() -> None:
    user, n = tokens(), draw(1, 5, 12)
    run = Run(patch(user))
    asked: list[Tensor] = []
    run.model.diffusion_model.attn2.to_q.register_forward_hook(lambda *call: asked.append(call[1][0]))
    run.step(n, [0])
    run.step(n, [0])
    assert sum(len(one[0]) == 13 for one in asked) == 1
    hook = SimpleNamespace(hook_ref=object(), strength=0.5)
    for change in ("loras", "hooks", "stronger hook"):
        run.model.diffusion_model.attn2.to_q.weight.mul_(-1.5)
        if change == "loras":
            run.model.current_weight_patches_uuid = change
        elif change == "hooks":
            run.model.current_patcher.current_hooks = SimpleNamespace(hooks=[hook])
        else:
            hook.strength = 1.0
        plain = Run()
        plain.model = run.model
        wanted = plain.step(n, [0])
        plain.patches = run.patches
        torch.testing.assert_close(
            plain.step(n, [0]), wanted + added(run.model, user, n), atol=1e-5, rtol=1e-5, msg=change
        )


def test_nothing_folded_outlives_a_run_even_one_that_fails() -> None:
    user = patch(tokens())
    run = Run(user)
    run.whole(draw(1, 5, 12), [0])
    assert user._blocks.empty and user._run is None
    run.model.diffusion_model.attn2.to_out = None
    with pytest.raises(TypeError):
        run.whole(draw(1, 5, 12), [0])
    assert user._run is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_layer_is_asked_for_its_weights_to_the_last_bit(dtype: torch.dtype) -> None:
    layer = nn.Linear(12, 8).to(dtype).requires_grad_(False)
    layer.bias.fill_(0.1)  # a hundred times as large as some weights
    layer.weight.copy_((0.05 * draw(8, 12)).to(dtype))
    found = multiplies_by(nn.Sequential(layer, nn.Dropout(0.0)), 12, torch.zeros(1, dtype=dtype))
    assert found.shape == (8, 12) and found.dtype == torch.float32
    close = 1e-6 if dtype == torch.float32 else 2e-3  # the layer's answer is rounded, by less than a step of its dtype
    torch.testing.assert_close(found, layer.weight.float(), atol=close * 0.05, rtol=close * 4)


JOINT = joint.JointLayer(LayerShape("transformer_blocks.0.attn", 12, 8, 2, 12), "query", "out")


def jointly(patch: Any, model: Joint, n: Tensor, rows: list[int], compiled: bool = False) -> Tensor:
    """A step of ComfyUI with such a denoiser: its calls go through the wrappers of the step."""

    class Executor:
        class_obj = SimpleNamespace(diffusion_model=model)

        def __call__(self, *args: Any, **more: Any) -> Tensor:
            return model(args[0])

    def step(_: Any, __: Any, x: Tensor, ___: Any, options: dict[str, Any]) -> Tensor:
        now = {**options["transformer_options"], "cond_or_uncond": rows}
        (call,) = now["wrappers"]["apply_model"].pop(patching.KEY)
        now["wrappers"]["apply_model"] |= {"torch.compile": []} if compiled else {}
        return call(Executor(), n, None, None, None, None, now)

    x = n[: len(n) // len(rows)]
    return patch.calc_cond_batch(step, None, [POSITIVE, NEGATIVE], x, torch.full((len(x),), 7.0), {})


def test_in_joint_attention_the_person_answers_the_pictures_own_query() -> None:
    """A batch of two for two people, the second with a negative half, before the output's projection."""
    one, other, negative, model, n = tokens(), tokens(6), tokens(7, count=2), Joint(), draw(4, 5, 12)
    patch = patching.UserPatch([JOINT], [(one, None), (other, negative)], 0.5)
    wanted = model(n)
    for row, user in ((0, one), (1, other), (3, negative)):
        answer = attend(model.query(n[row : row + 1]), user.keys[0][None], user.values[0][None], 2)
        wanted[row] += 0.5 * (answer @ model.out.weight.T)[0]
    torch.testing.assert_close(jointly(patch, model, n, [0, 1]), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(jointly(patching.UserPatch([JOINT], [(one, None)], 1.0), model, n, [1]), model(n))


def test_no_hook_is_left_by_a_call_even_one_that_fails_and_a_compiled_model_is_refused() -> None:
    model, n = Joint(), draw(1, 5, 12)
    patch = patching.UserPatch([JOINT], [(tokens(), None)], 1.0)
    jointly(patch, model, n, [0])
    with pytest.raises(RuntimeError):
        jointly(patch, model, n[..., :3], [0])
    with pytest.raises(PPDError, match=r"this model is compiled.*TorchCompileModel"):
        jointly(patch, model, n, [0], compiled=True)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_denoiser_that_is_built_in_another_way_is_named() -> None:
    class Flux(nn.Module):
        double_blocks = (SimpleNamespace(attention=None),)

    with pytest.raises(PPDError, match=r"builds its Flux in another way.*img_attn"):
        joint.joint_layers(Flux())
