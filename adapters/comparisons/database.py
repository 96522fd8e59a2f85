"""One SQLite file for many threads and processes; an answer is acknowledged when it is on disk."""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ComparisonError, StoreError
from .schema import VERSION, check_readable, migrate

__all__ = ["Database"]

logger = logging.getLogger(__name__)

BUSY_SECONDS = 30.0  # how long a writer waits for another one
CLOSING_SECONDS = 10.0  # how long closing waits for those who are at it


class Database:
    """Connections to one file, one for each thread; transactions; SQLite's errors in the person's words."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._lent = 0
        self._closed = False
        try:
            with self.read() as connection:
                _use_write_ahead_log(connection, file)
                found = check_readable(connection, file)
            if found < VERSION:
                with self.write() as connection:
                    # Read again, now alone: another process may have done it while this one waited.
                    migrate(connection, check_readable(connection, file))
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend this thread's connection; each statement sees what was committed before it.

        Raises:
            ComparisonError: a text or number that SQLite can't hold was asked for.
            StoreError: the file can't be read.
        """
        try:
            connection = self._connection()
            try:
                yield connection
            finally:
                with self._idle:
                    self._lent -= 1
                    self._idle.notify_all()
        except StoreError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise _explain(error, self.file) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise ComparisonError(
                f"Cannot look it up: {error}; expected text that can be shown and numbers below 2**63. Check the name."
            ) from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Lend this thread's connection inside a transaction: on disk when the block ends, undone if it raises."""
        with self.read() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite itself has rolled back after some errors, a full disk among them.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connections of all threads; closing twice does nothing.

        Waits for those that are reading or writing right now: SQLite crashes when a connection is closed in use.
        """
        with self._idle:
            self._closed = True
            if not self._idle.wait_for(lambda: self._lent == 0, CLOSING_SECONDS):
                logger.warning("%s is still in use, and is left to close by itself", self.file)
                return
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        thread = threading.current_thread()
        with self._lock:
            if self._closed:
                raise StoreError(f"Cannot use {self.file}: the store was closed; expected an open one. Open it again.")
            connection = self._connections.get(thread)
            if connection is None:
                for finished in [other for other in self._connections if not other.is_alive()]:
                    self._connections.pop(finished).close()
                connection = self._connections[thread] = _connect(self.file)
            self._lent += 1
            return connection


def _connect(file: Path) -> sqlite3.Connection:
    # No isolation level: transactions are begun by hand. Not bound to a thread, so that close() may close all.
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        check_readable(connection, file)
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode, NORMAL may lose the last commits with the power
        connection.execute("PRAGMA fullfsync = ON")  # macOS only: its plain fsync leaves data in the drive's cache
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection, file: Path) -> None:
    """Switch the file to WAL, where readers never wait; it stays switched."""
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait its busy time here when two processes switch at once.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        logger.info("%s can't use a write-ahead log on this file system; it uses '%s', slower but as safe", file, mode)


def _explain(error: sqlite3.Error | OSError, file: Path) -> StoreError:
    text = str(error)
    if "malformed" in text or "not a database" in text:
        return StoreError(
            f"Cannot open {file}: it is damaged or no database ({text}); expected a store of Palate's. It was left as "
            f"it is. Put a copy from your backup in its place, try `sqlite3 {file.name} .recover`, or choose another "
            "folder."
        )
    if "full" in text or "disk I/O" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return StoreError(
            f"Cannot write {file}: {text}; expected a sound disk with free space. Nothing was recorded. "
            "Free some space and try again."
        )
    if "locked" in text:
        return StoreError(
            f"Cannot write {file}: another program held it for {BUSY_SECONDS:.0f} s; expected a moment. "
            "Close what else uses it and try again."
        )
    return StoreError(
        f"Cannot use {file}: {text}; expected a folder that can be read and written. Check its permissions, "
        "or choose another folder."
    )
