"""`palate export embedding`: a person's taste as a word that ComfyUI, Forge, A1111 and diffusers load."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapters.errors import EncoderError, PreferenceError
from .devices import training_device
from .terminal import progress_line, silence

if TYPE_CHECKING:
    from ..adapters.steering import Generator
    from ..adapters.steering.portable import PortableEmbedding

__all__ = ["ExportError", "export_embedding", "how_to_use"]

ENDING = ".safetensors"


class ExportError(PreferenceError, ValueError):
    """An export that can't be made as it was asked for."""


def export_embedding(arguments: argparse.Namespace, store: Path) -> int:
    """Learn or load a taste, train an embedding of it and save that; tells how to use it.

    Args:
        arguments: person, name, model, encoder, taste, vectors, steps, output, device, private, json; as in `cli.py`.
        store: Folder of the answers.
    """
    from ..adapters.comparisons import PreferenceStore

    if not arguments.person and not arguments.taste:
        arguments.person = "me"  # as in the panel
    if not arguments.taste:
        PreferenceStore.existing(store).close()  # refused before a model is loaded, for seconds
    from ..adapters.files import check_embedding_name, require_replaceable, save_embedding
    from ..adapters.steering import Generator
    from ..adapters.steering.inversion import towers_of, train_embedding

    path = _path(arguments)
    check_embedding_name(path.name.removesuffix(ENDING))
    silence()
    generator = Generator(arguments.model, arguments.device or training_device(), arguments.encoder or None)
    tastes = _tastes(arguments, generator, store)
    require_replaceable(path, "" if arguments.private else tastes[0].person)
    chosen = {key: getattr(arguments, key) for key in ("vectors", "steps") if getattr(arguments, key) is not None}
    embedding = train_embedding(
        towers_of(generator.conditioner),
        tastes,
        _prompts(arguments, store),
        on_step=progress_line("Training", sys.stderr),
        **chosen,
    )
    saved = save_embedding(embedding, path, private=arguments.private)
    if arguments.json:
        effect = {key: round(float(value), 4) for key, value in embedding.effect.items()}
        print(json.dumps({"file": str(saved), "vectors": embedding.count, "effect": effect}))
        return 0
    print(how_to_use(embedding, saved))
    return 0


def how_to_use(embedding: PortableEmbedding, path: Path) -> str:
    """What was saved, what it does, and how each tool loads it."""
    name, two = path.name.removesuffix(ENDING), len(embedding.vectors) > 1
    effect = embedding.effect
    lines = [f"Saved {path}", f"  {embedding.count} vectors, for {'SDXL' if two else 'models like the one used'}"]
    if "degrees" in effect and "kept" in effect:
        lines.append(
            f"  turns a prompt by {effect['degrees']:.0f} degrees along the taste; beside that "
            f"{effect['kept']:.0%} of what it says is kept"
        )
    lines += [
        "Use it at the end of a prompt:",
        f"  ComfyUI      copy it to models/embeddings, write: a red star, embedding:{name}",
        f"  Forge, A1111 copy it to embeddings, write: a red star, {name}",
    ]
    if not two:
        return "\n".join(
            [*lines, f'  diffusers    pipe.load_textual_inversion("{path.name}"); write: a red star, {name}']
        )
    loads = (("clip_l", ""), ("clip_g", "_2"))
    return "\n".join(
        [
            *lines,
            f'  diffusers    state = safetensors.torch.load_file("{path.name}")',
            *(
                f'               pipe.load_textual_inversion(state["{key}"], token="{name}", '
                f"text_encoder=pipe.text_encoder{end}, tokenizer=pipe.tokenizer{end})"
                for key, end in loads
            ),
            "               pipe.text_encoder_2.text_model.eos_token_id = 49407  # else it is pooled at the new word",
            f"               write: a red star, {name}",
        ]
    )


def _path(arguments: argparse.Namespace) -> Path:
    """Where to save: -o, else a file of that name in PALATE_HOME."""
    from ..adapters.files import describe, embedding_name
    from ..adapters.places import palate_home, typed_path

    if arguments.output:
        path = typed_path(arguments.output)
        path = path if path.name.endswith(ENDING) else path.with_name(path.name + ENDING)
        if arguments.name and path.name != arguments.name + ENDING:
            raise ExportError(
                f"Cannot export an embedding: --name is {arguments.name!r} and --output {path.name!r}; expected the "
                "same, because tools know an embedding by its file's name. Leave out one of them."
            )
        return path
    whose = arguments.person or describe(arguments.taste[0]).person
    return palate_home() / "embeddings" / f"{arguments.name or embedding_name(f'{whose} taste')}{ENDING}"


def _tastes(arguments: argparse.Namespace, generator: Generator, store: Path) -> list[Any]:
    """Tastes from files, or learned from the store with each encoder of the model."""
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.files import load_taste
    from ..adapters.taste import fit_taste

    if arguments.taste:
        return [load_taste(file) for file in arguments.taste]
    if not generator.encoders:
        raise EncoderError(
            f"Cannot learn a taste for {generator.name}: it comes without an encoder; expected one with --encoder. "
            "SD1.5's is open_clip:ViT-L-14/openai; SDXL's are that and open_clip:ViT-bigG-14/laion2b_s39b_b160k."
        )
    base = "playground" if generator.name == "playground" else generator.family
    with PreferenceStore.existing(store) as answers:
        return [fit_taste(answers, one, arguments.person, base=base) for one in generator.encoders.values()]


def _prompts(arguments: argparse.Namespace, store: Path) -> list[str]:
    """The person's own prompts, else those that came with the model, else ones of all sorts."""
    from ..adapters.comparisons import PreferenceStore
    from ..adapters.errors import StoreError
    from ..adapters.playground import playground_folder
    from ..adapters.steering.neutral_prompts import training_prompts

    own: list[str] = []
    if arguments.person:
        try:
            with PreferenceStore.existing(store) as answers:
                own = [comparison.prompt for comparison in answers.comparisons(arguments.person)]
        except StoreError:  # with a taste from a file there need be no store
            own = []
    folder = playground_folder() if arguments.model == "playground" else Path(arguments.model)
    file = folder / "example_prompts.txt"
    examples = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return training_prompts(own, [line.strip() for line in examples if line.strip()])
