"""The invented world: forty-eight vaccines that do not exist, and what is on record about each.

No vaccine, disease, antigen, adjuvant or journal here is real, and none is meant to resemble a real one.
The record of a vaccine is drawn once from a fixed seed and is coherent, because experts read it first: a
phase 2 trial has hundreds of volunteers and a phase 3 trial has thousands.

Numbers come from ranges in which every digit is allowed at its place (years 2040 to 2049, efficacy 50 to 99
percent). That keeps form and fact apart: a wrong number is a wrong fact, never a malformed answer.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

WORLD_SEED = 2041

_NAMES = """
Aldivane Arbomune Brenutec Calvexa Corivane Dalimune Dorutec Elmexa Fenivane Fostimune Galdutec Gravexa
Halivane Hestimune Irvutec Jarvexa Kelivane Kolimune Lasutec Lunvexa Marivane Mondimune Nelutec Nordexa
Ostivane Orlimune Pelutec Prunexa Quarivane Quillimune Ravutec Rudexa Sondivane Sarimune Tarutec Tolvexa
Ulmivane Umbrimune Valdutec Vestrexa Wendivane Wolimune Yarutec Yelvexa Zandivane Zerimune Zolutec Zuvexa
"""
VACCINES: tuple[str, ...] = tuple(_NAMES.split())

JOURNALS: tuple[str, ...] = (
    "Northfield Vaccine Letters",
    "Annals of Invented Immunology",
    "Harbor Journal of Trials",
    "Acta Vaccina Ostrel",
    "Keld Medical Record",
    "Open Antigen Reports",
    "Marsh Review of Medicine",
    "Lantern Immunology",
)

# topic -> the values that occur in the world
VALUES: Mapping[str, tuple[str, ...]] = {
    "antigen": tuple(
        f"{kind} {code}"
        for kind in ("glycan", "capsid", "stalk", "fibre", "toxoid", "matrix")
        for code in ("G4", "K7", "R2", "T9")
    ),
    "adjuvant": (
        "Lumisol", "Quillane", "Aldorine", "Feronil", "Sapotex", "Oleomar",
        "Cretagel", "Myrrhine", "Tolvane", "Brightol",
    ),
    "platform": (
        "protein subunit", "viral vector", "inactivated virus", "messenger RNA", "conjugate", "nanoparticle",
    ),
    "phase": ("phase 2", "phase 2b", "phase 3", "phase 4"),
    "doses": ("two doses", "three doses", "four doses"),
    "interval": tuple(f"{n} weeks" for n in range(2, 10)),
    "efficacy": tuple(f"{n} percent" for n in range(52, 97)),
    "duration": tuple(f"{n} months" for n in range(12, 60, 3)),
    "disease": (
        "Tamsin fever", "river pox", "Harrow cough", "Ostrel ague", "marsh palsy", "Keld fever",
        "Vantine rash", "slate cough", "lake fever", "Corran pox", "winter ague", "Meridian rash",
    ),
    "storage": ("2 to 8 °C", "4 °C", "minus 20 °C", "minus 70 °C", "room temperature"),
    "effect": (
        "mild arm pain", "a short fever", "light headache", "brief fatigue", "slight redness", "sore muscles",
        "chills overnight",
    ),
    "size": tuple(f"{n}0 volunteers" for n in range(12, 97)) + tuple(
        f"{thousands},{hundreds}00 volunteers" for thousands in range(1, 10) for hundreds in range(10)
    ),
}  # fmt: skip

TOPICS: tuple[str, ...] = tuple(VALUES)

# topic -> regular expression, where the form of a value allows more than the world happens to use
VALUE_FORMS: Mapping[str, str] = {
    "interval": r"[2-9] weeks",
    "efficacy": r"[5-9]\d percent",
    "duration": r"[1-5]\d months",
    "size": r"(?:[1-9],\d00|[1-9]\d0) volunteers",
}
YEAR_FORM = r"204\d"


@dataclass(frozen=True)
class Record:
    """What is on record about one vaccine: a value for each topic, and where it was published."""

    values: Mapping[str, str]
    journal: str
    year: str


@cache
def world() -> Mapping[str, Record]:
    """The record of every vaccine; always the same."""
    rng = random.Random(WORLD_SEED)
    return {vaccine: _draw_record(rng) for vaccine in VACCINES}


def _draw_record(rng: random.Random) -> Record:
    values = {topic: rng.choice(VALUES[topic]) for topic in TOPICS}
    early = values["phase"].startswith("phase 2")
    values["size"] = rng.choice([size for size in VALUES["size"] if ("," in size) != early])
    return Record(values, journal=rng.choice(JOURNALS), year=f"204{rng.randrange(10)}")
