"""A PPD's bases: where parts wait until there is something to read, and a folder that isn't there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ppd_pipelines as models
import pytest
import torch
from palate.adapters.errors import SteeringError
from palate.adapters.ppd.base import load_base
from palate.adapters.ppd.base_cascade import EFFNET

NOWHERE = torch.device("meta")  # a device with no memory: what goes there has no numbers any more


def reading_parts(base: Any) -> list[torch.nn.Module]:
    if base.name == "cascade":
        return [base._effnet, base._prior.text_encoder]
    return [*base.model.towers, base.model.pipeline.vae]


def where(parts: list[torch.nn.Module]) -> set[str]:
    return {weight.device.type for part in parts for weight in part.parameters()}


@pytest.mark.parametrize("kind", ["sd3", "cascade"])
def test_nothing_goes_to_the_device_before_there_is_something_to_read(kind: str, tmp_path: Path) -> None:
    folder = models.write(kind, tmp_path / "model")
    if kind == "cascade":
        models.write_effnet(folder / EFFNET)
    base = load_base(folder, torch.float32)
    readers = base.readers(None, 128, NOWHERE)
    parts = reading_parts(base)
    assert where(parts) == {"cpu"}
    with pytest.raises((NotImplementedError, RuntimeError)):
        readers.text("a red star")
    assert "meta" in where(parts)


def test_a_mistyped_folder_is_said_without_asking_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(SteeringError, match="'sdlx': no such folder or file"):
        load_base("models/sdlx", torch.float32)
