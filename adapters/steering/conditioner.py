"""Prompts to conditioning for a diffusers pipeline, plain or moved along a taste.

Shapes: C chunks of T = 77 tokens, H width of the text encoder (both together for SDXL), D joint width.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from ..encoders import ImageTextEncoder
from ..errors import SteeringError
from .adapted import Adapted
from .conditioning import Conditioning, joined_movement
from .descent import Cancelled, OnStep
from .matching import Tastes, tastes_by_tower
from .objective import TasteLike, taste_key
from .prompt_tower import PromptTower
from .settings import Movement, SteeringSettings
from .weights import adapt_text_weights

__all__ = ["TextConditioner"]

KEPT = 32  # prompts, of each tower


class TextConditioner:
    """The text side of a Stable Diffusion 1.x, 2.x or XL pipeline.

    A prompt of up to 75 tokens gives bit for bit what diffusers' own `encode_prompt` gives; a longer one is cut into
    chunks of 75, each with its own start and end token, instead of being cut off, and the first chunk gives the pooled
    vector. Brackets and weights such as (word:1.2) are plain text here, as in diffusers.

    Attributes:
        towers: One; or two for SDXL, side by side in the conditioning. The last one's pooled vector counts.
        clip_skip: Layers left out at the end, as diffusers counts (for SDXL, from the penultimate layer on).
    """

    def __init__(
        self,
        towers: PromptTower | Sequence[PromptTower],
        clip_skip: int = 0,
        *,
        zero_negative: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Take the towers of a pipeline.

        Args:
            towers: In the order of the conditioning.
            clip_skip: >= 0.
            zero_negative: An empty negative prompt becomes zeros (SDXL's `force_zeros_for_empty_prompt`).
            device: Text encoders go there while they work and back afterwards; None leaves them where they are.
        """
        self.towers = (towers,) if isinstance(towers, PromptTower) else tuple(towers)
        self.clip_skip, self._zero_negative, self._device = clip_skip, zero_negative, device
        self._plain: OrderedDict[tuple[Any, ...], Conditioning] = OrderedDict()
        self._kept: OrderedDict[tuple[Any, ...], Adapted] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def takes_pooled(self) -> bool:
        """Whether the model takes a pooled vector, as SDXL does."""
        return self.towers[-1].own_projection is not None

    @property
    def encoder(self) -> ImageTextEncoder | None:
        """The first tower's CLIP, or the first that there is."""
        return next(iter(self.encoders.values()), None)

    @property
    def encoders(self) -> dict[str, ImageTextEncoder]:
        """CLIPs by the name of the tower that each belongs to."""
        return {tower.name: tower.encoder for tower in self.towers if tower.encoder is not None}

    @property
    def state(self) -> tuple[int, ...]:
        """What else a prompt's states hang on: the layer, and how many words textual inversions have added."""
        return (self.clip_skip, *(len(tower.tokenizer) for tower in self.towers))

    def chunks(self, prompt: str) -> int:
        """C that a prompt needs."""
        return max(len(tower.token_ids(prompt)) for tower in self.towers)

    def plain(self, prompt: str, chunks: int = 1) -> Conditioning:
        """Conditioning of a prompt, C as many as it needs and at least `chunks`."""
        chunks = max(self.chunks(prompt), chunks)
        key = (prompt, chunks, *self.state)
        with self._lock:
            if key not in self._plain:
                self._plain[key] = self._encoded(prompt, chunks)
                while len(self._plain) > KEPT:
                    self._plain.popitem(last=False)
            self._plain.move_to_end(key)
            return self._plain[key]

    def negative(self, prompt: str, chunks: int = 1) -> Conditioning:
        """The same for a negative prompt, which is never moved; an empty one is zeros where the model wants that."""
        plain = self.plain(prompt, chunks)
        return plain.zeros() if self._zero_negative and not prompt else plain

    def steered(
        self,
        prompt: str,
        tastes: Tastes,
        settings: SteeringSettings | None = None,
        on_step: OnStep | None = None,
        cancelled: Cancelled | None = None,
    ) -> tuple[Conditioning, Movement]:
        """Conditioning of a prompt moved along a taste, and how far it was moved.

        What was adapted is kept by prompt, taste and settings, so another strength comes at once.

        Args:
            prompt: The conditional prompt; an empty one is moved, too. Leave the negative prompt plain.
            tastes: One, which moves the tower that its encoder belongs to; or one for each of SDXL's towers. By
                "pooled" only the one for the larger tower acts.
            settings: How; its strength 0 gives the bits of `plain`.
            on_step: Called with (steps done, steps), over all towers that are moved.
            cancelled: Asked before every step.

        Returns:
            In the dtype of the text encoders, and the Movement at this strength.

        Raises:
            EncoderMismatchError: a taste was learned with another encoder.
            SteeringError: there is no encoder with a text projection, or the settings are wrong.
            CancelledError: `cancelled` said so.
        """
        settings = (settings or SteeringSettings()).settled(len(self.towers))
        moving = self.moving(tastes, settings)
        plain = self.plain(prompt)
        if not moving:
            return plain, joined_movement([], plain, plain, settings.strength)
        tokens, pooled = [], plain.pooled
        movements: list[Movement] = []
        starts = _starts(self.towers)
        for tower, start in zip(self.towers, starts, strict=True):
            part = plain.tokens[..., start : start + tower.width]
            taste = moving.get(tower.name)
            if taste is not None:
                note = _counted(on_step, len(movements), len(moving))
                adapted = self._adapted(tower, prompt, taste, settings, note, cancelled)
                part = adapted.tokens(settings.strength)
                movements.append(adapted.movement(settings.strength))
                if tower is self.towers[-1] and pooled is not None and settings.strength > 0:
                    moved = (adapted.embedding(settings.strength) - adapted.plain_embedding)[:1]
                    pooled = (pooled.float() + moved.to(pooled.device)).to(pooled)
            tokens.append(part)
        steered = Conditioning(torch.cat(tokens, dim=-1), pooled)
        return steered, joined_movement(movements, plain, steered, settings.strength)

    def moving(self, tastes: Tastes, settings: SteeringSettings | None = None) -> dict[str, TasteLike]:
        """Which towers would be moved, by name, and by which taste.

        Raises:
            EncoderMismatchError: a taste was learned with another encoder.
            SteeringError: it can't move this model, or not by this method.
        """
        found = tastes_by_tower(tastes, self.towers)
        if settings is None or settings.method != "pooled":
            return found
        last = self.towers[-1]
        if not self.takes_pooled or last.name not in found:
            raise SteeringError(
                "Cannot steer by 'pooled': "
                + (
                    "found only a taste for the smaller tower"
                    if self.takes_pooled
                    else "this model takes no such vector"
                )
                + "; expected SDXL and a taste learned with open_clip:ViT-bigG-14/laion2b_s39b_b160k. Use 'auto'."
            )
        return {last.name: found[last.name]}

    def check(self, taste: Tastes) -> None:
        """Whether a taste, or one for each tower, can move this text side.

        Raises:
            EncoderMismatchError: it was learned with another encoder.
            SteeringError: no encoder, or one without a text projection.
        """
        self.moving(taste)

    def _encoded(self, prompt: str, chunks: int) -> Conditioning:
        tokens, pooled = [], None
        for tower in self.towers:
            with tower.on(self._device):
                part, pooled = tower.states(tower.token_ids(prompt, chunks), *self._layer)
            tokens.append(part)
        return Conditioning(torch.cat(tokens, dim=-1), pooled)

    def _adapted(
        self,
        tower: PromptTower,
        prompt: str,
        taste: TasteLike,
        settings: SteeringSettings,
        on_step: OnStep | None,
        cancelled: Cancelled | None,
    ) -> Adapted:
        """What `steered` makes of one tower before a strength is chosen; kept for the last prompts."""
        strength, limit = 1.0 if settings.strength > 0 else 0.0, settings.limit
        settings = dataclasses.replace(settings, strength=strength, limit=180.0)  # both act on what is kept
        key = (tower.name, prompt, taste_key(taste), settings, *self.state)
        with self._lock:
            if key not in self._kept:
                with tower.on(self._device):
                    skip, normed = self._layer
                    found = adapt_text_weights(
                        tower.module,
                        tower.token_ids(prompt, self.chunks(prompt)),
                        taste,
                        tower.projection_for(taste),
                        settings,
                        clip_skip=skip,
                        norm_skipped=normed,
                        takes_pooled=tower is self.towers[-1] and self.takes_pooled,
                        logit_scale=100.0 if tower.encoder is None else tower.encoder.logit_scale,
                        on_step=on_step,
                        cancelled=cancelled,
                    )
                # Weights are as large as the text encoder and no longer needed: only token states stay.
                self._kept[key] = dataclasses.replace(found, change=None)
                while len(self._kept) > KEPT * len(self.towers):
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return dataclasses.replace(self._kept[key], limit=limit)

    @property
    def _layer(self) -> tuple[int, bool]:
        """Layers left out, and whether their states are normed: SDXL starts from the penultimate layer, as it is."""
        return (self.clip_skip + 1, False) if self.takes_pooled else (self.clip_skip, True)


def _starts(towers: Sequence[PromptTower]) -> list[int]:
    widths = [tower.width for tower in towers]
    return [sum(widths[:number]) for number in range(len(widths))]


def _counted(on_step: OnStep | None, before: int, towers: int) -> OnStep | None:
    if on_step is None:
        return None
    return lambda done, steps: on_step(before * steps + done, towers * steps)
