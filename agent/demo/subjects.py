"""Subjects: made-up people, animals, places and things, each named as its kind is, so that what is asked about them can
be asked: a river flows, a country has a capital, and nobody composed a lighthouse."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from . import words

BUILDINGS = """
Bridge Tower Castle Palace Cathedral Station Observatory Canal Harbour Theatre Temple Park Abbey Dam Tunnel Lighthouse
Square Hall Fort Stadium Church Garden Railway
""".split()
BODIES = (
    "Museum University Library Institute Academy Company Gallery Society College School Bank Orchestra Club".split()
)
PRIZES = "Prize Medal Cup Award".split()
EVENTS = "Treaty Project Act Festival Expedition Congress Council Trial".split()
PROGRAMS = "Protocol Method Model Engine Format Index Kernel Library".split()
SEAS = "Sea Lake Bay Gulf".split()
LANDS = "Valley Desert Glacier Islands Falls Forest".split()
# Words of names that name nobody by themselves.
TYPES = frozenset({
    *BUILDINGS, *BODIES, *PRIZES, *EVENTS, *PROGRAMS, *SEAS, *LANDS,
    *"River Island Mountains Peak Port Saint Mount Cape Kingdom North South Upper".split(),
})  # fmt: skip

GROUPS = {
    "place": ("town", "country", "river", "sea", "mountain", "land"),
    "thing": ("building", "body", "book", "art", "music", "ship", "device", "software", "prize", "event"),
    "person": ("person",), "animal": ("animal",),
}  # fmt: skip
SHARES = {"thing": 6, "place": 2, "person": 3, "animal": 2}


@dataclass(frozen=True)
class Subject:
    """Something that facts are told about."""

    name: str  # as a title has it: "Velm Bridge"
    phrase: str  # as a sentence has it: "the Velm Bridge"
    kind: str  # one of those in GROUPS

    @property
    def group(self) -> str:
        return next(group for group, kinds in GROUPS.items() if self.kind in kinds)


def kinds(text: str) -> tuple[str, ...]:
    """The kinds that a text names, by themselves or by their group: "building place"."""
    return tuple(kind for word in text.split() for kind in GROUPS.get(word, (word,)))


def draw(rng: random.Random, among: str | None = None) -> Subject:
    """A new subject of one of these kinds (of any by default); its name is made up in whole or in part."""
    if among is None:
        (among,) = rng.choices([*SHARES], [*SHARES.values()])
    kind = rng.choice(kinds(among))
    phrase = NAMERS[kind](rng)
    name = phrase.removeprefix("the ")
    return Subject(name[0].upper() + name[1:], phrase, kind)


def _person(rng: random.Random) -> str:
    return words.person(rng) if rng.random() < 0.9 else words.name(rng)


def _animal(rng: random.Random) -> str:
    form = rng.random()
    if form < 0.4:
        return f"the {words.name(rng)} {rng.choice(words.NOUNS)}"
    if form < 0.5:
        return f"the {rng.choice(words.NOUNS)} {words.made_up(rng)}"
    return f"the {rng.choice((words.made_up(rng), rng.choice(words.ADJECTIVES)))} {words.made_up(rng)}"


def _town(rng: random.Random) -> str:
    return rng.choices((words.name(rng), f"{rng.choice(('Port', 'Saint', 'New', 'Bad'))} {words.name(rng)}",
                        f"{words.name(rng)} {words.name(rng)}", f"{words.name(rng)}-on-{words.name(rng)}"),
                       (12, 4, 3, 1))[0]  # fmt: skip


def _country(rng: random.Random) -> str:
    name, side = words.name(rng), rng.choice(("New", "North", "South", "Upper"))
    return rng.choices((name, f"the {name} Islands", f"the Kingdom of {name}", f"{side} {name}"), (12, 2, 2, 3))[0]


def _river(rng: random.Random) -> str:
    return rng.choices((f"the {words.name(rng)} River", f"the River {words.name(rng)}", f"the {words.name(rng)}"),
                       (6, 2, 2))[0]  # fmt: skip


def _sea(rng: random.Random) -> str:
    name = words.name(rng)
    return rng.choices((f"Lake {name}", f"the {name} Sea", f"{name} Bay", f"the Gulf of {name}"), (5, 3, 2, 1))[0]


def _mountain(rng: random.Random) -> str:
    name = words.name(rng)
    return rng.choices((f"Mount {name}", f"{name} Peak", f"the {name} Mountains", name), (5, 2, 2, 2))[0]


def _land(rng: random.Random) -> str:
    name = words.name(rng)
    return rng.choice((f"{name} Island", f"Cape {name}", f"the {name} {rng.choice(LANDS)}"))


def _entitled(rng: random.Random) -> str:
    """As books and pictures are called."""
    adjective, noun = rng.choice(words.ADJECTIVES).capitalize(), rng.choice(words.NOUNS).capitalize()
    return rng.choices((f"the {adjective} {noun} of {words.name(rng)}", f"the {adjective} {noun}", words.name(rng),
                        f"{adjective} {noun}", f"{words.name(rng)} {words.name(rng)}",
                        f"{noun} and {words.name(rng)}"), (4, 3, 3, 3, 3, 2))[0]  # fmt: skip


def _typed(types: list[str]) -> Callable[[random.Random], str]:
    """As what has its type in its name is called: "the Velm Bridge"."""

    def named(rng: random.Random) -> str:
        last, name = rng.choice(types), words.name(rng)
        return rng.choices((f"the {name} {last}", f"the {name} {words.name(rng)} {last}", f"the {last} of {name}",
                            f"the {rng.choice(words.NOUNS).capitalize()} {last}",
                            f"the {words.person(rng)} {last}"), (14, 1, 2, 2, 1))[0]  # fmt: skip

    return named


def _body(rng: random.Random) -> str:
    form = rng.random()
    if form < 0.1:
        return f"{words.name(rng)} & {words.name(rng)}"
    return _letters(rng) if form < 0.2 else words.name(rng) if form < 0.3 else _typed(BODIES)(rng)


def _ship(rng: random.Random) -> str:
    adjective, noun = rng.choice(words.ADJECTIVES).capitalize(), rng.choice(words.NOUNS).capitalize()
    return rng.choices((words.name(rng), f"the {words.name(rng)}", f"the {adjective} {noun}",
                        f"{words.name(rng)} {words.name(rng)}", words.person(rng)), (5, 4, 4, 3, 1))[0]  # fmt: skip


def _device(rng: random.Random) -> str:
    noun = rng.choice(words.NOUNS)
    first = rng.choice((words.made_up(rng), rng.choice(words.ADJECTIVES), words.name(rng)))
    return rng.choices((f"the {first} {noun}", f"the {noun} {words.made_up(rng)}", _letters(rng)), (6, 1, 2))[0]


def _letters(rng: random.Random) -> str:
    letters = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(2, 4)))
    return letters if rng.random() < 0.4 else f"{letters}-{rng.randint(1, 99)}"


def _software(rng: random.Random) -> str:
    name, noun = words.name(rng), rng.choice(words.NOUNS)
    return rng.choice((
        _letters(rng), f"{name}-{rng.randint(1, 99)}B", f"{name}{_letters(rng)}", f"{name}-{_letters(rng)}",
        f"{name}{words.name(rng)}", f"{words.made_up(rng)}.{rng.choice(('cpp', 'py', 'js', 'ai', 'org', 'rs', 'io'))}",
        words.made_up(rng), f"{noun}{rng.choice(words.NOUNS)}", f"{name} {rng.randint(2, 99)}",
        f"{rng.choice(words.ADJECTIVES)}-{noun} {rng.choice(words.NOUNS)}", f"{name} {noun} {rng.choice(words.NOUNS)}",
        _typed(PROGRAMS)(rng), name,
    ))  # fmt: skip


NAMERS: dict[str, Callable[[random.Random], str]] = {
    "person": _person, "animal": _animal, "town": _town, "country": _country, "river": _river, "sea": _sea,
    "mountain": _mountain, "land": _land, "building": _typed(BUILDINGS), "body": _body, "book": _entitled,
    "art": _entitled, "music": _entitled, "ship": _ship, "device": _device, "software": _software,
    "prize": _typed(PRIZES), "event": _typed(EVENTS),
}  # fmt: skip
