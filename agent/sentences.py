"""Sentences: splitting text into them, and saying which one answers a query.

A sentence's score has three parts. Overlap: how much of the query's weight (idf) its words cover, where words that the
passage's title already says count less, as they tell no sentence from its neighbours, and so do words that only the
sentence before it has. Direction: whether its words together mean something like the query's. Fit: whether it holds the
kind of thing that the query's question words want (a year for "when", a length for "how tall").
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from . import meaning
from .query import STOP_WORDS, Query
from .words import likeness, stem, stems, words

# --- splitting --------------------------------------------------------------------------------------------------

_ABBREVIATED = """dr mr mrs ms prof st no nos vol fig figs eq vs cf ca approx inc ltd co corp jr sr gen col capt lt sgt
cmdr rev hon mt ft jan feb mar apr jun jul aug sep sept oct nov dec op ed eds est dept univ al pp p ch sec etc ph.d
messrs mme mlle gov sen rep pres ave rd blvd min max tel ext viz resp incl excl var sp spp art"""
_GOING_ON = "dr mr mrs ms prof st mt capt lt sgt gen col rev hon no nos fig vs cf e.g i.e ca vol pp"
_STARTING = """the it he she they in at on a an this that these those its his her their there when after before by for
we i but and however since during while if as from today"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_NEVER_LAST = frozenset(_GOING_ON.split())
_STARTERS = frozenset(_STARTING.split())  # before one of these, the stop of an abbreviation ends its sentence too
_CLOSERS = "\"'\u201d\u2019\u00bb)\\]\u300d\u300f\uff09"
_STOP = re.compile(
    f"[\u3002\uff01\uff1f]+[{_CLOSERS}]*"  # CJK stops need no space behind them
    f"|(?<![.!?\u2026])[.!?\u2026]+[{_CLOSERS}]*(?=\\s+[\"'\u201c\u2018\u00ab(\\[\u00bf\u00a1*]*(\\S))"
)
_LAST_WORD = re.compile("[^\\s(\\[\"'\u201c\u2018]+$")
_NEXT_WORD = re.compile(
    r"\W{0,40}([^\W\d_]*)(?!\.)"
)  # no initial: "V. A. Berg"; bounded: a line of ". . . ." is looked at once, not once a stop


def split_sentences(text: str) -> list[str]:
    """The sentences of `text` in order, trimmed, none empty. A line break always ends one.

    Nothing but white space is lost: "".join over the parts, spaces aside, is the text, spaces aside.
    """
    sentences = []
    for line in text.splitlines():
        start = 0
        for match in _STOP.finditer(line):
            if match.group(1) is None or _ends_sentence(match):
                sentences.append(line[start : match.end()].strip())
                start = match.end()
        sentences.append(line[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(match: re.Match[str]) -> bool:
    """Whether a stop with white space behind it ends a sentence, and not an abbreviation or an initial."""
    if match.group(1).islower():
        return False
    if not re.fullmatch(f"\\.[{_CLOSERS}]*", match.group()):
        return True
    last = _LAST_WORD.search(match.string[max(0, match.start() - 30) : match.start()])
    word = last.group() if last else ""
    following = _NEXT_WORD.match(match.string, match.end())
    starter = following is not None and following.group(1).casefold() in _STARTERS
    if (len(word) == 1 and word.isupper()) or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
        return starter and word.casefold() not in _NEVER_LAST  # an initial, or U.S., e.g., a.m.
    name = word.casefold().strip(".")
    if name in ("no", "nos"):
        return not match.group(1).isdigit()
    return name not in _ABBREVIATIONS or (starter and name not in _NEVER_LAST)


# --- ranking ----------------------------------------------------------------------------------------------------

TITLE_WEIGHT = 0.1  # of a query word that the title says, when telling that passage's sentences apart
ASKING_WEIGHT = 0.3  # of a query word that names the kind of answer: "in which year" is answered by a year
FIT_WEIGHT = 0.5  # of the fit, where a full overlap is 1
NEAR_WEIGHT = 0.5  # of a query word that only a word near in meaning meets, where a synonym counts 0.7
NEAR_FROM = 0.35  # the cosine from which a word is near
DIRECTION_WEIGHT = 0.5  # of words that point where the query's do, where a full overlap is 1
BEFORE_WEIGHT = 0.6  # of query words that only the sentence before says: prose seldom says a thing twice
OPENING_WEIGHT = 0.8  # of a document's first sentence, where what is asked is what its title is
OWN_PAGE = 0.6  # of a title that has a word of the query
OWN_TITLE = 0.4  # of a title that has no other words
ANYBODY = stems("person people man men woman women thing place")  # "the person who ..." names no page of people
OWN_WEIGHT = 0.4  # of a beginning with the title's subject, where nothing but a kind of answer is asked about it


_PRONOUNS = frozenset("it its he his she her they their".split())
_PREPOSITIONS = frozenset("in on at near by from off above below along under behind beside after before".split())


@dataclass(frozen=True)
class Ranked:
    """A sentence with its score, the larger the better, and the fit in it (0 to 1)."""

    score: float
    sentence: str
    fit: float


def weigh(query: Query, idf: Mapping[str, float]) -> dict[str, float]:
    """The weight of each stem of the query: its idf, which `idf` must hold, less where it only asks."""
    return {asked: idf[asked] * (ASKING_WEIGHT if asked in query.asking else 1.0) for asked in query.stems}


def rank_sentences(
    query: Query, weights: Mapping[str, float], title: str, sentences: list[str], opening: bool = False
) -> list[Ranked]:
    """The sentences of one passage, best first; equals stay in reading order. `weights` come from `weigh`.

    `opening`: the passage is its document's first, which mostly begins by saying what the title is."""
    titled = stems(title)
    telling = {asked: weight * (TITLE_WEIGHT if asked in titled else 1.0) for asked, weight in weights.items()}
    known = titled.union(query.stems)
    if not query.wants and titled.issuperset(query.stems):  # a name and nothing else: it asks what that is
        query = replace(query, wants=("description",))
    opens = opening and query.wants == ("description",) and not titled.isdisjoint(query.stems)
    fits = [query.fit(sentence, known) for sentence in sentences]
    opens = opens and 1 not in fits  # "it is a ..." says it better
    named = titled.intersection(query.stems) if titled.union(query.kinds).issuperset(query.stems) else frozenset()
    way = meaning.direction(telling)
    ranked = [
        Ranked(
            (1 - BEFORE_WEIGHT) * _tells(telling, way, sentence)
            + BEFORE_WEIGHT * _tells(telling, way, f"{before} {sentence}")
            + FIT_WEIGHT * fit
            + OWN_WEIGHT * (bool(named) and _begins_with(named, sentence))  # the Rhine's length, not a bridge's
            + OPENING_WEIGHT * (opens and not before),
            sentence,
            fit,
        )
        for before, sentence, fit in zip(["", *sentences], sentences, fits, strict=False)
    ]
    return sorted(ranked, key=lambda one: -one.score)


def subject(title: str) -> set[str]:
    """The stems of what a document is about, by a passage's title ("Doc title: Heading")."""
    return stems(title.partition(":")[0]).difference(map(stem, STOP_WORDS))


def own_title(query: Query, title: str) -> float:
    """From 0 to OWN_PAGE + OWN_TITLE: how far the query names what a document is about."""
    about = subject(title)
    named = about.intersection(query.stems).difference(ANYBODY)
    return OWN_PAGE + OWN_TITLE * len(named) / len(about) if named else 0.0


def _begins_with(named: Collection[str], sentence: str) -> bool:
    """Whether one of these stems, or a pronoun for them, is what a sentence begins with."""
    first = words(sentence)[:5]
    if not first or first[0] in _PREPOSITIONS:
        return False
    return first[0] in _PRONOUNS or any(stem(word) in named for word in first)


def coverage(weights: Mapping[str, float], text: str) -> float:
    """The share (0 to 1) of the weight of `weights`' stems that the words of `text` meet."""
    return _met(weights, stems(text))


def _tells(weights: Mapping[str, float], way: meaning.Vector | None, text: str) -> float:
    """The coverage, and how far the text points where the query does."""
    said = stems(text)
    return _met(weights, said) + DIRECTION_WEIGHT * meaning.agreement(way, meaning.known(said.difference(STOP_WORDS)))


def _met(weights: Mapping[str, float], said: set[str]) -> float:
    rows = meaning.known(said)
    total = sum(weights.values())
    return sum(weight * _likeness(asked, said, rows) for asked, weight in weights.items()) / total if total else 0.0


def _likeness(asked: str, said: set[str], rows: list[int]) -> float:
    """As `likeness`, and from 0 to NEAR_WEIGHT for a word near in meaning."""
    best = likeness(asked, said)
    if best >= NEAR_WEIGHT:
        return best
    return max(best, NEAR_WEIGHT * (meaning.nearness(asked, rows) - NEAR_FROM) / (1 - NEAR_FROM))
