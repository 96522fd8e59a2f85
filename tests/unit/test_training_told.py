"""What a training tells another program, and all that asks it to end."""

from __future__ import annotations

import io
import json
import math
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
from palate.adapters.finetune.protocol import (
    STOP,
    Event,
    Failed,
    Finished,
    Prepared,
    Sampled,
    Stepped,
    read_line,
    write_line,
)
from palate.ui.training import Ending, Lines, ending, lines, run_told

EVENTS = [
    Prepared(2, 8),
    Stepped(1, 4, 0.5, -0.25, 0.5, 12.0, {"accuracy": 0.5, "log_loss": 0.7}),
    Stepped(2, 4),
    Sampled(2, ("ä.png", "b.png")),
    Finished("mine.safetensors", "On 9 comparisons …", None, 4, "worse"),
    Failed("Cannot train: 'nobody'."),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_and_the_line_that_event(event: Event) -> None:
    line = write_line(event)
    assert "\n" not in line and read_line(line) == event


def test_no_number_is_null_since_json_has_none() -> None:
    line = write_line(Stepped(1, 4, math.nan, math.inf, 0.5, 1.0, {"accuracy": math.nan}))
    found = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert found["loss"] is None and found["margin"] is None and found["judgement"] == {"accuracy": None}


@pytest.mark.parametrize(
    "line", ["", "Loading weights", "[1]", "3", '{"event": "other"}', '{"event": "step"}', '{"event": ["step"]}']
)
def test_what_a_library_prints_is_no_event(line: str) -> None:
    assert read_line(line) is None


def test_a_newer_line_is_read_without_what_is_unknown() -> None:
    assert read_line('{"event": "prepared", "done": 1, "all": 2, "more": 3}') == Prepared(1, 2)


def test_a_file_asks_it_to_end_and_an_old_one_does_not(tmp_path: Path) -> None:
    (tmp_path / STOP).write_text("")
    with ending(tmp_path) as asked:
        assert not asked.asked()
        (tmp_path / STOP).write_text("")
        assert asked.asked()
    assert not (tmp_path / STOP).exists()


def test_the_first_ctrl_c_asks_and_the_second_one_ends(tmp_path: Path, capfd) -> None:
    before = signal.getsignal(signal.SIGINT)
    with ending(tmp_path) as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.asked() and "Ctrl-C again ends it on the spot" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_a_closed_terminal_asks_and_one_that_may_close_does_not(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending(tmp_path) as asked:  # as nohup starts it
            signal.raise_signal(signal.SIGHUP)
            assert not asked.asked()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with ending(tmp_path) as asked:
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
                signal.raise_signal(number)  # the system's, the shell's, and what follows at a logout
                assert asked.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_nobody_reads_any_more_asks_to_end(tmp_path: Path) -> None:
    def gone(event: object) -> None:
        raise BrokenPipeError

    def train(asked: Ending, tell: Callable[[Event], None]) -> int:
        tell(Prepared(1, 2))
        return 130 if asked.asked() else 0

    assert run_told(Namespace(json=False, starter=False), tmp_path, train, gone) == 130


def test_only_events_are_printed_and_a_cut_pipe_asks_to_end(tmp_path: Path, capsys) -> None:
    with ending(tmp_path) as asked:
        with lines(asked) as tell:
            sys.stdout.write("from a library\n")
            tell(Prepared(1, 2))
            assert not asked.begun
            tell(Stepped(1, 2))
            assert asked.begun
        told = capsys.readouterr()
        assert [read_line(line) for line in told.out.splitlines()] == [Prepared(1, 2), Stepped(1, 2)]
        assert "library" in told.err
        closed = io.StringIO()
        closed.close()
        Lines(closed, asked)(Prepared(2, 2))
        assert asked.asked()
