"""The accordion in txt2img and img2img, and how an infotext that is pasted sets it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...adapters.places import ppd_folder, tastes_folder, users_folder
from .infotext import meant
from .learning import NO_TASTE, taste_names
from .tab import host_takes_users
from .users import ANY_PPD, NOBODY, ppd_names, user_names

__all__ = ["accordion"]

_NO_USERS = (
    "Pictures for a user of a PPD: not in this host, which has no way into its denoiser. Forge, reForge, ComfyUI and "
    "Palate's panel have."
)
Fields = list[tuple[Any, Callable[[Mapping[str, str]], Any]]]


def accordion(gradio: Any, methods: Sequence[str]) -> tuple[list[Any], Fields]:
    """Make it; returns the inputs in the order of the script's arguments, and the host's `infotext_fields`."""
    with gradio.Accordion("Palate", open=False):
        with gradio.Row():
            taste = gradio.Dropdown(taste_names(), value=NO_TASTE, label="Taste")
            strength = gradio.Slider(0.0, 2.0, value=1.0, step=0.05, label="Taste's strength (0 is off)")
            method = gradio.Dropdown(["auto", *methods], value="auto", label="Way of steering")
        users: list[Any] = []
        if host_takes_users():
            users = _user_inputs(gradio)
        else:
            gradio.Markdown(_NO_USERS)
        refresh = gradio.Button("Refresh the lists")
    lists = [(taste, taste_names), *([(users[0], user_names), (users[4], ppd_names)] if users else [])]

    def refreshed() -> Any:
        found = [gradio.update(choices=names()) for _, names in lists]
        return found if len(found) > 1 else found[0]

    refresh.click(refreshed, inputs=[], outputs=[one for one, _ in lists])
    fields: Fields = [
        (taste, _of_list(gradio, "Palate taste", taste_names, NO_TASTE, tastes_folder)),
        (strength, lambda said: said.get("Palate strength")),
        (method, lambda said: said.get("Palate way")),
    ]
    return [taste, strength, method, *users], fields + (_user_fields(gradio, users) if users else [])


def _user_inputs(gradio: Any) -> list[Any]:
    with gradio.Row():
        user = gradio.Dropdown(user_names(), value=NOBODY, label="User: drawn for by PPD weights")
        strength = gradio.Slider(-5.0, 5.0, value=1.0, step=0.05, label="User's strength (0 is off, 1 as trained)")
    with gradio.Row():
        start = gradio.Slider(0.0, 1.0, value=0.0, step=0.01, label="From (0: the first step)")
        end = gradio.Slider(0.0, 1.0, value=1.0, step=0.01, label="To (1: the last step)")
    with gradio.Row():
        ppd = gradio.Dropdown(ppd_names(), value=ANY_PPD, label="PPD weights")
        encoder = gradio.Textbox(
            value="",
            label="Image encoder for answers: a CLIP file or hub name (empty: what the PPD names)",
            max_lines=1,
        )
    return [user, strength, start, end, ppd, encoder]


def _user_fields(gradio: Any, users: Sequence[Any]) -> Fields:
    user, strength, start, end, ppd, _ = users
    return [
        (user, _of_list(gradio, "Palate user", user_names, NOBODY, users_folder)),
        (strength, lambda said: said.get("Palate user strength")),
        (start, lambda said: said.get("Palate user start", "0") if "Palate user" in said else None),
        (end, lambda said: said.get("Palate user end", "1") if "Palate user" in said else None),
        (ppd, _of_list(gradio, "Palate PPD", ppd_names, ANY_PPD, ppd_folder)),
    ]


def _of_list(
    gradio: Any, key: str, names: Callable[[], list[str]], nothing: str, folder: Callable[[], Path]
) -> Callable[[Mapping[str, str]], Any]:
    """What a picture was made with, as far as it is here; a picture without it was made with nothing."""

    def field(said: Mapping[str, str]) -> Any:
        known = names()
        found = meant(said[key], known, folder()) if key in said else None
        return gradio.update(choices=known, value=found or nothing)

    return field
