"""Prompts that an embedding is trained over: the person's own, the model's, and a list of all sorts."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["NEUTRAL_PROMPTS", "training_prompts"]

ENOUGH, MOST = 24, 120  # prompts: with fewer of one's own others are added; more only take time

# Short and unlike each other: subjects, scenes and kinds of pictures, without a word on how they are to look.
NEUTRAL_PROMPTS = (
    "a woman reading in a train",
    "an old man with a dog",
    "two children on a beach",
    "portrait of a young woman",
    "portrait of a man with a beard",
    "a crowd in a square",
    "a baker at work",
    "a couple dancing",
    "a cyclist in the rain",
    "a knight on a horse",
    "an astronaut",
    "a violinist on stage",
    "a fisherman mending a net",
    "a cat on a wall",
    "a black dog running",
    "a horse in a field",
    "an owl on a branch",
    "a school of fish",
    "a lion lying down",
    "a fox in the snow",
    "a butterfly on a flower",
    "an elephant at a river",
    "a dragon above a castle",
    "a mountain lake",
    "a forest path",
    "a desert with dunes",
    "waves on rocks",
    "a field of wheat",
    "a waterfall in a jungle",
    "a snowy village",
    "a harbour with boats",
    "a street in an old town",
    "a skyline by night",
    "a bridge over a river",
    "a lighthouse",
    "a ruined temple",
    "a small wooden house",
    "a modern kitchen",
    "a living room with plants",
    "a library",
    "a workshop full of tools",
    "an empty station",
    "a greenhouse",
    "a bowl of fruit",
    "a cup of coffee and a book",
    "a loaf of bread",
    "a vase of flowers",
    "a plate of pasta",
    "a bicycle against a wall",
    "a red car",
    "a sailing ship",
    "a steam train",
    "an aeroplane in the clouds",
    "a robot",
    "a pocket watch",
    "a chair by a window",
    "a chess board",
    "a city of the future",
    "a spaceship landing",
    "a planet with rings",
    "a map of an island",
    "a logo with a tree",
    "a pattern of leaves",
    "",
)


def training_prompts(own: Sequence[str], examples: Sequence[str] = ()) -> list[str]:
    """Prompts to train an embedding over, each once.

    Args:
        own: The person's, oldest first; the newest count most, and alone where there are ENOUGH of them.
        examples: What suits the model; none takes NEUTRAL_PROMPTS.
    """
    found = list(dict.fromkeys(prompt.strip() for prompt in reversed(own) if prompt.strip()))[:MOST]
    if len(found) >= ENOUGH:
        return found
    return list(dict.fromkeys([*found, *(examples or NEUTRAL_PROMPTS)]))
