"""Training steps as the papers' public scripts take them, and as Palate does, at one shape, to be timed.

The scripts' steps, of those that train a LoRA, are written anew from what they compute: pictures go through the
autoencoder and prompts through the text encoders at every step; the reference is the model with its LoRA off. Each is
measured in a process of its own, which holds what that step needs and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..finetune.frozen import forget_inputs, hold_in_bytes
from ..finetune.lora import add_lora
from ..finetune.losses import BETAS, LOSSES, REFERENCE_FREE, PairErrors
from ..finetune.noising import noising_of
from ..finetune.predicting import predicted
from ..finetune.prepared import Batch
from ..finetune.sparing import spare_memory
from ..finetune.step import Denoiser
from ._models import models_of

__all__ = ["STEPS", "Measured", "Setup", "measure", "measure_alone"]

_LENGTH = 77  # tokens of a prompt
_PACKAGES = (  # 300 MB, which are no step's
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip",
    "peft",
)
_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Setup:
    """What all steps have in common.

    Attributes:
        model: As `models_of` takes it. pixels: Side of the pictures.
        pairs: Of a step, >= 1. rank: Of the LoRA.
        device: Where. bfloat16: What isn't trained is held and computed in 16 bits.
        checkpointing: All kinds of steps compute again what others keep for the backward pass, Palate's in its own way.
        threads: Of the processor.
    """

    model: str
    pixels: int
    pairs: int = 1
    rank: int = 8
    device: str = "cpu"
    bfloat16: bool = False
    checkpointing: bool = False
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """What one kind of step takes.

    Attributes:
        seconds: Of each step, of the processor where it computes and of the clock on a GPU.
        peak: Bytes at most during the steps, beside what Python and its packages hold; 0 where the system doesn't say.
    """

    seconds: tuple[float, ...]
    peak: int


def measure_alone(name: str, setup: Setup, repeats: int) -> Measured:
    """`measure` in a new process, so that the peak is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, name, setup, repeats).result()


def measure(name: str, setup: Setup, repeats: int) -> Measured:
    """Take one kind of step again and again.

    Args:
        name: One of `STEPS`.
        setup: With which models.
        repeats: Steps that count; one before them doesn't.
    """
    torch.set_num_threads(setup.threads)
    device = torch.device(setup.device)
    for package in _PACKAGES:
        importlib.import_module(package)
    before = _peak(device)
    bench = _Bench(STEPS[name], setup)
    _forget_peak(device)
    seconds = [_clocked(bench.step, device) for _ in range(repeats + 1)]
    return Measured(tuple(seconds[1:]), max(0, _peak(device) - before))


@dataclass(frozen=True)
class _Kind:
    """Whose step by which loss."""

    loss: str
    ours: bool
    fixed: bool = False
    sparing: bool = False
    in_bytes: bool = False

    @property
    def asks_reference(self) -> bool:
        """Whether each step has to."""
        return self.loss not in REFERENCE_FREE and not self.fixed


STEPS = {
    "Palate, mapo": _Kind("mapo", ours=True),
    "Palate, mapo, checkpointing": _Kind("mapo", ours=True, sparing=True),
    "Palate, mapo, int8": _Kind("mapo", ours=True, in_bytes=True),
    "Palate, mapo, checkpointing, int8": _Kind("mapo", ours=True, sparing=True, in_bytes=True),
    "Palate, dpo, fixed noise": _Kind("dpo", ours=True, fixed=True),
    "Palate, dpo": _Kind("dpo", ours=True),
    "as MaPO's script": _Kind("mapo", ours=False),
    "as Diffusion-DPO's script": _Kind("dpo", ours=False),
}


class _Bench:
    """The models that one kind of step needs, a batch of noise, and the optimiser."""

    def __init__(self, kind: _Kind, setup: Setup) -> None:
        precision = torch.bfloat16 if setup.bfloat16 else torch.float32
        self.kind, self.device = kind, torch.device(setup.device)
        self.models = models_of(setup.model, self.device, precision)
        draw = torch.Generator().manual_seed(setup.seed)
        size = (2 * setup.pairs, 3, setup.pixels, setup.pixels)
        self.pixels = (torch.rand(size, generator=draw) * 2.0 - 1.0).to(self.device, precision)
        words = torch.randint(1, self.models.vocabulary - 1, (setup.pairs, _LENGTH), generator=draw)
        self.words, self.side = words.to(self.device), setup.pixels
        self.batch = self._read()
        unet = self.models.unet
        if kind.in_bytes:
            hold_in_bytes(unet)
        if kind.ours and (setup.checkpointing or kind.sparing):
            spare_memory(unet)
        elif setup.checkpointing:
            unet.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(add_lora(unet, setup.rank, setup.seed))
        if kind.ours:
            forget_inputs(unet)
        unet.train()
        self.denoiser = Denoiser(unet, noising_of(self.models.scheduler), self.device, precision)
        self.noise = torch.randn(self.batch.chosen.shape, generator=draw).to(self.device)
        self.timesteps = torch.randint(self.denoiser.noising.timesteps, (setup.pairs,), generator=draw).to(self.device)
        self.known: PairErrors | None = None
        if kind.fixed:
            with torch.no_grad():  # or all that a backward pass wants would be held beside each step's own
                self.known = self.denoiser.errors(self.batch, self.noise, self.timesteps, True)
        if kind.ours:
            self.models.only_the_denoiser()

    def step(self) -> None:
        errors = self._ours() if self.kind.ours else self._as_the_script()
        self.optimizer.zero_grad()
        loss = LOSSES[self.kind.loss](errors, beta=BETAS[self.kind.loss]).loss.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _ours(self) -> PairErrors:
        """Latents and conditioning are known, and with fixed noise the reference's errors."""
        found = self.denoiser.errors(self.batch, self.noise, self.timesteps, self.kind.asks_reference)
        if self.known is None:
            return found
        return PairErrors(found.chosen, found.rejected, self.known.ref_chosen, self.known.ref_rejected)

    def _as_the_script(self) -> PairErrors:
        """Everything anew."""
        batch = self._read()
        errors = [*_errors(self, self.models.unet, batch)]
        if self.kind.asks_reference:
            with self.denoiser.reference():
                errors += _errors(self, self.models.unet, batch)
        return PairErrors(*errors)

    def _read(self) -> Batch:
        """Pictures and prompts through their encoders."""
        with torch.no_grad():
            chosen, rejected = self.models.latents(self.pixels).float().chunk(2)
            tokens, pooled = self.models.conditioning(self.words)
        sizes = None
        if pooled is not None:
            sizes = pooled.new_tensor([[self.side, self.side, 0, 0, self.side, self.side]]).repeat(len(pooled), 1)
        return Batch(chosen, rejected, tokens, pooled, sizes)


def _errors(bench: _Bench, unet: Any, batch: Batch) -> Sequence[Tensor]:
    noising, precision = bench.denoiser.noising, bench.denoiser.precision
    noise, timesteps = bench.noise.repeat(2, 1, 1, 1), bench.timesteps.repeat(2)
    latents = torch.cat([batch.chosen, batch.rejected])
    tokens = batch.tokens.repeat(2, 1, 1)
    pooled = None if batch.pooled is None else batch.pooled.repeat(2, 1)
    sizes = None if batch.sizes is None else batch.sizes.repeat(2, 1)
    with torch.autocast(bench.device.type, precision, enabled=precision != torch.float32):
        found = predicted(unet, noising.noised(latents, noise, timesteps), timesteps, tokens, pooled, sizes)
    target = noising.target(latents, noise, timesteps)
    return F.mse_loss(found.float(), target, reduction="none").mean(dim=(1, 2, 3)).chunk(2)


def _clocked(step: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":  # other processes on the same cores don't count
        started = time.process_time()
        step()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    step()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _forget_peak(device: torch.device) -> None:
    """What was held at most from now on; pictures and prompts that Palate reads once are not a step's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # no Linux: with what came before
        _FORGET.write_text("5", encoding="ascii")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (most := _highest(_STATUS)) is not None:
        return most
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _highest(status: Path) -> int | None:
    """The most bytes that this process ever held, as Linux says; `getrusage` counts what its parent held, too."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return None if found is None else 1024 * int(found[1])
