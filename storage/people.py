"""Who is judging. Today a chosen name; its role comes from the settings. Accounts would replace this module alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from storage.database import Database, insert
from storage.errors import BadInput
from storage.records import Person, Role, now

LONGEST_NAME = 40
_JOINERS = "\u200c\u200d"  # that Persian and the scripts of India write within words


def enter(database: Database, name: str, roles: Mapping[str, Role], otherwise: Role) -> Person:
    """The person of that name, remembered from now on. Raises BadInput for a name that is no name."""
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    if not name or len(name) > LONGEST_NAME:
        raise BadInput(f"A name has 1 to {LONGEST_NAME} letters; this one has {len(name)}. Choose another.")
    if not name.strip(_JOINERS) or not all(letter.isprintable() or letter in _JOINERS for letter in name):
        raise BadInput("A name is made of letters that can be seen; this one holds others. Choose another.")
    person = Person(name=name, role=role_of(name, roles, otherwise))
    row = {"name": person.name, "role": person.role, "created_at": now()}
    database.write(lambda cursor: insert(cursor, "people", [row], or_ignore=True))
    return person


def role_of(name: str, roles: Mapping[str, Role], otherwise: Role) -> Role:
    return roles.get(name, otherwise)
