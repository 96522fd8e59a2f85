"""Which CLIP belongs to which text tower, and which taste moves which."""

from __future__ import annotations

from collections.abc import Sequence

from ..encoders import ImageTextEncoder
from ..errors import EncoderMismatchError, SteeringError
from .objective import TasteLike
from .prompt_tower import PromptTower, fitting_encoder

__all__ = ["Tastes", "encoders_by_tower", "tastes_by_tower"]

Tastes = TasteLike | Sequence[TasteLike]
_USUAL = "SD1.5's is open_clip:ViT-L-14/openai; SDXL's are that and open_clip:ViT-bigG-14/laion2b_s39b_b160k"


def encoders_by_tower(
    encoders: Sequence[ImageTextEncoder], towers: Sequence[PromptTower]
) -> dict[str, ImageTextEncoder]:
    """Give each CLIP to the tower of its text side's width; one without a text side to the first that is free.

    Raises:
        EncoderMismatchError: a CLIP's text side is as wide as none of the towers, or two are for the same.
    """
    found: dict[str, ImageTextEncoder] = {}
    for encoder in sorted(encoders, key=lambda one: one.text_projection is None):
        width = None if encoder.text_projection is None else int(encoder.text_projection.shape[1])
        free = [tower for tower in towers if tower.name not in found and width in (None, tower.width)]
        # SDXL's larger tower brings its projection: an image tower alone can be the other half of it.
        own = [
            t for t in free if width is None and t.own_projection is not None and len(t.own_projection) == encoder.dim
        ]
        if not free:
            wanted = " and ".join(f"{tower.name} is {tower.width} wide" for tower in towers)
            fitting = " or ".join(fitting_encoder(tower.width) for tower in towers)
            raise EncoderMismatchError(
                f"Cannot use {encoder.name} with this model: its text side is {width} wide; expected that of the "
                f"model's text encoders ({wanted}), each once. Choose {fitting}."
            )
        found[(own or free)[0].name] = encoder
    return found


def tastes_by_tower(tastes: Tastes, towers: Sequence[PromptTower]) -> dict[str, TasteLike]:
    """Tastes by the name of the tower that each one moves.

    A taste moves the tower whose CLIP it was learned with. Where no CLIP is at hand, one from a file moves the tower
    that its text side, W^T w, is as wide as, or whose own projection leads into a space as wide as the taste.

    Raises:
        EncoderMismatchError: a taste was learned with another encoder.
        SteeringError: no encoder, one without a text projection, or two tastes for one tower.
    """
    found: dict[str, TasteLike] = {}
    for taste in tastes if isinstance(tastes, Sequence) else (tastes,):
        own = [tower for tower in towers if tower.encoder is not None and tower.encoder.identity == taste.encoder]
        fitting = own or [tower for tower in towers if tower.encoder is None and _carries(taste, tower)]
        if not fitting:
            raise _stranger(taste, towers)
        free = [tower for tower in fitting if tower.name not in found]
        if not free:
            raise SteeringError(
                f"Cannot steer by two tastes at once in one text encoder ({fitting[0].name}); expected one for each. "
                "Blend them into one first."
            )
        tower = free[0]
        if tower.projection_for(taste) is None and getattr(taste, "text_weights", None) is None:
            name = tower.encoder.name if tower.encoder is not None else "this model"
            raise SteeringError(
                f"Cannot steer: {name} has no text projection; expected a full CLIP with both towers. "
                f"Load one, such as {fitting_encoder(tower.width)}."
            )
        found[tower.name] = taste
    return found


def _carries(taste: TasteLike, tower: PromptTower) -> bool:
    side, own = getattr(taste, "text_weights", None), tower.own_projection
    if side is not None:
        return len(side) == tower.width
    return own is not None and len(own) == len(taste.weights)


def _stranger(taste: TasteLike, towers: Sequence[PromptTower]) -> SteeringError | EncoderMismatchError:
    encoders = [tower.encoder for tower in towers if tower.encoder is not None]
    if not encoders:
        return SteeringError(
            "Cannot steer: no encoder was given for this model; expected the CLIP that its text encoder belongs to. "
            f"{_USUAL}."
        )
    known = " or ".join(f"{encoder.name} ({encoder.identity[:12]})" for encoder in encoders)
    more = "".join(
        f"; its other text encoder goes with {fitting_encoder(tower.width)}"
        for tower in towers
        if tower.encoder is None
    )
    return EncoderMismatchError(
        f"Cannot steer with this taste: it was learned with {taste.encoder_name or 'another encoder'} "
        f"({taste.encoder[:12]}); expected {known}, which belongs to this model{more}. Choose that encoder and fit the "
        "taste again."
    )
