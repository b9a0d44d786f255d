"""The one DuckDB connection and its writer.

While a process holds a DuckDB file open, no other process can open it, so the app owns the database and everything else
owns directories. Inside the app, one thread writes: it takes all the work that is waiting, does it in one transaction,
commits once, and only then tells the callers. What `write` returned is on disk and survives `kill -9`.

Reading needs no queue: each thread reads through a cursor of its own.
"""

from __future__ import annotations

import errno
import os
import queue
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import duckdb

from storage import migrations
from storage.errors import AppError, DatabaseInUse, DiskFull, ShuttingDown

T = TypeVar("T")
Cursor: TypeAlias = duckdb.DuckDBPyConnection
Row: TypeAlias = dict[str, Any]
_CONNECTION_IS_GONE = (
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.IOException,
    duckdb.ConnectionException,
)
_Job = tuple[Callable[[Cursor], Any], "Future[Any]"]


class Database:
    """Owner of one DuckDB file. Open with `Database.open`, close with `close`."""

    def __init__(self, path: Path, connection: Cursor) -> None:
        self.path = path
        self._connection = connection
        self._local = threading.local()
        self._generation = 0  # counts reopenings, so that no thread keeps a cursor of a dead connection
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write_loop, name="database-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path) -> Database:
        """Opens or creates the file and brings its schema up to date. Raises DatabaseInUse, DiskFull or AppError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _for_the_person(error, path) from error
        connection = _connect(path)
        try:
            migrations.apply(connection)
        except (duckdb.Error, OSError) as error:
            connection.close()
            raise _for_the_person(error, path) from error
        return cls(path, connection)

    def write(self, work: Callable[[Cursor], T]) -> T:
        """Does the work in a transaction and returns its result once it is durable.

        Raises what the work raised, with nothing of it kept; DiskFull where the disk has no room.
        """
        return self.submit(work).result()

    def submit(self, work: Callable[[Cursor], T]) -> Future[T]:
        """Like `write`, without waiting."""
        done: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise ShuttingDown("Plumbline is shutting down; nothing was stored. Try again when it is back.")
            self._jobs.put((work, done))
        return done

    def read(self, sql: str, **parameters: Any) -> list[Row]:
        """Rows as dictionaries. Named parameters (`$name`)."""
        return rows_of(self._cursor().execute(sql, parameters))

    def close(self) -> None:
        """Finishes what is queued, then lets the file go."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._writer.join()
        self._connection.close()

    def _cursor(self) -> Cursor:
        if getattr(self._local, "generation", None) != self._generation:
            self._local.generation, self._local.cursor = self._generation, self._connection.cursor()
        cursor: Cursor = self._local.cursor
        return cursor

    # ---- the writer thread ----

    def _write_loop(self) -> None:
        while batch := self._next_batch():
            self._commit(batch)

    def _next_batch(self) -> list[_Job]:
        """Waits for one job and takes along all others that are there; empty when closing."""
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._jobs.put(None)  # closing waits until this last batch is written
        return batch

    def _commit(self, batch: list[_Job]) -> None:
        """One transaction for all; where one job fails, each gets a transaction of its own."""
        try:
            results = self._transaction([work for work, _ in batch])
        except Exception as error:  # the error belongs to the caller of the job, not to this thread
            if len(batch) > 1:
                for job in batch:
                    self._commit([job])
            else:
                batch[0][1].set_exception(self._recovered(error))
            return
        for (_, done), result in zip(batch, results, strict=True):
            done.set_result(result)

    def _transaction(self, works: list[Callable[[Cursor], Any]]) -> list[Any]:
        cursor = self._connection.cursor()
        cursor.begin()
        try:
            results = [work(cursor) for work in works]
            cursor.commit()
        except Exception:
            _roll_back(cursor)
            raise
        finally:
            cursor.close()
        return results

    def _recovered(self, error: Exception) -> Exception:
        """The error for the caller; a connection that DuckDB gave up after a failed write is opened again."""
        if isinstance(error, _CONNECTION_IS_GONE):
            self._connection.close()
            try:
                self._connection = _connect(self.path)
            except AppError as cannot_reopen:
                return cannot_reopen
            self._generation += 1
        return _for_the_person(error, self.path) if isinstance(error, (duckdb.Error, OSError)) else error


def insert(cursor: Cursor, table: str, rows: Sequence[Row], *, or_ignore: bool = False) -> None:
    """Inserts rows that all have the same keys. `table` and the keys are names from our own code, never input.

    Each column goes in as one list: five times faster than a list of values for each row. One row goes in as it is.
    """
    if not rows:
        return
    names = list(rows[0])
    statement = f"INSERT {'OR IGNORE ' if or_ignore else ''}INTO {table} ({', '.join(names)}) "
    if len(rows) == 1:
        cursor.execute(f"{statement} VALUES ({', '.join(['?'] * len(names))})", list(rows[0].values()))
        return
    columns = [[row[name] for row in rows] for name in names]
    cursor.execute(f"{statement} SELECT {', '.join(['unnest(?)'] * len(names))}", columns)


def rows_of(result: Cursor) -> list[Row]:
    """All rows of an executed statement, as dictionaries."""
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, values, strict=True)) for values in result.fetchall()]


def _connect(path: Path) -> Cursor:
    try:
        return duckdb.connect(str(path), config={"threads": 1})
    except (duckdb.Error, OSError) as error:
        raise _for_the_person(error, path) from error


def _roll_back(cursor: Cursor) -> None:
    try:
        cursor.rollback()
    except duckdb.Error:
        return  # the failed statement already ended the transaction


def _for_the_person(error: Exception, path: Path) -> Exception:
    """An AppError where a person can do something about it; the error itself otherwise."""
    text = str(error)
    if "Could not set lock" in text:
        holder = re.search(r"PID (\d+)", text)
        who = f"process {holder.group(1)}" if holder else "another process"
        return DatabaseInUse(
            f"The database {path} is in use by {who}. Plumbline is probably running already: open its page, "
            "stop it first, or start this one with another folder (PLUMBLINE_HOME)."
        )
    if is_full(error):
        return DiskFull(
            f"The disk that holds {path} is full, so this was not stored. Everything stored before is safe. "
            "Free some space and try again."
        )
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return AppError(f"No permission to write {path} as {_user()}. Choose another folder with PLUMBLINE_HOME.")
    if "not a valid DuckDB database file" in text:
        return AppError(f"{path} is not a Plumbline database. Move it away, or set PLUMBLINE_HOME to another folder.")
    return error


def is_full(error: Exception) -> bool:
    """Whether a write failed for want of room, on the disk or in somebody's quota."""
    says = ("No space left on device", "Disk quota exceeded")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(one in str(error) for one in says)


def _user() -> str:
    return os.environ.get("USER") or f"user {os.getuid()}"
