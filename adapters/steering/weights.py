"""The `encoder` way: a few gradient steps on a copy of the text encoder, for one prompt.

Stable Diffusion 1.5 is conditioned on the text encoder's token states, while preferences speak about its projected
pooled embedding x. Both hang on the encoder's weights: those are moved so that x goes where the taste points, and the
moved encoder's token states condition the image.

Shapes: C chunks of T = 77 tokens, H width of the text encoder, D joint width.

Source: Gallego 2022, arXiv:2209.12330 (Adam on the text encoder's weights), with the objective of Gallego 2023,
arXiv:2308.07929. Differs: any number of chunks (mean objective), strength, and the length of steps: a learning rate
suits one size and training of a text encoder, an angle suits all, so steps are as long as turns x by a given angle.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..errors import CancelledError, ShapeError, SteeringError
from .objective import TasteLike, TasteObjective
from .settings import Movement, SteeringSettings

__all__ = ["Adapted", "Encode", "adapt_text_weights"]

Weights = Mapping[str, Tensor]
Encode = Callable[[Weights | None], Tensor]
OnStep = Callable[[int, int], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Adapted:
    """A prompt, plain and adapted; any strength can be had from it at no cost.

    Attributes:
        plain: (1, C·T, H) token states of the untouched encoder, bit for bit what the host makes.
        adapted: (1, C·T, H) token states of the adapted encoder.
        plain_embedding: (C, D) projected pooled states, not normalised.
        adapted_embedding: (C, D) the same of the adapted encoder.
        objective: What was made smaller.
        weights: Adapted weights (float32) under the names of the text model; empty when nothing was adapted.
    """

    plain: Tensor
    adapted: Tensor
    plain_embedding: Tensor
    adapted_embedding: Tensor
    objective: TasteObjective
    weights: Weights = field(default_factory=dict)

    def tokens(self, strength: float = 1.0) -> Tensor:
        """Conditioning at a strength: plain + strength · (adapted − plain), over token states.

        Token states are interpolated, not weights: that needs no further run of the encoder, so a slider moves at once
        (A1111's aesthetic gradients do the same). 0 and 1 are exact; beyond 1 it extrapolates.
        """
        if strength == 0:
            return self.plain
        if strength == 1:
            return self.adapted
        return self.plain + strength * (self.adapted - self.plain)

    def movement(self, strength: float = 1.0) -> Movement:
        """How far the prompt is moved at a strength."""
        before = F.normalize(self.plain_embedding, dim=-1)
        moved = self.plain_embedding + strength * (self.adapted_embedding - self.plain_embedding)
        after = F.normalize(moved, dim=-1)
        change = (self.tokens(strength).float() - self.plain.float()).norm() / self.plain.float().norm()
        return Movement(
            cosine=float((before * after).sum(dim=-1).mean().clamp(-1, 1)),
            degrees=_degrees(before, after),
            token_change=float(change),
            objective_before=float(self.objective.loss(before)),
            objective_after=float(self.objective.loss(after)),
            strength=strength,
        )


def adapt_text_weights(
    text_model: nn.Module,
    token_ids: Tensor,
    taste: TasteLike,
    projection: Tensor | None,
    settings: SteeringSettings | None = None,
    *,
    encode: Encode | None = None,
    clip_skip: int = 0,
    norm_skipped: bool = True,
    logit_scale: float = 100.0,
    on_step: OnStep | None = None,
    cancelled: Cancelled | None = None,
) -> Adapted:
    """Adapt a copy of a text encoder's weights to one prompt and one taste.

    The model itself is never touched, and its parameters may be inference tensors: gradients run on float32 clones
    through `torch.func.functional_call` on a twin that shares no state with it. The caller may be in inference mode.

    A host whose text encoder can't be differentiated (ComfyUI's works in place) gives `text_model =
    adapters.encoders.text_model_from_state_dict(transformer.state_dict())` for the gradients and its own encoder as
    `encode`: `encode(None)` must return the host's plain conditioning and `encode(weights)` the conditioning with these
    weights in place of its own. Names are those of `text_model`, which for ComfyUI are the names inside
    `clip.cond_stage_model.clip_l.transformer`, so there it is, with a small module whose forward calls
    `encode_token_weights`: `functional_call(wrapper, {f"{path}.{name}": w for name, w in weights.items()}, (pairs,))`.

    Args:
        text_model: transformers' `CLIPTextModel`, or `TextTower`.
        token_ids: (C, T) one row a chunk, each with its own end token. All chunks belong to the conditional prompt;
            leave the negative one out.
        taste: What to move towards.
        projection: (D, H), x = projection @ pooled state. None works with a taste that has `text_weights`.
        settings: How; strength 0 or 0 steps run no gradient at all.
        encode: The host's own encoder, see above; None uses `text_model`.
        clip_skip: Layers left out at the end of the conditioning, as diffusers counts (1 is the penultimate layer).
            The embedding x that is moved is always the last layer's. Not used with `encode`.
        norm_skipped: Whether a skipped layer's output goes through the final layer norm (SD1.5 yes, SDXL no).
        logit_scale: Where the settings have none.
        on_step: Called with (steps done, steps) after every step.
        cancelled: Asked before every step.

    Returns:
        The prompt, plain and adapted at strength 1.

    Raises:
        CancelledError: `cancelled` said so.
        ShapeError: token ids, projection and taste don't fit together.
        SteeringError: no projection for a taste that needs one, or weights became NaN.
    """
    settings = settings or SteeringSettings()
    with torch.inference_mode(False), torch.no_grad():
        ids = token_ids.detach().clone()
        objective, matrix = _objective(taste, projection, settings, logit_scale, ids)
        run = _Runner(text_model, ids, objective, matrix, clip_skip, norm_skipped)
        plain = run.conditioning(None) if encode is None else encode(None).detach().clone()
        weights: dict[str, Tensor] = {}
        if settings.strength > 0 and settings.steps > 0:
            weights = run.adapt(settings, on_step, cancelled)
        before = run.embedding(run.start())
        if not weights:
            return Adapted(plain, plain, before.cpu(), before.cpu(), objective.to("cpu"))
        after = run.embedding(weights)
        adapted = run.conditioning(weights) if encode is None else encode(weights).detach().clone()
        if not bool(torch.isfinite(adapted).all()):
            raise SteeringError("Cannot steer: the text encoder gave NaN; expected numbers. Lower the learning rate.")
        return Adapted(plain, adapted.to(plain), before.cpu(), after.cpu(), objective.to("cpu"), weights)


class _Runner:
    """One text model, one prompt, one objective."""

    def __init__(
        self,
        model: nn.Module,
        ids: Tensor,
        objective: TasteObjective,
        matrix: Tensor | None,
        clip_skip: int,
        norm_skipped: bool,
    ) -> None:
        self.model, self.clip_skip, self.norm_skipped = model, clip_skip, norm_skipped
        shared = [*model.parameters(), *model.buffers()]
        # A second body around the same tensors: functional_call swaps tensors in a module while it runs, and must not
        # do that to the host's while another thread uses it.
        self.twin = copy.deepcopy(model, memo={id(tensor): tensor for tensor in shared})
        device = next(model.parameters()).device
        self.ids, self.objective = ids.to(device), objective.to(device)
        self.matrix = None if matrix is None else matrix.to(device)
        width = next((p.shape[1] for n, p in model.named_parameters() if n.endswith("token_embedding.weight")), 0)
        wanted = objective.dim if matrix is None else matrix.shape[1]
        if width != wanted:
            raise ShapeError(
                f"Cannot steer: the text encoder is {width} wide and the taste's text side {wanted}; expected the "
                "same. Choose the encoder that belongs to this base model (SD1.5: open_clip:ViT-L-14/openai)."
            )
        self.buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}

    def start(self) -> dict[str, Tensor]:
        """Float32 clones of the model's weights."""
        return {n: p.detach().clone().to(torch.float32) for n, p in self.model.named_parameters()}

    def states(self, weights: Weights) -> Any:
        return functional_call(
            self.twin, {**self.buffers, **weights}, (), {"input_ids": self.ids, "output_hidden_states": True}
        )

    def project(self, states: Any) -> Tensor:
        pooled: Tensor = states.pooler_output
        return pooled if self.matrix is None else pooled @ self.matrix.T

    def embedding(self, weights: Weights) -> Tensor:
        """(C, D) projected pooled states."""
        return self.project(self.states(weights))

    def conditioning(self, weights: Weights | None) -> Tensor:
        """(1, C·T, H); None runs the model itself, in its own precision."""
        if weights is None:
            states = self.model(input_ids=self.ids, output_hidden_states=True)
            weights = dict(self.model.named_parameters())
        else:
            states = self.states(weights)
        tokens: Tensor = states.last_hidden_state
        if self.clip_skip:
            tokens = states.hidden_states[-(self.clip_skip + 1)]
            if self.norm_skipped:
                scale = next(w for n, w in weights.items() if n.endswith("final_layer_norm.weight"))
                shift = next(w for n, w in weights.items() if n.endswith("final_layer_norm.bias"))
                tokens = F.layer_norm(tokens, tokens.shape[-1:], scale, shift, 1e-5)
        return tokens.detach().reshape(1, -1, tokens.shape[-1])

    def adapt(
        self, settings: SteeringSettings, on_step: OnStep | None, cancelled: Cancelled | None
    ) -> dict[str, Tensor]:
        """Adam on all weights; the gradient enters at x in closed form."""
        weights = {name: weight.requires_grad_() for name, weight in self.start().items()}
        adam = _Adam(list(weights.values()))
        rate = settings.learning_rate or 1e-4
        x = self.unit(weights)
        start, each = x.detach(), settings.turn / settings.steps
        for step in range(settings.steps):
            if cancelled is not None and cancelled():
                raise CancelledError(f"Cancelled after {step} of {settings.steps} steps of steering.")
            before = x.detach()
            adam.read(torch.autograd.grad(x, adam.weights, self.objective.gradient(before), allow_unused=True))
            adam.move(rate)
            x = self.unit(weights)
            if settings.learning_rate is None:
                # What the steps before went too far or not far enough, this one makes good.
                left = each * (step + 1) - _degrees(start, before)
                rate, x = self.turned(adam, weights, before, x, rate, max(left, each / 5), each / 5)
            if on_step is not None:
                on_step(step + 1, settings.steps)
        return {name: weight.detach() for name, weight in weights.items()}

    def unit(self, weights: Weights) -> Tensor:
        """(C, D) unit embeddings with their graph."""
        with torch.enable_grad():
            return F.normalize(self.embedding(weights), dim=-1)

    def turned(
        self, adam: _Adam, weights: Weights, before: Tensor, x: Tensor, rate: float, degrees: float, tolerance: float
    ) -> tuple[float, Tensor]:
        """Make the step just taken longer or shorter until x has turned by `degrees`; the rate that did it, and x."""
        for _ in range(4):
            angle = _degrees(before, x.detach())
            if angle == 0.0 or abs(angle - degrees) < tolerance:
                break
            wanted = rate * min(max(degrees / angle, 0.1), 10.0)
            adam.move(wanted - rate)
            rate, x = wanted, self.unit(weights)
        return rate, x


class _Adam:
    """Adam (Kingma and Ba 2014, arXiv:1412.6980, algorithm 1) whose last step can be made longer or shorter."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights
        self.first = [torch.zeros_like(weight) for weight in weights]
        self.second = [torch.zeros_like(weight) for weight in weights]
        self.steps = 0

    def read(self, gradients: Sequence[Tensor | None]) -> None:
        """Take in the gradients of one step; None for weights that play no part."""
        self.steps += 1
        for first, second, gradient in zip(self.first, self.second, gradients, strict=True):
            if gradient is not None:
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 0.001)

    def move(self, rate: float) -> None:
        """Go by `rate` along the step's direction; a negative rate goes back."""
        for weight, first, second in zip(self.weights, self.first, self.second, strict=True):
            spread = (second / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
            weight.addcdiv_(first, spread, value=-rate / (1 - 0.9**self.steps))


def _degrees(before: Tensor, after: Tensor) -> float:
    """Mean angle between the rows of two (C, D) of unit norm; exact for small angles, too."""
    halves = torch.atan2((before - after).norm(dim=-1), (before + after).norm(dim=-1))
    return math.degrees(2 * float(halves.mean()))


def _objective(
    taste: TasteLike, projection: Tensor | None, settings: SteeringSettings, logit_scale: float, ids: Tensor
) -> tuple[TasteObjective, Tensor | None]:
    if ids.ndim != 2 or ids.is_floating_point() or 0 in ids.shape:
        raise ShapeError(f"Cannot steer: token ids are {tuple(ids.shape)}; expected whole numbers (chunks, 77).")
    scale = settings.logit_scale or logit_scale
    if projection is None:
        side = getattr(taste, "text_weights", None)
        if side is None:
            raise SteeringError(
                "Cannot steer: found no text projection; expected one, or a taste that was carried to the text side. "
                "Load a full CLIP (both towers), such as open_clip:ViT-L-14/openai: SD1.5 checkpoints have none."
            )
        return TasteObjective.of(_Side(side, taste.encoder, taste.encoder_name), "direction", scale), None
    objective = TasteObjective.of(taste, settings.objective, scale)
    matrix = projection.detach().clone().to(torch.float32)
    if matrix.ndim != 2 or matrix.shape[0] != objective.dim:
        raise ShapeError(
            f"Cannot steer: the projection is {tuple(matrix.shape)} and the taste {objective.dim} wide; expected "
            f"({objective.dim}, width of the text encoder). Choose the encoder that the taste was learned with."
        )
    return objective, matrix


@dataclass(frozen=True)
class _Side:
    """A taste carried to the text side: weights W^T w over the text encoder's pooled state."""

    weights: Any
    encoder: str
    encoder_name: str
