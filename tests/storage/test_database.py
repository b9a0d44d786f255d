from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from storage.database import Database, insert
from storage.errors import AppError, DatabaseInUse, DiskFull, ShuttingDown

NAMES = "SELECT name FROM people ORDER BY name"


def person(name: str) -> dict[str, object]:
    return {"name": name, "role": "labeler", "created_at": "2031-01-01 00:00:00+00"}


def test_a_write_is_there_when_it_returns(database: Database) -> None:
    database.write(lambda cursor: insert(cursor, "people", [person("ines")]))

    assert database.read(NAMES) == [{"name": "ines"}]


def test_work_that_fails_leaves_nothing_and_harms_no_other(database: Database) -> None:
    def half(cursor: duckdb.DuckDBPyConnection) -> None:
        insert(cursor, "people", [person("half")])
        raise ValueError("in the middle")

    good = [database.submit(lambda cursor, n=n: insert(cursor, "people", [person(f"p{n}")])) for n in range(20)]
    bad = database.submit(half)
    for one in good:
        one.result()

    with pytest.raises(ValueError, match="in the middle"):
        bad.result()
    assert len(database.read(NAMES)) == 20


def test_many_threads_write_and_read_at_once(database: Database) -> None:
    def work(start: int) -> None:
        for number in range(start, start + 25):
            row = person(f"p{number:04d}")
            database.write(lambda cursor, row=row: insert(cursor, "people", [row]))
            database.read(NAMES)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 200, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(database.read(NAMES)) == 200


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    writer = (
        "import sys; from pathlib import Path; from storage.database import Database, insert\n"
        "database = Database.open(Path(sys.argv[1]))\n"
        "for n in range(100000):\n"
        "    row = {'name': f'p{n:06d}', 'role': 'labeler', 'created_at': '2031-01-01 00:00:00+00'}\n"
        "    database.write(lambda cursor: insert(cursor, 'people', [row]))\n"
        "    print(n, flush=True)\n"
    )
    path = tmp_path / "a.duckdb"
    child = subprocess.Popen([sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 60:
            break
    os.kill(child.pid, signal.SIGKILL)
    acknowledged = max([60, *(int(line) for line in child.stdout.read().split())])
    child.wait()

    database = Database.open(path)
    stored = len(database.read(NAMES))
    database.close()

    assert stored >= acknowledged + 1


def test_a_second_app_on_the_same_database_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    script = (
        "import sys; from pathlib import Path; from storage.database import Database\n"
        "Database.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()

    with pytest.raises(DatabaseInUse, match=f"process {child.pid}.*PLUMBLINE_HOME"):
        Database.open(path)
    child.kill()
    child.wait()


def test_what_comes_while_it_shuts_down_may_be_sent_again(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.duckdb")
    database.close()

    with pytest.raises(ShuttingDown, match="nothing was stored"):
        database.write(lambda cursor: insert(cursor, "people", [person("late")]))
    assert (ShuttingDown.status, DatabaseInUse.status) == (503, 503)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    path.write_text("this is a letter, not a database " * 1000)

    with pytest.raises(AppError, match="not a Plumbline database"):
        Database.open(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.duckdb")
    database.write(lambda cursor: cursor.execute("UPDATE schema_version SET steps = 999"))
    database.close()

    with pytest.raises(AppError, match="newer Plumbline"):
        Database.open(tmp_path / "a.duckdb")


def test_a_database_that_could_not_be_reopened_is_tried_again(tmp_path: Path, database: Database) -> None:
    database._connection.close()  # as DuckDB leaves it after a failed write that could not be undone

    with pytest.raises(duckdb.ConnectionException):
        database.write(lambda cursor: insert(cursor, "people", [person("lost")]))
    database.write(lambda cursor: insert(cursor, "people", [person("kept")]))
    assert database.read(NAMES) == [{"name": "kept"}]


def test_a_full_disk_is_said_and_what_was_stored_stays(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a full disk needs a small file system, and this user may not mount one")
    try:
        database = Database.open(small / "a.duckdb")
        database.write(lambda cursor: insert(cursor, "people", [person("first")]))
        (small / "ballast").write_bytes(b"x" * (4 << 20))

        with pytest.raises(DiskFull, match="Free some space"):
            for number in range(200):
                name = f"{number}" + os.urandom(200_000).hex()
                database.write(lambda cursor, name=name: insert(cursor, "people", [person(name)]))
        (small / "ballast").unlink()

        database.write(lambda cursor: insert(cursor, "people", [person("second")]))
        names = {row["name"] for row in database.read(NAMES)}
        assert {"first", "second"} <= names
        database.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
