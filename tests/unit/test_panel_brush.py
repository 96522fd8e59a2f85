"""Sharing one model: one at a time, urgent first, and waiting can be cancelled."""

import threading

import pytest
from palate.adapters.errors import CancelledError
from palate.ui.panel.brush import Brush

LONG = 30.0  # s, only ever waited for when something is broken


class Slow:
    """Paints until it is told to go on, or is cancelled."""

    name = "slow"

    def __init__(self):
        self.begun, self.go_on, self.order = threading.Event(), threading.Event(), []

    def images(self, prompt, seeds, cancelled=None, **options):
        self.begun.set()
        while not self.go_on.wait(0.01):
            if cancelled():
                raise CancelledError("Cancelled.")
        self.order.append(prompt)
        return [prompt for _ in seeds]


def start(work):
    results = []

    def run():
        try:
            results.append(work())
        except CancelledError:
            results.append("cancelled")

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_what_is_made_ahead_gives_way_to_somebody_who_waits():
    slow = Slow()
    brush = Brush(slow)
    ahead, first = start(lambda: brush.images("ahead", [1]))
    assert slow.begun.wait(LONG)
    urgent, second = start(lambda: brush.images("now", [1], urgent=True))
    ahead.join(LONG)
    slow.go_on.set()
    urgent.join(LONG)
    assert (first, second, slow.order) == (["cancelled"], [["now"]], ["now"])


def test_waiting_for_a_turn_can_be_cancelled():
    slow, stop = Slow(), threading.Event()
    brush = Brush(slow)
    busy, done = start(lambda: brush.images("first", [1], urgent=True))
    assert slow.begun.wait(LONG)
    waiting, result = start(lambda: brush.images("second", [1], stop.is_set, urgent=True))
    stop.set()
    waiting.join(LONG)
    slow.go_on.set()
    busy.join(LONG)
    assert (result, done) == (["cancelled"], [["first"]])


def test_a_failure_leaves_the_model_free():
    class Broken:
        name = "broken"

        def images(self, prompt, seeds, **options):
            raise ValueError("no")

    brush = Brush(Broken())
    for urgent in (True, False, True):
        with pytest.raises(ValueError, match="no"):
            brush.images("a", [1], urgent=urgent)
    with brush.turn() as painter:
        assert painter.name == "broken"
