"""`palate export checkpoint`: a model with a LoRA merged into it."""

from __future__ import annotations

import argparse
import json
from typing import Any

__all__ = ["add_merge_command", "merge_command"]


def add_merge_command(kinds: Any) -> None:
    """Add `palate export checkpoint`."""
    checkpoint = kinds.add_parser("checkpoint", help="a model with a LoRA merged into it")
    checkpoint.add_argument("--model", required=True, metavar="FILE|FOLDER", help="what the LoRA was trained on")
    checkpoint.add_argument("--lora", required=True, metavar="FILE", help="of palate train lora")
    checkpoint.add_argument("--strength", type=float, default=1.0, help="of the LoRA (default: 1)")
    checkpoint.add_argument("-o", "--output", required=True, metavar="FILE", help="a folder where the model is one")
    checkpoint.add_argument("--json", action="store_true", help="print one JSON object")


def merge_command(arguments: argparse.Namespace) -> int:
    """Write the merged model, and say where."""
    from ..adapters.finetune.merging import merge_lora
    from .terminal import silence

    silence()
    path = merge_lora(arguments.model, arguments.lora, arguments.output, arguments.strength)
    print(json.dumps({"file": str(path)}) if arguments.json else f"Saved {path}.")
    return 0
