"""Pictures that runs of any graph made, found again in ComfyUI's own history, to ask which one is preferred.

So somebody's usual graph teaches a taste without a node of Palate's in it. What a page names is looked up among what
ComfyUI itself remembers of its runs; nothing else is ever opened. No ComfyUI here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..adapters.errors import ComparisonError
from .questions import MOST

__all__ = ["Made", "Picture", "prompt_of", "sides", "together"]

Picture = tuple[str, str, str]  # file name, subfolder, and which of ComfyUI's folders: "output" or "temp"
Graph = Mapping[str, Mapping[str, Any]]  # as its API takes it: nodes by id, with class_type and inputs

_TEXTS = ("text", "text_g", "clip_l", "t5xxl", "prompt", "positive_prompt", "value", "string")
_SHOWN = ("images", "a_images", "b_images")  # the last two where two pictures are laid over each other
_LEADS = ("positive", "conditioning", "conditioning_1", "cond", "guider")  # inputs towards what the picture is of


@dataclass(frozen=True, eq=False)
class Made:
    """What one node showed in one run.

    Attributes:
        node: Its id, with those of the subgraphs around it, and its class.
        pictures: In the order in which it shows them.
        graph: What ran.
        prompt: What they were made from, as far as the graph tells.
    """

    node: tuple[str, str]
    pictures: tuple[Picture, ...]
    graph: Graph

    @cached_property
    def prompt(self) -> str:
        return prompt_of(self.graph, self.node[0])


def together(
    history: Mapping[str, Mapping[str, Any]], shown: Sequence[Picture], there: Callable[[Picture], bool]
) -> tuple[list[Picture], str]:
    """Return the pictures to ask about, and their prompt: "" where they have several.

    A single one comes behind the one that the same node showed before: the newest of the same prompt, else the newest.

    Args:
        history: Of ComfyUI, the oldest run first.
        shown: What somebody is looking at.
        there: Whether the file of a picture is; people delete what they don't like.

    Raises:
        ComparisonError: ComfyUI remembers no such picture or its file is gone, there are too many, or nothing to
            compare a single one with.
    """
    runs = list(_made(history))
    found = []
    for picture in dict.fromkeys(shown):
        source = next((one for one in reversed(runs) if picture in one.pictures), None)
        if source is None:
            raise ComparisonError(
                f"Cannot compare {picture[0][:80]!r}: ComfyUI's history of this session has no such picture; expected "
                "one of its latest runs. Run the graph again."
            )
        if not there(picture):
            raise ComparisonError(
                f"Cannot compare {picture[0][:80]!r}: its file was deleted; expected one that is there. Run the graph "
                "again."
            )
        found.append((picture, source))
    if not found or len(found) > MOST:
        raise ComparisonError(
            f"Cannot compare {len(found)} pictures at one look; expected 2 to {MOST}. Select nodes with fewer."
        )
    if len(found) == 1:
        found.insert(0, _before(runs, *found[0], there))
    prompts = {source.prompt for _, source in found}
    return [picture for picture, _ in found], prompts.pop() if len(prompts) == 1 else ""


def sides(pictures: Sequence[Picture], person: str) -> list[Picture]:
    """Two pictures in an order that says nothing of which is newer, and is the same when they are asked about again."""
    mixed = sorted(pictures)
    random.Random(repr((person, mixed))).shuffle(mixed)
    return mixed


def _before(
    runs: Sequence[Made], picture: Picture, source: Made, there: Callable[[Picture], bool]
) -> tuple[Picture, Made]:
    """The picture at the same place of what the node showed before."""
    place = source.pictures.index(picture)
    last = len(runs) - 1 - runs[::-1].index(source)
    same = (one for one in reversed(runs[:last]) if one.node == source.node)
    others = [(one.pictures[min(place, len(one.pictures) - 1)], one) for one in same]
    different = [one for one in others if one[0] not in source.pictures and there(one[0])]
    if not different:
        raise ComparisonError(
            "Cannot compare a single picture: found none that this node showed before; expected two. Run the graph "
            "once more with another seed, or select two nodes."
        )
    return next((one for one in different if one[1].prompt == source.prompt), different[0])


def _made(history: Mapping[str, Mapping[str, Any]]) -> Iterator[Made]:
    for run in history.values():
        graph = run["prompt"][2]
        for node, told in run.get("outputs", {}).items():
            if not isinstance(told, Mapping) or any(told.get("animated") or ()):
                continue
            shown = (one for name in _SHOWN for one in told.get(name) or ())
            pictures = tuple(filter(None, map(_picture, shown)))
            if pictures:
                yield Made((node, str(graph.get(node, {}).get("class_type"))), pictures, graph)


def _picture(told: Any) -> Picture | None:
    """One that a run made: what lies in the input folder is somebody's own."""
    if not isinstance(told, Mapping) or told.get("type") not in ("output", "temp"):
        return None
    return str(told.get("filename")), str(told.get("subfolder") or ""), str(told["type"])


def prompt_of(graph: Graph, node: str) -> str:
    """Return the text that a node's pictures were made from, "" where none is found.

    Upstream of the node, the nearest one with a positive conditioning says which text counts.
    """
    near, seen = [node], {node}
    for one in near:  # grows while it is walked along: the nearest first
        inputs = _inputs(graph, one)
        lead = next((linked for name in _LEADS if (linked := _linked(inputs.get(name), graph))), None)
        if lead is not None:
            return _text_of(graph, lead, {node})
        for linked in (_linked(value, graph) for value in inputs.values()):
            if linked is not None and linked not in seen:
                seen.add(linked)
                near.append(linked)
    return ""


def _text_of(graph: Graph, node: str, seen: set[str]) -> str:
    """The first text at this node or upstream of it; `seen` grows by what was looked at."""
    seen.add(node)
    inputs = _inputs(graph, node)
    for name in _TEXTS:
        if isinstance(inputs.get(name), str) and inputs[name].strip():
            return str(inputs[name]).strip()
    first = [inputs[name] for name in (*_TEXTS, *_LEADS) if name in inputs]
    # Behind an empty positive text there may be a negative one at the same node: nobody wished for that.
    others = [value for name, value in inputs.items() if not name.startswith("negative")]
    for value in [*first, *others]:
        linked = _linked(value, graph)
        if linked is not None and linked not in seen and (found := _text_of(graph, linked, seen)):
            return found
    return ""


def _inputs(graph: Graph, node: str) -> Mapping[str, Any]:
    inputs = graph.get(node, {}).get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def _linked(value: Any, graph: Graph) -> str | None:
    """The node that an input comes from, None for a value of its own."""
    return str(value[0]) if isinstance(value, list) and len(value) == 2 and str(value[0]) in graph else None
