"""A ComfyUI and a panel write to one store at once; `benchmarks/many_writers.py` is the same with two, and long."""

from __future__ import annotations

from pathlib import Path

import many_writers as many
from comfy_host import Host


def test_answers_of_a_graph_and_a_panel_at_once_are_neither_lost_nor_doubled(host: Host, tmp_path: Path) -> None:
    panel = many.RunningPanel(tmp_path, host.home / "store")
    try:
        said = many.write([host, host], panel, 200, seed=1)
    finally:
        panel.kill()
    many.check(host.home / "store", said)
    assert sum(said.places.values()) == len(said.outcomes) >= 200 and said.again
    assert set(said.places) == {"ComfyUI 1", "ComfyUI 2", "the panel"}  # one host under two names
