"""What all nodes share: the pack's own socket types, the store, and where the pack's files are."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.v0_0_2 import io

from ..adapters import places
from ..adapters.comparisons import PreferenceStore

CATEGORY = "palate"
TASTES = "palate_tastes"  # ComfyUI's names of the folders, for extra_model_paths.yaml
USERS = "palate_users"
PPDS = "palate_ppd"

Encoder = io.Custom("PALATE_ENCODER")
Taste = io.Custom("PALATE_TASTE")
Ppd = io.Custom("PALATE_PPD")
User = io.Custom("PALATE_USER")  # one, or a tuple of them: one for each picture of a batch

_stores: dict[Path, PreferenceStore] = {}
_lock = threading.Lock()


def open_store() -> PreferenceStore:
    """The store in Palate's folder, opened once per process; safe from the executor's and the server's thread."""
    folder = places.palate_home() / "store"
    with _lock:
        if folder not in _stores:
            _stores[folder] = PreferenceStore(folder)
        return _stores[folder]


def tastes_folder() -> Path:
    """Where taste files are saved; made when missing, and known to ComfyUI as a model folder."""
    return _model_folder(TASTES, places.tastes_folder())


def users_folder() -> Path:
    """Where user files are saved; made when missing, and known to ComfyUI as a model folder."""
    return _model_folder(USERS, places.users_folder())


def ppd_folder() -> Path:
    """Where PPD weights are for all hosts; made when missing, and known to ComfyUI as a model folder."""
    return _model_folder(PPDS, places.ppd_folder())


def _model_folder(kind: str, folder: Path) -> Path:
    folder_paths.add_model_folder_path(kind, str(folder), is_default=True)
    folder_paths.folder_names_and_paths[kind][1].add(".safetensors")  # else it would list every file
    return folder


def schema(**fields: Any) -> io.Schema:
    """A node's schema, without the fields that this ComfyUI doesn't know yet."""
    return io.Schema(**{name: value for name, value in fields.items() if name in io.Schema.__dataclass_fields__})


def advanced(kind: Any, name: str, **given: Any) -> Any:
    """An optional input of this kind, hidden until asked for where the host knows that."""
    return kind.Input(name, optional=True, extra_dict={"advanced": True}, **given)


def person_input() -> io.String.Input:
    """The input that says whose taste it is."""
    return io.String.Input(
        "person",
        default="me",
        tooltip="Whose taste this is: any name. Answers of different people never mix; 'Me' and 'me' are two people.",
    )


def encoder_input() -> io.Custom.Input:
    """The input for what turns images into vectors."""
    return Encoder.Input(
        "encoder",
        tooltip="What turns images into vectors, from Load Encoder or Load Playground. A taste works only with the "
        "encoder it was learned with.",
    )


def taste_input() -> io.Custom.Input:
    """The input for a taste."""
    return Taste.Input("taste", tooltip="A taste from Fit Taste or Load Taste.")


def ppd_input() -> io.Custom.Input:
    """The input for PPD weights."""
    return Ppd.Input("ppd", tooltip="PPD weights from Load PPD. A user works only with the PPD that made it.")


def user_input() -> io.Custom.Input:
    """The input for a user."""
    return User.Input("user", tooltip="A user from Encode User, Load User or Blend Users.")
