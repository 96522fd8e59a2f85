"""Two real ComfyUIs and a panel write to one store at once; then look whether every answer is there, once.

    python tests/benchmarks/many_writers.py --answers 20000 --seed 0

Each ComfyUI asks with its own graphs (Collect Pairs over images that cost no sampling) and the panel with pairs that it
makes itself, from a painter that paints plain colours; else all of it is the real thing: three processes, one
PALATE_HOME, and clients that click through the routes that the browser's pages use, all of them for the same people.
Some clicks come twice, and some at the same moment in the other ComfyUI's window. Prints one line.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "comfyui"), str(TESTS / "browser")]

from comfy_host import Host, find_comfyui, start, stop  # noqa: E402
from driving import RunningPanel  # noqa: E402
from graphs import node  # noqa: E402
from palate.adapters.comparisons import PreferenceStore  # noqa: E402

PEOPLE = ("writer one", "writer two")
TWICE, ELSEWHERE = 0.2, 0.1  # shares of clicks that come again, and in the other window
CLICKERS = 3  # of each process
BATCH = 32  # images of a graph, two a question


@dataclass
class Said:
    """What was acknowledged.

    Attributes:
        most: Answers after which it ends.
        outcomes: Person and outcome by the question's id. places: How many answers each process took.
        again: Clicks that came twice. wrong: What went wrong.
    """

    most: int
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    places: Counter[str] = field(default_factory=Counter)
    again: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hear(self, place: str, offer: str, person: str, outcome: str, again: int = 0) -> None:
        """Take one acknowledgement."""
        with self.lock:
            self.places[place] += offer not in self.outcomes
            self.outcomes[offer] = person, outcome
            self.again += again

    @property
    def enough(self) -> bool:
        """Whether all clicks are done, or something went wrong."""
        return len(self.outcomes) >= self.most or bool(self.wrong)


class Client:
    """One browser window: a connection that stays open."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.split("//")[1].strip("/"), timeout=120)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send, and return what came back.

        Raises:
            AssertionError: it was refused.
        """
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        told = response.read()
        assert response.status == 200, f"{path}: {response.status} {told[:300]!r}"
        found: dict[str, Any] = json.loads(told)
        return found


def ask(host: Host, seed: int, questions: queue.Queue[tuple[str, str]], said: Said) -> None:
    """Queue graphs that ask, as fast as they are answered."""
    rng, number = random.Random(seed), 0
    while not said.enough:
        if questions.qsize() > 4 * BATCH:
            time.sleep(0.01)
            continue
        number += 1
        person = rng.choice(PEOPLE)
        graph = {
            "images": node("PalateProbeImages", count=BATCH, variant=seed + number, width=32, height=32),
            "collect": node("PalateCollectPairs", images=["images", 0], person=person, mode="record"),
        }
        for pair in host.run(graph)["collect"]["palate_pairs"]:
            questions.put((pair["offer"], person))


def click(hosts: list[Host], place: int, seed: int, questions: queue.Queue[tuple[str, str]], said: Said) -> None:
    """Answer what a ComfyUI asks."""
    rng, here, there = random.Random(seed), Client(hosts[place].url), Client(hosts[1 - place].url)
    while not said.enough:
        try:
            offer, person = questions.get(timeout=0.2)
        except queue.Empty:
            continue
        body = {"offer": offer, "outcome": rng.choice(("left", "right", "tie", "both_bad")), "seconds": rng.random()}
        again = [here] * (rng.random() < TWICE) + [there] * (rng.random() < ELSEWHERE)
        others = [threading.Thread(target=one.post, args=("/palate/answer", body)) for one in again if one is there]
        for other in others:
            other.start()
        told = [here.post("/palate/answer", body) for _ in range(1 + again.count(here))]
        for other in others:
            other.join()
        assert [one["outcome"] for one in told[-1]["pairs"]] == [body["outcome"]], told[-1]
        said.hear(f"ComfyUI {1 + place}", offer, person, body["outcome"], len(again))


def look_and_click(panel: RunningPanel, tab: int, seed: int, said: Said) -> None:
    """One tab of the panel: answers the pairs that it is given, up to three at a time, and takes the next ones."""
    rng, client, person = random.Random(seed), Client(panel.url), PEOPLE[tab % len(PEOPLE)]
    body: dict[str, Any] = {"tab": f"window {tab}", "person": person, "answers": [], "waiting": True}
    before: list[dict[str, Any]] = []
    while not said.enough:
        told = client.post("/palate/api/compare", body)
        assert not told["problem"] and not told["stopped"], told
        for one in body["answers"]:
            assert one["ticket"] in told["done"]
            known = one["ticket"] in said.outcomes
            said.hear("the panel", one["ticket"], person, one["outcome"], int(known))
        repeated = [one for one in before if rng.random() < TWICE]
        before = [
            {"ticket": one["ticket"], "outcome": rng.choice(("left", "right", "tie")), "seconds": rng.random()}
            for one in told["pairs"]
            if one["ticket"] not in said.outcomes
        ]
        body["answers"] = [*before, *repeated]


def watched(work: Callable[..., None], said: Said, *given: Any) -> threading.Thread:
    """Start it in a thread; what it raises ends all others."""

    def run() -> None:
        try:
            work(*given)
        except Exception as error:
            said.wrong.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def write(hosts: list[Host], panel: RunningPanel, answers: int, seed: int) -> Said:
    """Click until so many answers were acknowledged, from all three.

    Raises:
        AssertionError: a click was refused or said to be another one.
    """
    said, threads = Said(answers), []
    for place, host in enumerate(hosts):
        questions: queue.Queue[tuple[str, str]] = queue.Queue()
        threads.append(watched(ask, said, host, seed + 1_000_000 * place, questions, said))
        threads += [watched(click, said, hosts, place, seed + 10 * place + k, questions, said) for k in range(CLICKERS)]
    threads += [watched(look_and_click, said, panel, tab, seed + 100 + tab, said) for tab in range(CLICKERS)]
    for thread in threads:
        thread.join()
    assert not said.wrong, said.wrong[0]
    return said


def check(store: Path, said: Said) -> None:
    """Look whether the store has what was acknowledged, and nothing else of these people.

    Raises:
        AssertionError: an answer that was acknowledged is gone, twice or another one, or one is there that nobody gave.
    """
    with PreferenceStore(store) as opened:
        kept = {one.id: one for person in PEOPLE for one in opened.comparisons(person)}
        found = opened.asked.answers(said.outcomes)
        assert len(found) == len(said.outcomes), f"{len(said.outcomes) - len(found)} questions are gone"
        numbers = set()
        for offer, answer in found:
            assert answer is not None, f"the answer to {offer.id} was acknowledged and is gone"
            assert (answer.person, answer.outcome) == said.outcomes[offer.id], (
                f"the answer to {offer.id} is another one"
            )
            assert (answer.left, answer.right) == (offer.left, offer.right)
            assert opened.has_image(answer.left) and opened.has_image(answer.right)
            numbers.add(answer.id)
        assert len(numbers) == len(found), "two questions share an answer"
        assert kept.keys() == numbers, f"{len(kept.keys() - numbers)} answers are there that nobody gave"
        assert sum(opened.count(person) for person in PEOPLE) == len(numbers)


@contextmanager
def running(folder: Path) -> Iterator[tuple[list[Host], RunningPanel]]:
    """Two ComfyUIs and a panel on the store in `folder / "home"`."""
    found = find_comfyui()
    assert not isinstance(found, str), found
    with ExitStack() as stack:
        hosts = []
        for name in ("one", "two"):
            host, process = start(folder / name, *found, home=folder / "home")
            stack.callback(stop, process)
            hosts.append(host)
        panel = RunningPanel(folder, folder / "home" / "store")
        stack.callback(panel.kill)
        yield hosts, panel


def main() -> int:
    """Run it and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, running(Path(place)) as (hosts, panel):
        began = time.monotonic()
        said = write(hosts, panel, given.answers, given.seed)
        seconds = time.monotonic() - began
        check(Path(place) / "home" / "store", said)
    told = ", ".join(f"{count:,} in {name}" for name, count in sorted(said.places.items()))
    print(
        f"{len(said.outcomes):,} answers acknowledged by three processes on one store in {seconds:.0f} s ({told}; "
        f"{said.again:,} clicks came again): none lost, doubled or changed (seed {given.seed})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
