"""The panel's training: one at a time, in a process of its own; how it goes is kept where a reload finds it."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...adapters.errors import CancelledError, FineTuneError, PreferenceError
from ...adapters.finetune.protocol import Event, Finished, LeftOut, Prepared, Sampled, Stepped
from ...adapters.places import palate_home, safe_name
from .jobs import DONE, FAILED, STOPPED, WORKING, Job, Jobs
from .training_plan import plan_of
from .training_record import KEPT, begun, by_time, keep, read, require_same, stepped

if TYPE_CHECKING:
    from .studio import Studio

__all__ = ["Trainings"]

SETTINGS = ("rank", "learning_rate", "steps", "seed", "drop_doubted", "frozen")
SAMPLES = 4  # pictures that are painted before and after


class Trainings:
    """Starts, stops and remembers trainings.

    Args:
        studio: Store and tools.
        jobs: Runs them.
    """

    def __init__(self, studio: Studio, jobs: Jobs) -> None:
        self._studio, self._jobs = studio, jobs
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._now: dict[str, Any] = {}

    # -- what there is

    def state(self, person: str, since: int = 0) -> dict[str, Any] | None:
        """Return the training that is at work, else this person's last one, as the page shows it; None without any.

        Args:
            person: Whose page it is.
            since: Step whose point the page has; later ones are enough.
        """
        with self._lock:
            found = self._now if self._now.get("state") == WORKING else self._last(person)
            if not found:
                return None
            return {**found, "points": [point for point in found["points"] if point[0] > since]}

    def plan(self, person: str, loss: str, drop_doubted: bool = True) -> dict[str, Any]:
        """Return what a training would be."""
        tools = self._studio.tools
        try:
            tools.trainer()
            trouble = ""
        except PreferenceError as error:
            trouble = str(error)
        found = plan_of(self._studio.store, person, loss, tools.model, drop_doubted)
        told: dict[str, Any] = {"person": person, "model": Path(tools.model).stem or tools.model, "trouble": trouble}
        if found is not None:
            told |= asdict(found)
            told["seconds"] = self._expected(found.steps)
            stopped = self._stopped(person, loss)
            told["stopped"] = None if stopped is None else {"step": stopped["step"], "steps": stopped["steps"]}
        return told

    def sample(self, name: str, step: int, number: int) -> Path | None:
        """Return the file of a sample that a training told of."""
        files = next((one["files"] for one in self._of(name).get("samples", ()) if one["step"] == step), [])
        return Path(files[number]) if 0 <= number < len(files) and os.path.isfile(files[number]) else None

    def file(self, name: str) -> Path | None:
        """Return the LoRA of a training that came to its end."""
        file = (self._of(name).get("result") or {}).get("file", "")
        return Path(file) if file and os.path.isfile(file) else None

    # -- what is done

    def start(self, person: str, loss: str, settings: dict[str, Any], anew: bool) -> dict[str, Any]:
        """Begin a training, or go on with one of the same person and loss that was stopped.

        Raises:
            FineTuneError: another one is at work, or a setting makes no sense.
            NotEnoughAnswersError: nothing to train on.
        """
        from ...adapters.finetune.pairs import pairs_of
        from ...adapters.finetune.settings import TrainSettings

        given = {name: settings[name] for name in SETTINGS if settings.get(name) is not None}
        TrainSettings(loss=loss, **given)  # says what makes no sense
        pairs_of(self._studio.store, person)
        self._studio.tools.trainer()
        plan = plan_of(
            self._studio.store, person, loss, self._studio.tools.model, bool(given.get("drop_doubted", True))
        )
        before = None if anew else self._stopped(person, loss)
        require_same(given, before)
        with self._lock:
            if self._job is not None and self._now.get("state") == WORKING:
                raise FineTuneError("Cannot train: a training is at work already. Stop it first, or wait for its end.")
            now = begun(person, loss, given, before or {})
            now["name"] = self._name(person, loss)
            now["model"] = Path(self._studio.tools.model).stem
            now["revision"] = self._studio.store.revision(person)
            now["sure"] = None if plan is None else plan.sure
            arguments = self._arguments(person, loss, now["settings"], before is None)
            self._studio.rest()
            self._job = self._jobs.start("training", lambda job: self._work(job, arguments, now))
            self._now = now
        return self.state(person) or {}

    def stop(self) -> None:
        """Have it end; what it has reached is kept."""
        if self._job is not None:
            self._job.stop()
            self._say("Stopping: keeping what was reached…")

    # -- at work

    def _work(self, job: Job, arguments: list[str], now: dict[str, Any]) -> None:
        try:
            found = self._studio.tools.train(arguments, lambda event: self._told(event, now), job.cancelled)
            self._end(now, state=DONE, result=asdict(found), text="")
        except CancelledError:
            self._end(now, state=STOPPED, text="")
            raise
        except Exception as error:
            known = isinstance(error, PreferenceError)
            self._end(now, state=FAILED, error=str(error) if known else f"{type(error).__name__}: {error}", text="")
            raise

    def _told(self, event: Event, now: dict[str, Any]) -> None:
        with self._lock:
            if isinstance(event, Prepared):
                now.update(text=f"Reading pictures… {event.done} of {event.all}", share=event.done / max(event.all, 1))
            elif isinstance(event, LeftOut):
                now["left_out"] = asdict(event)
            elif isinstance(event, Sampled):
                now["samples"] = [one for one in now["samples"] if one["step"] != event.step] + [asdict(event)]
            elif isinstance(event, Stepped):
                stepped(event, now)
        if not isinstance(event, Finished) and (not isinstance(event, Stepped) or event.judgement is not None):
            self._keep(now)

    def _end(self, now: dict[str, Any], **found: Any) -> None:
        with self._lock:
            now.update(found, seconds_left=None, ended=time.time())
        self._keep(now)

    def _say(self, text: str) -> None:
        with self._lock:
            self._now["text"] = text

    def _stopped(self, person: str, loss: str) -> dict[str, Any] | None:
        """The training of these answers that was stopped and can go on, with the settings that it was begun with."""
        found = read(palate_home() / "training" / self._name(person, loss) / KEPT)
        same = found.get("revision") == self._studio.store.revision(person)
        return found if same and found["state"] in (STOPPED, FAILED) and found["step"] else None

    # -- where it is kept

    def _name(self, person: str, loss: str) -> str:
        return safe_name("-".join((person, Path(self._studio.tools.model).stem, loss)).lower().replace(" ", "-"))

    def _arguments(self, person: str, loss: str, given: dict[str, Any], anew: bool) -> list[str]:
        tools, name = self._studio.tools, self._name(person, loss)
        words = {"person": person, "model": tools.model, "loss": loss, "store": self._studio.store.path, "name": name}
        flags = [] if given.get("drop_doubted", True) else ["--no-drop-doubted"]
        words |= {key.replace("_", "-"): value for key, value in given.items() if key != "drop_doubted"}
        words["samples"] = SAMPLES
        if tools.device and not tools.device.startswith("mps"):
            words["device"] = tools.device
        flags += ["--anew"] if anew else []
        return ["lora", *(f"--{key}={value}" for key, value in words.items()), *flags]

    def _keep(self, now: dict[str, Any]) -> None:
        folder = palate_home() / "training" / now["name"]
        with self._lock:
            text = json.dumps(now)
        keep(folder, text)

    def _last(self, person: str) -> dict[str, Any]:
        """This person's newest training, {} without any."""
        if self._now.get("person") == person:
            return self._now
        trainings = map(read, by_time(palate_home() / "training"))
        return next((found for found in trainings if found.get("person") == person), {})

    def _of(self, name: str) -> dict[str, Any]:
        """The training of this name, {} where there is none."""
        if self._now.get("name") == name:
            return self._now
        file = next((file for file in by_time(palate_home() / "training") if file.parent.name == name), None)
        return {} if file is None else read(file)

    def _expected(self, steps: int) -> float | None:
        """Seconds that so many steps would take, going by the last training of this model; None without one."""
        model = Path(self._studio.tools.model).stem
        for found in map(read, by_time(palate_home() / "training")):
            if found.get("model") == model and found.get("per_step"):
                return float(found["per_step"]) * steps
        return None
