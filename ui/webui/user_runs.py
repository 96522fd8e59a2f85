"""One press of Generate with a user: made ready once, put into the denoiser before every sampling."""

from __future__ import annotations

from typing import Any

from ...adapters.errors import PPDError
from ...adapters.places import users_folder
from ...adapters.ppd.host_blocks import UserBlocks
from .infotext import told
from .user_patches import with_user
from .users import ReadyUsers, WantedUser

__all__ = ["UserRun"]

READY = ReadyUsers()


class UserRun:
    """A user for all pictures of one press of Generate, in every batch and in the pass that enlarges.

    Args:
        wanted: Whom.
        model: `shared.sd_model`, with which it begins.

    Raises:
        PPDError: the host or the model has no way in.
        PreferenceError: as `ReadyUsers.get` says.
    """

    def __init__(self, wanted: WantedUser, model: Any) -> None:
        self._wanted, self._blocks = wanted, list[UserBlocks]()
        _, self._ppd = READY.get(wanted, _unet(model))

    def told(self, options: Any) -> dict[str, str]:
        """Return what the picture's infotext says; what is as by default is left out.

        Args:
            options: The host's `shared.opts`.
        """
        wanted = self._wanted
        found = {
            "Palate user": told(wanted.name, users_folder(), options),
            "Palate user strength": f"{wanted.strength:g}",
            "Palate PPD": self._ppd.removesuffix(".safetensors"),
        }
        if (wanted.start_percent, wanted.end_percent) != (0.0, 1.0):
            found["Palate user start"] = f"{wanted.start_percent:g}"
            found["Palate user end"] = f"{wanted.end_percent:g}"
        return found

    def enter(self, model: Any) -> None:
        """Put the user into what samples next; the host takes it out again by itself before the sampling after.

        Raises:
            PreferenceError: the model is another one by now, for which nothing fits.
        """
        wanted = self._wanted
        ready, _ = READY.get(wanted, _unet(model))
        patched, blocks = with_user(_unet(model), ready, wanted.strength, wanted.start_percent, wanted.end_percent)
        self.end()
        if blocks is not None:
            self._blocks.append(blocks)
        model.forge_objects.unet = patched

    def end(self) -> None:
        """Keep nothing of a run."""
        for blocks in self._blocks:
            blocks.forget()
        self._blocks.clear()


def _unet(model: Any) -> Any:
    unet = getattr(getattr(model, "forge_objects", None), "unet", None)
    if unet is None:
        raise PPDError(
            "Cannot apply a user: this host has no way into its denoiser; expected Forge or reForge. Use one of these, "
            "ComfyUI or Palate's panel; a LoRA of the same answers works here too."
        )
    return unet
