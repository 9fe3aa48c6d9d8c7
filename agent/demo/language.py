"""Prose about made-up things: subjects, statements of facts, and sentences that only fill space."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from . import words
from .facts import FAMILIES, LINKS, Family, fitting, made_up_family, made_up_link
from .subjects import TYPES, Subject, draw


@dataclass(frozen=True)
class Fact:
    """A question and the sentence that answers it."""

    subject: Subject
    family: Family
    question: str
    statement: str
    value: str  # what the answer must hold
    named: str  # the subject as the question names it


@dataclass(frozen=True)
class Linked:
    """The first hop of two: `statement` says of `subject` what `value` is, which a question names by `phrase`."""

    subject: Subject
    named: str
    phrase: str
    statement: str
    value: Subject


class Writer:
    """Writes questions and passages with one random generator; `sentences` is real prose to take the build from."""

    def __init__(self, rng: random.Random, sentences: list[str], made_up: float = 0.1):
        """made_up: the share of relations whose words exist nowhere ("Who florked the bridge?")."""
        self.rng = rng
        self.sentences = sentences
        self.made_up = made_up

    def subject(self, kind: str | None = None) -> Subject:
        """A new subject of one of these kinds (any by default)."""
        return draw(self.rng, kind)

    def fact(self, subject: Subject | None = None, family: Family | None = None, named: str | None = None) -> Fact:
        """A fact about a subject (a new one by default); `named` is how its question names it."""
        rng = self.rng
        if family is None:
            known = list(FAMILIES) if subject is None else fitting(subject.kind)
            family = made_up_family(rng) if not known or rng.random() < self.made_up else rng.choice(known)
        subject = subject or self.subject(family.subject)
        unit = rng.choice((*words.UNITS, *words.NOUNS[::7]))
        fill = {"s": subject.phrase, "v": self.value(family.value), "u": unit, "n": words.number(rng),
                "k": rng.choice(words.BODIES), "p": words.name(rng)}  # fmt: skip
        template = family.statement(rng)
        value = fill["n" if "{n}" in template else "v"]
        if not re.search(r"(?<!\d)\d\d?(?!\d)", fill["v"]):  # no day, which "on" would go with
            template = template.replace(" on {v}", " in {v}")
        named = named or self.alias(subject)
        question = family.question(rng).format(**{**fill, "s": named})
        return Fact(subject, family, question, self.state(template, fill, value), value, named)

    def link(self) -> Linked:
        """A fact whose value is a subject itself."""
        rng = self.rng
        link = made_up_link(rng) if rng.random() < self.made_up else rng.choice(LINKS)
        subject = self.subject(link.subject)
        value = self.subject(link.value)
        named = self.alias(subject)
        phrase = rng.choice(link.phrases.split(" | ")).format(s=named)
        template = rng.choice(link.statements.split(" | "))
        told = self.told_of(value)
        statement = self.state(template, {"s": subject.phrase, "v": told}, told)
        return Linked(subject, named, phrase, statement, value)

    def told_of(self, value: Subject) -> str:
        """The value of a link as a sentence names it: with what it is before it, or what else is said of it behind."""
        rng, form = self.rng, self.rng.random()
        if form < 0.45:
            return value.phrase
        if form < 0.6 and value.kind == "person":
            kind = rng.choice((rng.choice(words.ROLES), f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.ROLES)}"))
            return f"the {kind} {value.phrase}"
        behind = rng.choice((
            f"in {words.day(rng)}", f"in {words.year(rng)}", f"in {words.name(rng)}", f", {self.noun_phrase()},",
            f"on {words.day(rng)}", f"at {words.name(rng)}", f"for {words.quantity(rng)}", f"after {words.year(rng)}",
            *(("alone", "and colleagues", f"with {words.person(rng)}", f"from {words.name(rng)}", "and a friend",
               f", a {rng.choice(words.ROLES)} from {words.name(rng)}", "himself", "and others", "with two friends")
              if value.kind == "person" else ()),
        ))  # fmt: skip
        return f"{value.phrase}{behind}" if behind.startswith(",") else f"{value.phrase} {behind}"

    def state(self, template: str, fill: dict[str, str], value: str) -> str:
        """The statement as prose, its value unharmed."""
        while True:
            statement = self.dress(template.format(**fill))
            if self.rng.random() < 0.2:
                statement = self.garnish(statement)
            if value.casefold() in statement.casefold():  # no mark of prose fell into it
                return statement

    def alias(self, subject: Subject) -> str:
        """The subject as a question names it: now and then only by one word of its name."""
        parts = [word for word in subject.name.split() if word[0].isupper() and word.isalpha() and len(word) > 3]
        if len(parts) > 1 and self.rng.random() < 0.08:
            return self.rng.choice([word for word in parts if word not in TYPES] or parts)
        return subject.phrase

    def value(self, kind: str) -> str:
        """A made-up value that answers such a question."""
        rng = self.rng
        if kind == "who":
            form = rng.random()
            if form < 0.15:
                return f"{words.person(rng)} and {words.person(rng)}"
            return words.person(rng) if form < 0.85 else self.subject("body").phrase
        if kind == "when":
            return words.day(rng)
        if kind == "where":
            form = rng.random()
            if form < 0.5:
                return words.name(rng)
            return f"{words.name(rng)}, {words.name(rng)}" if form < 0.7 else self.subject("place").phrase
        if kind in ("length", "area"):
            units = words.LENGTHS if kind == "length" else words.AREAS
            value = f"{words.number(rng)} {rng.choice(units)}"
            return f"{value} ({words.number(rng)} {rng.choice(units)})" if rng.random() < 0.2 else value
        if kind == "weight":
            return f"{words.number(rng)} {rng.choice(words.WEIGHTS)}"
        if kind == "money":
            return words.money(rng)
        if kind == "years":
            return f"{words.number(rng)} {rng.choice(('years', 'years', 'months', 'days', 'weeks'))}"
        if kind == "colour":
            return rng.choice(words.COLOURS)
        if kind == "thing":
            return self.noun_phrase()
        name = words.name(rng) if rng.random() < 0.6 else self.noun_phrase()
        return f'"{name}"' if rng.random() < 0.1 else name

    def noun_phrase(self) -> str:
        rng = self.rng
        noun = rng.choice(words.NOUNS) if rng.random() < 0.7 else words.made_up(rng)
        if rng.random() < 0.6:
            noun = f"{rng.choice(words.ADJECTIVES)} {noun}"
        return noun if rng.random() < 0.7 else f"{noun} and {rng.choice(words.NOUNS)}"

    def clause(self) -> str:
        """Some words to hang on a sentence."""
        rng = self.rng
        verb, phrase = rng.choice(words.VERBS), self.noun_phrase()
        return rng.choice((
            f"which {verb} the {phrase}", f"where {words.name(rng)} {verb} a {phrase}",
            f"after the {rng.choice(words.NOUNS)} {verb} {rng.choice(words.ADVERBS)}",
            f"because the {phrase} {verb} {words.quantity(rng)}", f"as {words.person(rng)} {verb} in {words.day(rng)}",
            f"and {rng.choice(words.ADVERBS)} {verb} the {phrase}", f"with {words.quantity(rng)} of {phrase}",
            f"not far from {words.name(rng)}", f"during the {rng.choice(words.ADJECTIVES)} {rng.choice(words.NOUNS)}",
        ))  # fmt: skip

    def dress(self, core: str) -> str:
        """A bare statement as prose has it: with a clause around it, in any of many shapes."""
        rng, form = self.rng, self.rng.random()
        if form < 0.3:
            text = core
        elif form < 0.55:
            text = f"{core}{rng.choice((', ', ' ', '; '))}{self.clause()}"
        elif form < 0.68:
            text = f"{rng.choice(words.ADVERBS).capitalize()}, {self.lower(core)}, {self.clause()}"
        elif form < 0.76:
            text = f"{core} ({self.noun_phrase()})"
        elif form < 0.88:
            lead = rng.choice((f"In {words.day(rng)}", f"With {words.quantity(rng)}", f"Near {words.name(rng)}",
                               f"For {words.quantity(rng)}", f"According to {words.person(rng)}"))  # fmt: skip
            text = f"{lead}, {self.lower(core)}"
        else:
            text = f"{core}, {self.clause()}, {self.clause()}"
        return text[0].upper() + text[1:] + "."

    def lengthen(self, sentence: str) -> str:
        """The sentence with another one hung on behind, before or inside it."""
        rng = self.rng
        body, more = sentence.rstrip("."), self.filler().rstrip(".")
        more = more[0].lower() + more[1:] if rng.random() < 0.7 else more
        form = rng.random()
        if form < 0.6:
            joint = rng.choice(("; ", ", and ", ", but ", ", while ", " because ", ": ", " – ", ", which means that "))
            return f"{body}{joint}{more}."
        if form < 0.85:
            lead = f"{rng.choice(('Although', 'While', 'Because', 'When', 'After', 'As'))} {more}, "
            return f"{lead}{body[0].lower() + body[1:] if body.startswith(('The ', 'It ', 'In ')) else body}."
        parts = body.split(" ")
        cut = rng.randint(1, len(parts))
        return f"{' '.join(parts[:cut])} ({more}) {' '.join(parts[cut:])}".rstrip() + "."

    def garnish(self, sentence: str) -> str:
        """Now and then one of the small marks of real prose, between two words."""
        rng = self.rng
        if rng.random() > 0.15:
            return sentence
        name, noun, number = words.name(rng), rng.choice(words.NOUNS), words.number(rng)
        mark = rng.choice((
            "–", "—", "&", "and/or", "e.g.", "c. 1200", "U.S.", "No. 5", "(1871–1943)", "10–12", "CO2", "1990s", "-",
            f"{number} °C", f"{number} km²", f"“{name}”", f"‘{words.made_up(rng)}’", f"£{number}", f"€{number}",
            f"({words.foreign(rng)})", words.foreign(rng), "…", "μm", "m³", f"({name}: {words.foreign(rng)})",
            f"{rng.randint(1, 20)}th", f"{rng.randint(1, 99)}%", "½", f"{name}'s", f"{noun}'s", f"St. {name}",
            f"7 × {rng.randint(2, 9)}", f"the {rng.randint(1, 9)}:{rng.randint(10, 59)} {noun}", "Mr.", "vs.", "/",
            f"“{self.noun_phrase()},”", f"{rng.choice(words.ADJECTIVES)}-{noun}", f"({self.noun_phrase()})",
            f'"{self.noun_phrase()}"', f"{name}-{words.name(rng)}", f"{rng.choice('ABCDEFGH')}. {name}",
        ))  # fmt: skip
        parts = sentence.split(" ")
        parts.insert(rng.randint(1, len(parts)), mark)
        return " ".join(parts)

    @staticmethod
    def lower(core: str) -> str:
        return core[0].lower() + core[1:] if core.startswith(("The ", "There ", "Each ", "About ")) else core

    def filler(self) -> str:
        """A sentence with the build of real prose and many of its words replaced."""
        rng = self.rng
        if not self.sentences or rng.random() < 0.35:
            said = self.dress(f"the {self.noun_phrase()} {rng.choice(words.VERBS)} the {self.noun_phrase()}")
            return self.garnish(said)
        rate = rng.choice((0.2, 0.5, 0.8))

        def swap(match: re.Match[str]) -> str:
            word = match.group()
            if rng.random() > rate or (len(word) < 4 and not word[0].isdigit()):
                return word
            if word[0].isdigit():
                return words.number(rng)
            if word[0].isupper():
                return words.name(rng)
            return rng.choice((rng.choice(words.NOUNS), rng.choice(words.VERBS), words.made_up(rng)))

        return self.garnish(re.sub(r"[^\W\d_]+|\d[\d.,]*(?<![.,])", swap, rng.choice(self.sentences)))
