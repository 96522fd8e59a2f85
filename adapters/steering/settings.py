"""How to steer, and how far a prompt was moved."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import SteeringError
from .objective import STEERING_OBJECTIVES

__all__ = ["AUTO", "METHODS", "TOWERS", "Movement", "SteeringSettings"]

METHODS = ("encoder", "token_input", "eos_token", "pooled")
AUTO = "auto"
TOWERS = ("clip_l", "clip_g")  # text towers by the names that ComfyUI and embedding files have for them
STRONGEST = 2.0


@dataclass(frozen=True)
class SteeringSettings:
    """Settings of steering.

    Attributes:
        method: What is moved, for one prompt. "encoder": a copy of the text encoder's weights. "token_input": the
            vectors that the prompt's words stand for; much less memory. "eos_token": the output state at the end token
            alone, or with clip skip the states of the layer that conditions; cheap and weak. "pooled": the projected
            vector that SDXL takes beside the tokens, in closed form; tokens keep their bits. "auto" is "encoder" where
            there is one text encoder and "token_input" where there are two (`settled`).
        objective: "bradley_terry", "positive" or "direction" (`TasteObjective.of`).
        steps: Gradient steps, >= 0; the paper takes 5 to 7. 0 is off.
        turn: Degrees, in (0, 180], by which the text embedding turns in all at strength 1; each step is as long as
            turns it by turn / steps. It means the same for every size of text encoder. 18 is what `palate study
            bt-generation` found best of 8, 12, 18 and 27 where 95 % of the prompt has to stay.
        learning_rate: None lets `turn` decide how long steps are. A number, > 0, is Adam's own (with "eos_token" the
            plain gradient's), and `turn` plays no part: 1e-4 with "encoder" and CLIP-L is the method as published.
        strength: 0 is off (the same bits), 1 as adapted, up to 2 further the same way.
        logit_scale: s; None takes the encoder's own (CLIP: 100).
        limit: Degrees, in (0, 180], that the text embedding turns at most, whatever steps, learning rate and strength
            say; 180 is no limit.
    """

    method: str = AUTO
    objective: str = "bradley_terry"
    steps: int = 5
    learning_rate: float | None = None
    strength: float = 1.0
    logit_scale: float | None = None
    turn: float = 18.0
    limit: float = 60.0

    def __post_init__(self) -> None:
        faults = []
        if self.method not in (AUTO, *METHODS):
            faults.append(f"method {self.method!r}; expected one of {', '.join((AUTO, *METHODS))}")
        if self.objective not in STEERING_OBJECTIVES:
            faults.append(f"objective {self.objective!r}; expected one of {', '.join(STEERING_OBJECTIVES)}")
        if self.steps < 0:
            faults.append(f"{self.steps} steps; expected 0 or more")
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            faults.append(f"learning rate {self.learning_rate}; expected more than 0")
        if not 0 <= self.strength <= STRONGEST:
            faults.append(f"strength {self.strength}; expected 0 to {STRONGEST:g}")
        if self.logit_scale is not None and not 0 < self.logit_scale < float("inf"):
            faults.append(f"logit scale {self.logit_scale}; expected more than 0")
        if not 0 < self.turn <= 180:
            faults.append(f"turn {self.turn}; expected degrees in (0, 180]")
        if not 0 < self.limit <= 180:
            faults.append(f"limit {self.limit}; expected degrees in (0, 180]")
        if faults:
            raise SteeringError(f"Cannot steer with these settings: {'; '.join(faults)}. Change them.")

    def settled(self, towers: int = 1) -> SteeringSettings:
        """The same with "auto" resolved for a model of that many text towers.

        Adam over the weights of SDXL's larger tower wants about 11 GB, so there the words' vectors are moved.
        """
        if self.method != AUTO:
            return self
        return replace(self, method="encoder" if towers == 1 else "token_input")


@dataclass(frozen=True)
class Movement:
    """How far a prompt was moved, at one strength.

    Attributes:
        cosine: Between the plain and the moved text embedding in the joint space, mean over chunks; 1 is unmoved.
        degrees: The same as an angle, [0, 180].
        token_change: ‖moved − plain‖ / ‖plain‖ over all token states that condition the image; 0 is unmoved.
        objective_before: Loss of the plain embedding (nats with pairs).
        objective_after: Loss of the moved one; smaller is more to the taste.
        strength: At which this was measured.
    """

    cosine: float
    degrees: float
    token_change: float
    objective_before: float
    objective_after: float
    strength: float
