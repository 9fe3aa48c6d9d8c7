"""Made-up subjects, and that what is asked about them can be asked of their kind."""

from __future__ import annotations

import random

import pytest
from longhand.agent.demo.facts import FAMILIES, LINKS, fitting
from longhand.agent.demo.language import Writer
from longhand.agent.demo.subjects import GROUPS, NAMERS, draw, kinds

KINDS = [kind for of_group in GROUPS.values() for kind in of_group]


def test_a_group_stands_for_its_kinds() -> None:
    assert kinds("river person") == ("river", "person")
    assert kinds("building place") == ("building", *GROUPS["place"])
    assert set(KINDS) == set(NAMERS)
    assert len(KINDS) == len(set(KINDS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_subject_has_a_title_and_a_phrase_that_holds_it(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(300):
        subject = draw(rng, kind)
        assert subject.kind in GROUPS[subject.group]
        assert subject.name[0] == subject.name[0].upper()
        assert subject.name.casefold() == subject.phrase.removeprefix("the ").casefold()


@pytest.mark.parametrize("kind", KINDS)
def test_several_things_can_be_asked_of_each_kind(kind: str) -> None:
    asked = [family for family in fitting(kind) if not family.describes]
    assert len({family.questions for family in asked}) >= 4
    assert any(family.describes for family in fitting(kind))


def test_relations_are_between_kinds_that_exist() -> None:
    for family in FAMILIES:
        assert set(kinds(family.subject)) <= set(KINDS), family.questions
        for text in (*family.questions.split(" | "), *family.statements.split(" | ")):
            assert "{s}" in text
        for text in family.statements.split(" | "):
            assert "{v}" in text or "{n}" in text, text
    for link in LINKS:
        assert set(kinds(link.value)) | set(kinds(link.subject)) <= set(KINDS), link.phrases
        assert all("{s}" in phrase for phrase in link.phrases.split(" | "))
        assert all("{s}" in said and "{v}" in said for said in link.statements.split(" | "))


def test_a_writer_keeps_to_the_kinds() -> None:
    writer = Writer(random.Random(3), [], made_up=0.0)
    known = {family.questions for family in FAMILIES}
    links = {(kind, of) for link in LINKS for kind in kinds(link.value) for of in kinds(link.subject)}
    for _ in range(300):
        fact = writer.fact()
        assert fact.subject.kind in kinds(fact.family.subject)
        assert fact.value.casefold() in fact.statement.casefold()
        linked = writer.link()
        assert (linked.value.kind, linked.subject.kind) in links
        about = writer.fact(linked.value)
        assert about.family.questions in known
        assert linked.value.kind in kinds(about.family.subject)


def test_some_relations_are_made_up_where_that_is_wanted() -> None:
    writer = Writer(random.Random(3), [], made_up=0.5)
    known = {family.questions for family in FAMILIES}
    made_up = sum(writer.fact().family.questions not in known for _ in range(200))
    assert 60 < made_up < 140
