"""Files that nodes save and load by name: Palate's own folders, as ComfyUI lists them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy_api.v0_0_2 import io

from ..adapters.errors import StoreError
from ..adapters.places import safe_name
from .sockets import TASTES, USERS, tastes_folder, users_folder

__all__ = ["TASTE_FILES", "USER_FILES", "Saved"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """The files of one kind.

    Attributes:
        word: What they are, in the plural.
        kind: ComfyUI's name of the folder, which `extra_model_paths.yaml` may add others to.
        folder: Where they are saved; makes it when missing.
    """

    word: str
    kind: str
    folder: Callable[[], Path]

    def names(self) -> list[str]:
        """What a node may choose among."""
        try:
            self.folder()
        except StoreError as error:  # an exception here would keep ComfyUI from loading any of the nodes
            _LOG.warning("Palate: %s", error)
            return []
        found: list[str] = folder_paths.get_filename_list(self.kind)
        return found

    def path(self, name: str) -> Path:
        """Where a file lies that was chosen by name; ComfyUI's error where there is none."""
        self.folder()
        return Path(folder_paths.get_full_path_or_raise(self.kind, name))

    def mark(self, name: str) -> tuple[int, int]:
        """Another one whenever the file is written again."""
        found = self.path(name).stat()
        return found.st_mtime_ns, found.st_size

    def path_to_save(self, name: str) -> Path:
        """Where a file of this name is saved; any text may be the name."""
        return self.folder() / f"{safe_name(name)}.safetensors"

    def file_input(self) -> io.Combo.Input:
        """The input of a node that loads one."""
        return io.Combo.Input(
            "file",
            options=self.names(),
            tooltip=f"A file in Palate's {self.word} folder; press R to see new ones.",
        )

    def name_input(self, default: str) -> io.String.Input:
        """The input of a node that saves one."""
        return io.String.Input(
            "name",
            default=default,
            tooltip=f"Name of the file in Palate's {self.word} folder. A file of the same name is replaced.",
        )

    def file_output(self) -> io.String.Output:
        """The output of a node that saved one."""
        return io.String.Output(display_name="file", tooltip=f"Name of the file in Palate's {self.word} folder.")


TASTE_FILES = Saved("tastes", TASTES, tastes_folder)
USER_FILES = Saved("users", USERS, users_folder)
