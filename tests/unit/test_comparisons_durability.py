"""What was acknowledged survives: killed processes, two writers, full disks, older and newer versions, damage."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from palate.adapters.comparisons import Comparison, PreferenceStore, schema
from palate.adapters.comparisons import database as databases
from palate.adapters.comparisons.database import Database
from palate.adapters.errors import NewerStoreError, StoreError
from PIL import Image

# Adds an image and a comparison again and again, and prints the ids of what it was told is recorded.
WRITER = """
import sys
import numpy as np
from palate.adapters.comparisons import Comparison, PreferenceStore

folder, person, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = PreferenceStore(folder)
for number in range(count):
    pixels = np.random.default_rng([number, ord(person[0])]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = store.add_image(pixels)
    added = store.add(Comparison(person, image, "other", "left"))
    print(added.id, image, flush=True)
"""


def start_writer(folder: Path, person: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), person, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
@pytest.mark.parametrize("acknowledged", [1, 7])
def test_acknowledged_answers_survive_kill_9(tmp_path: Path, acknowledged: int) -> None:
    with start_writer(tmp_path, "mara", 10_000) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        os.kill(writer.pid, signal.SIGKILL)
        lines += [line for line in writer.stdout.readlines() if line.endswith("\n")]
    with PreferenceStore(tmp_path) as store:
        kept = {str(comparison.id): comparison.left for comparison in store.comparisons("mara")}
        for comparison_id, image in map(str.split, lines):
            assert kept[comparison_id] == image
            assert store.image(image).size == (16, 16)
        assert store.revision("mara") == len(kept) >= acknowledged


def test_two_processes_write_to_one_new_store(tmp_path: Path) -> None:
    with start_writer(tmp_path, "mara", 20) as one, start_writer(tmp_path, "ines", 20) as two:
        lines = one.communicate()[0].splitlines() + two.communicate()[0].splitlines()
    assert one.returncode == two.returncode == 0
    with PreferenceStore(tmp_path) as store:
        assert {str(comparison.id) for comparison in store.comparisons()} == {line.split()[0] for line in lines}
        assert store.revision("mara") == store.revision("ines") == 20


def older_store(folder: Path) -> None:
    """Write version 1 by hand, as the first Palate did: no offers, no vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "store.sqlite") as connection:
        connection.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA application_id = 1346456660;
            CREATE TABLE images (id TEXT PRIMARY KEY, pixels TEXT NOT NULL UNIQUE, width INTEGER NOT NULL,
                height INTEGER NOT NULL, created REAL NOT NULL);
            CREATE TABLE comparisons (id INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT NOT NULL,
                left_image TEXT NOT NULL, right_image TEXT NOT NULL, outcome TEXT NOT NULL, prompt TEXT NOT NULL,
                left_seed TEXT, right_seed TEXT, model TEXT NOT NULL, source TEXT NOT NULL, seconds REAL,
                created REAL NOT NULL);
            CREATE INDEX comparisons_person ON comparisons (person, id);
            CREATE TABLE revisions (person TEXT PRIMARY KEY, revision INTEGER NOT NULL);
            INSERT INTO comparisons VALUES (5, 'mara', 'a', 'b', 'tie', 'a fox', '18446744073709551615', NULL,
                'playground', 'panel', 2.5, 1000.0);
            INSERT INTO revisions VALUES ('mara', 9);
            PRAGMA user_version = 1;
            """
        )
    connection.close()


def test_version_1_migrates_and_keeps_everything(tmp_path: Path) -> None:
    older_store(tmp_path)
    expected = Comparison("mara", "a", "b", "tie", "a fox", 2**64 - 1, None, "playground", "panel", 2.5, 5, 1000.0)
    for _ in range(2):
        with PreferenceStore(tmp_path) as store:
            assert store.comparisons() == [expected]
            assert store.revision("mara") == 9
    with PreferenceStore(tmp_path) as store:
        store.put_vectors("first", {"a": [1.0]})
        assert store.answer(store.offer("mara", "a", "b").id, "left").id == 6


def test_a_failing_migration_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older_store(tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", [(), ("CREATE TABLE extra (x)", "CREATE TABLE broken (")])
    with pytest.raises(StoreError, match="Cannot use"):
        PreferenceStore(tmp_path)
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    connection.close()


def test_a_newer_store_is_left_alone_and_both_versions_named(tmp_path: Path) -> None:
    PreferenceStore(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = files(tmp_path)
    with pytest.raises(NewerStoreError, match=rf"its version is 99; expected {schema.VERSION} or lower.*Update Palate"):
        PreferenceStore(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.001])
def test_a_store_cut_in_half_is_named_and_kept(tmp_path: Path, keep: float) -> None:
    with PreferenceStore(tmp_path) as store:
        for number in range(50):
            store.add(Comparison("mara", f"{number}", "b", "left", prompt="x" * 500))
    file = tmp_path / "store.sqlite"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    before = files(tmp_path)
    with pytest.raises(StoreError, match=r"left as it is.*backup"):
        PreferenceStore(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("content", [b"hello", b"\x00" * 5000, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_what_is_no_database_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.sqlite").write_bytes(content)
    with pytest.raises(StoreError, match="left as it is"):
        PreferenceStore(tmp_path)
    assert (tmp_path / "store.sqlite").read_bytes() == content


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("CREATE TABLE comparisons (x)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        PreferenceStore(tmp_path)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="Choose another folder"):
        PreferenceStore(tmp_path / "file")


def test_a_full_disk_leaves_no_half_written_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with PreferenceStore(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr("palate.adapters.comparisons.folder.os.fsync", full)
            with pytest.raises(StoreError, match=r"No space left on device.*Free some space"):
                store.add_image(Image.new("RGB", (4, 4)))
        assert not [path for path in (tmp_path / "images").rglob("*") if path.is_file()]
        assert store.image(store.add_image(Image.new("RGB", (4, 4)))).size == (4, 4)


# Fills the store under a limit on the size of any file: what a full disk does to SQLite, without filling one.
FULL = """
import resource, signal, sys
from palate.adapters.comparisons import Comparison, PreferenceStore
from palate.adapters.errors import StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = PreferenceStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    for number in range(1000):
        print(store.add(Comparison("mara", f"{number}", "b", "left", prompt="x" * 2000)).id, flush=True)
except StoreError as error:
    print(f"error {error}", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
def test_a_full_disk_is_an_error_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    *ids, error = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert error.startswith("error Cannot write") and "Free some space" in error
    assert len(ids) > 5
    with PreferenceStore(tmp_path) as store:
        assert [str(comparison.id) for comparison in store.comparisons()] == ids
        assert store.revision("mara") == len(ids)


def test_closing_waits_for_those_who_are_at_it(tmp_path: Path) -> None:
    """SQLite crashes the whole process when a connection is closed that another thread is using."""
    database = Database(tmp_path / "store.sqlite")
    begun, go_on, rows = threading.Event(), threading.Event(), []

    def read() -> None:
        with database.read() as connection:
            begun.set()
            assert go_on.wait(30)
            rows.extend(connection.execute("SELECT count(*) FROM images").fetchall())

    reader, closer = threading.Thread(target=read), threading.Thread(target=database.close)
    reader.start()
    assert begun.wait(30)
    closer.start()
    go_on.set()
    reader.join(30)
    closer.join(30)
    assert rows == [(0,)]
    with pytest.raises(StoreError, match="was closed"), database.read():
        pass


def test_whoever_never_comes_back_does_not_hold_up_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "CLOSING_SECONDS", 0.01)
    database = Database(tmp_path / "store.sqlite")
    with database.read() as connection:
        database.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)
