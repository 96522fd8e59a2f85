"""The functions behind the panel, in one place, so that tests can put small fakes in their stead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .prompts import example_prompts
from .sources import Painter

__all__ = ["Tools", "real_tools"]


@dataclass(frozen=True)
class Tools:
    """What a studio calls.

    Attributes:
        painter: Loads the model.
        encoder: Loads the encoder.
        prompts: Gives example prompts that suit the model.
        vectors: (store, encoder, image ids) -> (N, D).
        fit: (store, encoder, person) -> Taste.
        report: (store, encoder, person) -> LearningReport.
        choose: (fitted model, (M, D) vectors) -> the two worth asking about.
        save: (taste, path) -> path.
        load: (path, encoder identity) -> Taste.
        moved: (painter, prompt, taste, strength) -> how far the prompt moves, degrees; None when unknown.
    """

    painter: Callable[[], Painter]
    encoder: Callable[[], Any]
    prompts: Callable[[], tuple[str, ...]]
    vectors: Callable[[Any, Any, Any], Any]
    fit: Callable[[Any, Any, str], Any]
    report: Callable[[Any, Any, str], Any]
    choose: Callable[[Any, Any], tuple[int, int]]
    save: Callable[[Any, Path], Path]
    load: Callable[[Path, str], Any]
    moved: Callable[[Any, str, Any, float], float | None]


def best_device() -> str:
    """Return "cuda", "mps" or "cpu", the first that this machine has."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def real_tools(model: str = "playground", encoder: str | None = None, device: str | None = None) -> Tools:
    """Return the tools that do the real work; heavy libraries are imported when first needed.

    Args:
        model: "playground", a diffusers pipeline folder, or a name on the Hugging Face hub.
        encoder: What `load_encoder` takes; None: the one that belongs to the model.
        device: Where model and encoder run; None: the best device of this machine.
    """
    from ...adapters.taste import choose_pair, fit_taste, learned_report

    def painter() -> Painter:
        from ...adapters.steering import Generator

        return Generator(model, device or best_device())  # type: ignore[no-any-return]

    def load_encoder() -> Any:
        from ...adapters.encoders import load_encoder as load

        return load(encoder or model, device or best_device())

    def prompts() -> tuple[str, ...]:
        if model == "playground":
            from ...adapters.playground import playground_folder

            return example_prompts(playground_folder())
        return example_prompts(Path(model))

    def vectors(store: Any, loaded: Any, ids: Any) -> Any:
        from ...adapters.encoders import encode_cached

        return encode_cached(store, loaded, ids)

    def save(taste: Any, path: Path) -> Path:
        from ...adapters.files import save_taste

        return Path(save_taste(taste, path))

    def load_taste(path: Path, identity: str) -> Any:
        from ...adapters.files import load_taste as load

        return load(path, identity)

    def moved(painter: Any, prompt: str, taste: Any, strength: float) -> float | None:
        return None

    return Tools(
        painter, load_encoder, prompts, vectors, fit_taste, learned_report, choose_pair, save, load_taste, moved
    )
