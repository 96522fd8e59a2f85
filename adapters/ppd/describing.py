"""Profiles of everybody whom a PPD is trained on, made once by a vision-language model and kept as files.

A profile takes a model of 7 billion parameters minutes on a processor and seconds on a GPU, so each is written as soon
as it is there: a preparation that was killed goes on with the next one, and another training in the folder finds them
again by the pictures, the prompts and the model that they were made from. What is in memory is, of each person, the
pictures of a chunk that isn't complete yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..comparisons.images import read_image
from ..errors import CancelledError, PPDError
from ..exchange.foreign import Foreign
from ..exchange.importing import opened
from ..files.writing import write_atomically, write_bytes_atomically
from .data import PreparedPPD
from .known import DescribedPeople, chunks_of
from .preparing import mark_of
from .profiles import MODEL, PicturePair, VisionLanguageModel, load_vlm
from .sources import AnswerSource

__all__ = ["Described", "Describer", "describe_people", "described"]

_FACTS = "model.json"


@dataclass(frozen=True)
class Describer:
    """Which vision-language model, and how.

    Attributes:
        source: A folder or a name on the Hugging Face hub. four_bit: Hold its weights in 4 bits.
        device: As `load_vlm` takes it.
        length: Tokens of a profile at most, >= 2.
        most: Profiles of a person at most; the paper has up to 20.
    """

    source: str = MODEL
    four_bit: bool = False
    device: str = "auto"
    length: int = 1024
    most: int = 20

    def __post_init__(self) -> None:
        if self.length < 2 or self.most < 1:
            raise PPDError(
                f"Cannot describe people in {self.length} tokens, {self.most} times each; expected 2 tokens or more, "
                "and 1 profile or more."
            )


@dataclass(frozen=True)
class Described:
    """What is known of the model that profiles in a folder are from.

    Attributes:
        source, four_bit, length: As in `Describer`.
        identity, name: Of the model. states, width: S and H of its profiles.
    """

    source: str
    four_bit: bool
    length: int
    identity: str
    name: str
    states: int
    width: int


def describe_people(
    source: AnswerSource,
    data: PreparedPPD,
    prompts: Sequence[str],
    describer: Describer,
    folder: Path,
    on_profile: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Described:
    """Make the profiles that are missing; the model is loaded for those only.

    Args:
        source: The answers that `data` was prepared from.
        data: Everybody's pairs. prompts: Their texts by index.
        describer: Which model.
        folder: For the profiles.
        on_profile: Called with (profiles there are, all).
        cancelled: Asked before each; what was made is kept.

    Raises:
        CancelledError: `cancelled` said so.
        PPDError: the model can't be loaded or says nothing, or the pairs were prepared by an older Palate.
        StoreError: a profile can't be written.
    """
    about = _facts(folder, describer)
    missing = None if about is None else _missing(data, prompts, about, describer, folder)
    if about is not None and not missing:
        return about
    model = load_vlm(describer.source, describer.device, describer.four_bit)
    sizes = model.model.config.get_text_config()
    about = Described(
        describer.source, describer.four_bit, describer.length, model.identity, model.name,
        int(sizes.num_hidden_layers) + 1, int(sizes.hidden_size),
    )  # fmt: skip
    write_bytes_atomically(folder / _FACTS, json.dumps(asdict(about)).encode())
    missing = _missing(data, prompts, about, describer, folder)
    done, count = len(chunks_of(data, describer.most)) - len(missing), len(missing)
    waiting = _Waiting(data, prompts, missing)
    for place, (file, pairs) in enumerate(waiting.complete(source)):
        if cancelled is not None and cancelled():
            raise CancelledError("Stopped while people were described. Their profiles so far are kept.")
        _write(file, model, pairs, about)
        if on_profile is not None:
            on_profile(done + place + 1, done + count)
    return about


def described(
    data: PreparedPPD, prompts: Sequence[str], describer: Describer, folder: Path, about: Described
) -> DescribedPeople:
    """Pairs of everybody or of some, with the profiles that `describe_people` made.

    Raises:
        PPDError: nobody among them has a profile.
    """
    named = [(_file(data, prompts, chunk, about, folder), chunk) for chunk in chunks_of(data, describer.most)]
    there = [(file, chunk) for file, chunk in named if file.is_file()]
    if not there:
        raise PPDError(
            f"Cannot train on profiles: found none of {data.people} people; expected some. Their pictures can't be "
            "read any more: prepare them again under another name."
        )
    files, rows = zip(*there, strict=True)
    return DescribedPeople(data, files, rows, (about.states, about.width))


def _facts(folder: Path, describer: Describer) -> Described | None:
    try:
        found = Described(**json.loads((folder / _FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    same = (found.source, found.four_bit, found.length) == (describer.source, describer.four_bit, describer.length)
    return found if same else None


def _missing(
    data: PreparedPPD, prompts: Sequence[str], about: Described, describer: Describer, folder: Path
) -> dict[Path, tuple[int, ...]]:
    files = {_file(data, prompts, chunk, about, folder): chunk for chunk in chunks_of(data, describer.most)}
    return {file: chunk for file, chunk in files.items() if not file.is_file()}


def _file(data: PreparedPPD, prompts: Sequence[str], chunk: Sequence[int], about: Described, folder: Path) -> Path:
    said = []
    for row in chunk:
        chosen, rejected, prompt, _ = data.rows[row].tolist()
        said.append([*_marks(data, chosen, rejected), prompts[prompt]])
    digest = hashlib.sha256(json.dumps([about.identity, about.length, said]).encode()).hexdigest()
    return folder / f"{digest[:32]}.safetensors"


def _marks(data: PreparedPPD, chosen: int, rejected: int) -> tuple[int, int]:
    if data.marks is None:
        raise PPDError(
            "Cannot describe people: their pairs were prepared by an older Palate, which didn't keep what each picture "
            "is; expected that. Train under another name."
        )
    return int(data.marks[chosen]), int(data.marks[rejected])


class _Waiting:
    """Chunks whose pictures are gathered from a source, in whatever order they come there."""

    def __init__(self, data: PreparedPPD, prompts: Sequence[str], missing: dict[Path, tuple[int, ...]]) -> None:
        self._data, self._prompts = data, prompts
        self._chunks = missing
        self._of = {row: file for file, chunk in missing.items() for row in chunk}
        self._rows: dict[tuple[int, int, str], list[int]] = {}
        for row in self._of:
            chosen, rejected, _, person = data.rows[row].tolist()
            self._rows.setdefault((*_marks(data, chosen, rejected), data.names[person]), []).append(row)
        self._found: dict[Path, dict[int, Foreign]] = {file: {} for file in missing}

    def complete(self, source: AnswerSource) -> Iterator[tuple[Path, list[PicturePair]]]:
        """Yield (file, pairs) as they become complete, the pairs in their order."""
        for shard in source.shards():
            for answer in source.answers(shard):
                if not isinstance(answer, Foreign) or answer.chosen is None or answer.rejected is None:
                    continue
                key = mark_of(answer.chosen), mark_of(answer.rejected), answer.person
                if not (rows := self._rows.get(key)):
                    continue
                row = rows.pop()
                file = self._of[row]
                self._found[file][row] = answer
                if len(self._found[file]) == len(self._chunks[file]):
                    yield file, self._pairs(file)

    def _pairs(self, file: Path) -> list[PicturePair]:
        found = self._found.pop(file)
        pairs = []
        for row in self._chunks[file]:
            answer = found[row]
            assert answer.chosen is not None and answer.rejected is not None
            chosen, rejected = (read_image(opened(side)) for side in (answer.chosen, answer.rejected))
            pairs.append(PicturePair(chosen, rejected, answer.prompt))
        return pairs


def _write(file: Path, model: VisionLanguageModel, pairs: Sequence[PicturePair], about: Described) -> None:
    profile = model.profile(pairs, about.length)
    said = {"format": "palate.profile", "version": "1", "model": about.identity, "profile": profile.summary}
    write_atomically(file, {"states": profile.states.float().contiguous()}, said)
