"""Who is judging. Today a chosen name; its role comes from the settings. Accounts would replace this module alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from storage.database import Database, insert
from storage.errors import BadInput
from storage.records import Person, Role, now

LONGEST_NAME = 40
_JOINERS = "\u200c\u200d"  # that Persian and the scripts of India, which know no capitals, write between letters


def enter(database: Database, name: str, roles: Mapping[str, Role], otherwise: Role) -> Person:
    """The person of that name, remembered from now on. Raises BadInput for a name that is no name."""
    name = _as_kept(name)
    if not name or len(name) > LONGEST_NAME:
        raise BadInput(f"A name has 1 to {LONGEST_NAME} letters; this one has {len(name)}. Choose another.")
    if not all(letter.isprintable() or _joins(name, at) for at, letter in enumerate(name)):
        raise BadInput("A name is made of letters that can be seen; this one holds others. Choose another.")
    person = Person(name=name, role=role_of(name, roles, otherwise))
    row = {"name": person.name, "role": person.role, "created_at": now()}
    database.write(lambda cursor: insert(cursor, "people", [row], or_ignore=True))
    return person


def _as_kept(name: str) -> str:
    return unicodedata.normalize("NFC", " ".join(name.split()))


def _joins(name: str, at: int) -> bool:
    """Whether a joiner is there, and does what it is for: elsewhere two names would look the same."""
    before, after = name[max(0, at - 1) : at], name[at + 1 : at + 2]
    return name[at] in _JOINERS and _is_uncased(before) and _is_uncased(after)


def _is_uncased(letter: str) -> bool:
    """A letter, or a mark on one, of a script without capitals; the empty text is none."""
    return bool(letter) and unicodedata.category(letter)[0] in "LM" and letter.lower() == letter.upper()


def role_of(name: str, roles: Mapping[str, Role], otherwise: Role) -> Role:
    return next((role for one, role in roles.items() if name in (one, _as_kept(one))), otherwise)
