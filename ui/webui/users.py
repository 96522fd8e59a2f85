"""Whose user a run gets: a person by their answers or a file, by the PPD weights that fit the model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...adapters.comparisons import PreferenceStore
from ...adapters.errors import FileFormatError, PPDError, StoreError
from ...adapters.files import PPDFile, describe_ppd, describe_user, load_ppd, load_user
from ...adapters.places import palate_home, ppd_folder, users_folder
from ...adapters.ppd.host_layers import HostLayer
from .user_patches import ReadyUser, layers_of_host

if TYPE_CHECKING:
    from ...adapters.ppd.user import User

__all__ = ["ANY_PPD", "NOBODY", "ReadyUsers", "WantedUser", "person_of", "ppd_names", "user_names"]

NOBODY = "none"
ANY_PPD = "the newest that fits"
_ANSWERS = "answers of "
_KEPT = 4  # ready users: megabytes each


@dataclass(frozen=True)
class WantedUser:
    """What was chosen in the accordion.

    Attributes:
        name: One of `user_names`. ppd: One of `ppd_names`.
        encoder: As `load_encoder` takes it, for a person's answers; "" for the one that the PPD names.
        strength, start_percent, end_percent: As in `with_user`.
    """

    name: str = NOBODY
    ppd: str = ANY_PPD
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    encoder: str = ""

    @property
    def acts(self) -> bool:
        """Whether there is anything to do."""
        return self.name not in (None, "", NOBODY) and bool(self.strength)


def user_names() -> list[str]:
    """Nobody, everybody who answered, and the user files in PALATE_HOME."""
    try:
        with PreferenceStore.existing(palate_home() / "store") as store:
            people = [f"{_ANSWERS}{person}" for person in store.people()]
    except StoreError:  # nobody has answered yet
        people = []
    return [NOBODY, *people, *_files(users_folder())]


def person_of(name: str) -> str | None:
    """Return whose answers a name of `user_names` means, None where it is a file or nobody."""
    return name.removeprefix(_ANSWERS) if name.startswith(_ANSWERS) else None


def ppd_names() -> list[str]:
    """Any that fits, and the PPD weights in PALATE_HOME."""
    return [ANY_PPD, *_files(ppd_folder())]


class ReadyUsers:
    """Users made ready for a model; the last ones are kept, as long as neither answers nor files have changed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, tuple[ReadyUser, str]] = OrderedDict()

    def get(self, wanted: WantedUser, unet: Any) -> tuple[ReadyUser, str]:
        """Return the user for a model, and the name of the PPD's file.

        Args:
            wanted: Not nobody.
            unet: `forge_objects.unet`.

        Raises:
            PPDError: a model without a way in, no PPD that fits it, or user and PPD don't belong together.
            EncoderError, EncoderMismatchError, FileFormatError, NotEnoughAnswersError, StoreError: as `encode_user`,
                `load_encoder`, `load_ppd` and `load_user` say.
        """
        layers, width = layers_of_host(unet)
        person = person_of(wanted.name)
        file = None if person is not None else _listed(wanted.name, users_folder(), "the user")
        weights = _weights(wanted.ppd, layers, None if file is None else describe_user(file).ppd)
        key = (
            wanted.name,
            wanted.encoder,
            layers,
            width,
            _state(weights),
            _revision(person) if not file else _state(file),
        )
        if key not in self._kept:
            with torch.inference_mode(False):
                self._kept[key] = _made(person, file, weights, wanted.encoder, layers, width), weights.name
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _made(
    person: str | None, file: Path | None, weights: Path, spec: str, layers: Sequence[HostLayer], width: int
) -> ReadyUser:
    from ...adapters.encoders import load_encoder

    encoder = load_encoder(spec) if person is not None and spec else None
    ppd = load_ppd(weights, encoder, torch.float16)
    ppd.fits([layer.shape for layer in layers], width)
    user: User
    if file is not None:
        user = load_user(file, ppd)
    else:
        from ...adapters.ppd.model import encode_user

        if ppd.encoder is not None:
            ppd.encoder.float()
        with PreferenceStore.existing(palate_home() / "store") as store:
            user = encode_user(store, encoder or load_encoder(ppd.image_encoder_name), str(person), ppd)
    return ReadyUser.of(ppd, user, layers, width)


def _weights(name: str, layers: Sequence[HostLayer], made_by: str | None) -> Path:
    """The PPD that was named, else the newest for these layers: of a user's file the one that made it."""
    if name != ANY_PPD:
        return _listed(name, ppd_folder(), "the PPD weights")
    shapes = tuple(layer.shape for layer in layers)
    files = sorted((ppd_folder() / one for one in _files(ppd_folder())), key=lambda file: -file.stat().st_mtime)
    known = [(file, said) for file in files if (said := _described(file)) is not None]
    for file, said in known:
        if said.identity == made_by or (made_by is None and said.layers == shapes):
            return file
    found = ", ".join(f"{file.name} ({said.base})" for file, said in known[:5]) or "none"
    wanted = f"the one that made this user, {made_by[:12]}" if made_by else f"one for this model's {len(shapes)} layers"
    raise PPDError(
        f"Cannot apply a user: found {found} in {ppd_folder()}; expected {wanted}. Put the weights there, or train "
        "some with `palate train ppd`."
    )


def _described(file: Path) -> PPDFile | None:
    try:
        return describe_ppd(file)
    except FileFormatError:  # something else that lies there
        return None


def _files(folder: Path) -> list[str]:
    # Links to a disk that is away are no files.
    return sorted(file.name for file in folder.glob("*.safetensors") if file.name[0] != "." and file.is_file())


def _listed(name: str, folder: Path, what: str) -> Path:
    """Only what the list shows is ever opened: an infotext or a request may name anything."""
    if name not in _files(folder):
        raise PPDError(
            f"Cannot use {what} {name[:80]!r}: there is none of this name in {folder}; expected one of the list. "
            "Refresh the list."
        )
    return folder / name


def _state(file: Path) -> tuple[str, int, int]:
    info = file.stat()
    return file.name, info.st_mtime_ns, info.st_size


def _revision(person: str | None) -> int:
    with PreferenceStore.existing(palate_home() / "store") as store:
        return store.revision(str(person))
