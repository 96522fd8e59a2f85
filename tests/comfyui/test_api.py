"""Without a browser: answers from a file by `palate import`, a graph in the API's format, the pictures back."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_host import Host
from palate.ui import cli
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ROOT / "example_workflows" / "api" / "steer_by_answers.json"
RED, BLUE = (210, 40, 40), (40, 60, 210)


def answers(folder: Path, liked: tuple[int, int, int], other: tuple[int, int, int], count: int) -> Path:
    """A table of answers with its pictures, as another tool might have written it."""
    folder.mkdir()
    rows = []
    for number in range(count):
        for name, colour in (("liked", liked), ("other", other)):
            Image.new("RGB", (64, 64), tuple(part + number for part in colour)).save(folder / f"{name}{number}.png")
        rows.append({"chosen": f"liked{number}.png", "rejected": f"other{number}.png", "prompt": "a star"})
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "answers.jsonl"


def pixels(host: Host, graph: dict[str, Any]) -> np.ndarray:
    """(4, 128, 128, 3): run the graph and get its pictures as a script would."""
    found = []
    for image in host.run(graph)["save"]["images"]:
        raw = host.request(f"/view?filename={image['filename']}&subfolder={image['subfolder']}&type={image['type']}")
        found.append(np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"), dtype=np.float64))
    return np.stack(found)


def test_a_graph_run_through_the_api_uses_the_answers_of_a_file(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, store = json.loads(GRAPH.read_text(encoding="utf-8")), str(host.home / "store")
    graph["fit"]["inputs"]["person"] = "api"
    told = []
    for name, liked, other, count in (("first", RED, BLUE, 8), ("second", BLUE, RED, 24)):
        file = answers(tmp_path / name, liked, other, count)
        assert cli.main(["import", str(file), "--person", "api", "--store", store, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["added"] == count
        told.append(pixels(host, graph))
    redder = [batch[..., 0].mean() - batch[..., 2].mean() for batch in told]
    assert told[0].shape == (4, 128, 128, 3) and redder[0] > redder[1]  # what was imported since counts at once
