"""What a picture was made with, as it is written into it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .png_settings import as_parameters

__all__ = ["Made"]


@dataclass(frozen=True)
class Made:
    """What a picture was made with.

    Attributes:
        tastes, users: Name and weight of each.
        strength: Of the tastes. user_strength, user_start, user_end: As in `Generator.images`.
        ppd: Identity of the PPD; "" without a user.
    """

    prompt: str
    negative: str
    seed: int
    steps: int
    guidance: float
    width: int
    height: int
    model: str
    tastes: tuple[tuple[str, float], ...] = ()
    strength: float = 0.0
    users: tuple[tuple[str, float], ...] = ()
    user_strength: float = 0.0
    user_start: float = 0.0
    user_end: float = 1.0
    ppd: str = ""

    @property
    def parameters(self) -> str:
        """As A1111 writes them."""
        settings: list[tuple[str, object]] = [
            ("Steps", self.steps),
            ("CFG scale", f"{self.guidance:g}"),
            ("Seed", self.seed),
            ("Size", f"{self.width}x{self.height}"),
            ("Model", self.model),
        ]
        if self.tastes:
            settings += [("Palate strength", f"{self.strength:g}"), ("Palate tastes", _sum(self.tastes))]
        if self.users:
            settings += [
                ("Palate user strength", f"{self.user_strength:g}"),
                ("Palate users", _sum(self.users)),
                ("Palate PPD", self.ppd[:12]),
            ]
        return as_parameters(self.prompt, self.negative, settings)

    def without_names(self) -> Made:
        """The same with nobody named."""
        tastes, users = (tuple(("", weight) for _, weight in parts) for parts in (self.tastes, self.users))
        return replace(self, tastes=tastes, users=users)


def _sum(parts: tuple[tuple[str, float], ...]) -> str:
    return " + ".join(f"{weight:g} {name}".strip() for name, weight in parts)
