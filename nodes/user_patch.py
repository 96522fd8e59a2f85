"""A user inside ComfyUI's denoiser: what Apply User hangs into a model's runs. Imports nothing of ComfyUI.

In a UNet the user is added to what each cross-attention gives (`adapters/ppd/host_blocks.py`); where text and picture
are attended to jointly, to what the picture's attention answers (`user_joint.py`). Both are put in anew each step and
around whatever others have there, so users, LoRAs, IP-Adapters and their like go together in any order.

Shapes: B rows of a call; a multiple of the number of conditionings in it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..adapters.ppd.host_blocks import KEY, UserBlocks, UserTokens
from ..adapters.ppd.host_layers import HostLayer
from .user_joint import JointBlocks, JointLayer, refuse_compiled

__all__ = ["Person", "UserPatch"]

_CALLS = "apply_model"  # ComfyUI's name of the wrappers of a denoiser's calls

Person = tuple[UserTokens | None, UserTokens | None]
"""Tokens for the positive conditionings, and for the negative ones; None leaves them as they are."""
Whose = Callable[[Sequence[int], int], list[UserTokens | None]]
"""(conditionings of a call, B) -> who acts on each of its rows."""


class UserPatch:
    """One Apply User node: two of ComfyUI's wrappers, and the folded people for as long as a run takes.

    Args:
        layers: All attentions that it enters, in the order of the tokens' parts: cross-attentions, or joint ones.
        people: One for all pictures of a batch, or several: picture i is for person i, from the first again where
            there are more pictures.
        strength: Factor of what a person adds.
        window: start_percent, end_percent.
    """

    def __init__(
        self,
        layers: Sequence[HostLayer] | Sequence[JointLayer],
        people: Sequence[Person],
        strength: float,
        window: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        joint = [layer for layer in layers if isinstance(layer, JointLayer)]
        self._joint = JointBlocks(joint, strength) if joint else None
        self._blocks = UserBlocks([layer for layer in layers if isinstance(layer, HostLayer)], strength)
        self._people, self._window = tuple(people), window
        self._run: Any = None

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Wrapper of a whole run (OUTER_SAMPLE): nothing folded outlives it."""
        before, self._run = self._run, executor.class_obj
        self._blocks.forget()
        try:
            return executor(*args, **kwargs)
        finally:
            self._run = before
            self._blocks.forget()

    def calc_cond_batch(
        self, executor: Any, model: Any, conds: Sequence[Any], x: Tensor, sigma: Tensor, options: Mapping[str, Any]
    ) -> Any:
        """Wrapper of a step (CALC_COND_BATCH): inside the window, the user is around all other patches."""
        if not self._inside(model, sigma):
            return executor(model, conds, x, sigma, options)
        transformer = dict(options.get("transformer_options", {}))
        whose = self._whose(self._unconditional(conds), _pictures(transformer.get("context_window"), len(x)))
        if self._joint is not None:
            _around(transformer, self._joint, whose)
        else:
            pair = self._blocks.pair(model.diffusion_model, whose, lambda: _weights_now(model))
            patches = dict(transformer.get("patches", {}))
            patches["attn2_patch"] = [pair[0], *patches.get("attn2_patch", [])]
            patches["attn2_output_patch"] = [*patches.get("attn2_output_patch", []), pair[1]]
            transformer["patches"] = patches
        return executor(model, conds, x, sigma, {**options, "transformer_options": transformer})

    def _inside(self, model: Any, sigma: Tensor) -> bool:
        if self._window == (0.0, 1.0):  # then nothing waits for the device to say its sigma
            return True
        # Asked now: a later node may have changed the model's schedule.
        first, last = (float(model.model_sampling.percent_to_sigma(percent)) for percent in self._window)
        return last <= float(sigma.max()) <= first

    def _unconditional(self, conds: Sequence[Any]) -> list[bool]:
        """Which conditionings of a call are negative ones: by their names in this run, else all but the first.

        Places alone would not do: self-attention guidance asks for the negative one alone, and guidance by two prompts
        has it first.
        """
        named = getattr(self._run, "conds", {})
        found = []
        for place, cond in enumerate(conds):
            name = next((name for name, known in named.items() if known is cond), None)
            found.append(place > 0 if name is None else "negative" in name)
        return found

    def _whose(self, unconditional: Sequence[bool], pictures: Sequence[int]) -> Whose:
        """Each conditioning has all pictures; where somebody stacks parts of pictures, each part has them all again."""

        def whose(conds: Sequence[int], rows: int) -> list[UserTokens | None]:
            return [
                self._people[pictures[row % len(pictures)] % len(self._people)][unconditional[cond]]
                for cond in conds
                for row in range(rows // len(conds))
            ]

        return whose


def _pictures(window: Any, count: int) -> Sequence[int]:
    """Which pictures of the batch a step is about: those of a context window over it, else all."""
    if window is not None and getattr(window, "dim", None) == 0:
        return list(window.index_list)
    return range(count)


def _around(transformer: dict[str, Any], joint: JointBlocks, whose: Whose) -> None:
    """Add a wrapper of the denoiser's calls in this step (APPLY_MODEL)."""

    def call(executor: Any, *args: Any, **more: Any) -> Any:
        now = more.get("transformer_options") or args[5]  # x, t, c_concat, c_crossattn, control, transformer_options
        denoiser = executor.class_obj.diffusion_model
        refuse_compiled(denoiser, now.get("wrappers", {}).get(_CALLS))
        with joint.inside(denoiser, lambda rows: whose(now.get("cond_or_uncond") or [0], rows)):
            return executor(*args, **more)

    wrappers = dict(transformer.get("wrappers", {}))
    calls = dict(wrappers.get(_CALLS, {}))
    calls[KEY] = [*calls.get(KEY, []), call]
    transformer["wrappers"] = {**wrappers, _CALLS: calls}


def _weights_now(model: Any) -> Hashable:
    """What weights a model has at this moment: the host's mark of its patches, and the LoRAs of its hooks."""
    hooks = getattr(getattr(model, "current_patcher", None), "current_hooks", None)
    marks = tuple((id(hook.hook_ref), hook.strength) for hook in hooks.hooks) if hooks is not None else ()
    return str(getattr(model, "current_weight_patches_uuid", None)), marks
