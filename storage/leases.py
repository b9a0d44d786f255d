"""Who has a device that the model servers and the runs take in turns: a server, a run, or nobody.

There is a row for each device that is shared so, and for no other. Each half looks at it and does its part, and neither
calls the other, so a restart at any point finds its way:

    due         the runs say which of them trains on the device or is next in line. A free device is theirs at once,
                and so is that of a run that has ended, however it ended; of a server it is asked for.
    take        the servers take what is free, when one of them needs it.
    hand_over   they give a device back once none of them has any of its memory: to the run that asked for it, if any.

Each is one statement of the one writer, so two can never believe that they hold the same device. The servers of an app
die with it, so those of the next app go on with its lease. A run outlives the app, and so does its lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.database import Cursor, Database
from storage.records import now

CPU = "cpu"  # a device; GPUs are cuda:0, cuda:1, …
SERVER = "server"
NOBODY = ""


@dataclass(frozen=True)
class Lease:
    """holder: SERVER, the id of a run, or NOBODY. wanted_by: the run that a server is to make room for.

    free_at: when the run that holds it should end and nobody waits behind it, where that is known.
    """

    device: str
    holder: str = NOBODY
    wanted_by: str = NOBODY
    since: datetime | None = None
    free_at: datetime | None = None

    @property
    def run(self) -> str:
        """The run that has it, or is to get it; NOBODY where it is the servers'."""
        return self.wanted_by if self.holder == SERVER else self.holder


def share(database: Database, devices: Sequence[str]) -> None:
    """These devices are taken in turns, and no others. Who holds one already keeps it."""

    def work(cursor: Cursor) -> None:
        cursor.execute("DELETE FROM device_leases WHERE NOT list_contains($devices, device)", {"devices": [*devices]})
        for device in devices:
            statement = "INSERT OR IGNORE INTO device_leases VALUES ($device, '', '', $since, NULL)"
            cursor.execute(statement, {"device": device, "since": now()})

    database.write(work)


def list_all(database: Database) -> list[Lease]:
    return [Lease(**row) for row in database.read("SELECT * FROM device_leases ORDER BY device")]


def due(database: Database, device: str, run_id: str, free_at: datetime | None = None) -> None:
    """The device is due to this run, or to NOBODY."""
    statement = """
        UPDATE device_leases
        SET holder = CASE WHEN holder = $server THEN holder ELSE $run END,
            wanted_by = CASE WHEN holder = $server THEN $run ELSE '' END,
            since = CASE WHEN holder IN ($server, $run) THEN since ELSE $now END,
            free_at = $free_at
        WHERE device = $device
    """
    values = {"device": device, "run": run_id, "server": SERVER, "now": now(), "free_at": free_at}
    database.write(lambda cursor: cursor.execute(statement, values))


def take(database: Database, device: str) -> None:
    """For the servers, where nobody has it."""
    statement = """
        UPDATE device_leases
        SET holder = $server,
            since = $now
        WHERE device = $device
          AND holder = ''
    """
    values = {"device": device, "server": SERVER, "now": now()}
    database.write(lambda cursor: cursor.execute(statement, values))


def hand_over(database: Database, device: str) -> None:
    """From the servers to the run that waits for it, or to nobody where none does (any more)."""
    statement = """
        UPDATE device_leases
        SET holder = wanted_by,
            wanted_by = '',
            since = $now
        WHERE device = $device
          AND holder = $server
    """
    values = {"device": device, "server": SERVER, "now": now()}
    database.write(lambda cursor: cursor.execute(statement, values))
