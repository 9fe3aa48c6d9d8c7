"""Sentences: splitting text into them, saying which one answers a query, and what of a question an answer leaves open.

A sentence's score has two parts. Overlap: how much of the query's weight (idf) its words cover, where words that the
passage's title already says count less, as they tell no sentence from its neighbours, and so do words that only the
sentence before it has. Fit: whether it holds the kind of thing that the query's question words want (a year for "when",
a length for "how tall").

An answer leaves a question open when it, with the titles of its sources (and with all that they say, where it is only a
few words), lacks one of these:

- each name in the question ("Bergen"), and what singles out one of several ("the second keeper", "RTX 4090");
- what is counted ("how many steps"); where a date or a place is wanted, what happened then or there ("when was it
  opened"), and that not in brackets;
- half of the other words; where a role only leads to what is asked ("the composer of ..."), also half of them without
  it, half of those before it, and the last one of all. Those that only name the kind of answer ("which island") are
  left out; what can only be meant as the answer (a wood for "what wood", a depth for "how deep") counts as one met;
- the wanted kind of thing: a date, a person, a number with a unit of the measure (and no depth for "how tall").

It also does when none of its titles, but that of another result, has a word of the question, or when another result has
more of them. Words are compared by form and by a list of synonyms (see words.py); their meaning is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .query import ROLES, STOP_WORDS, Query
from .search import SearchResult
from .spelling import mended
from .words import CJK_RUN, likeness, stem, words

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

TITLE_WEIGHT = 0.25  # of a query word that the title says, when telling that passage's sentences apart
ASKING_WEIGHT = 0.15  # of a query word that names the kind of answer: "in which year" is answered by a year
FIT_WEIGHT = 0.5  # of the fit, where a full overlap is 1
BEFORE_WEIGHT = 0.3  # of query words that only the sentence before says: prose seldom says a thing twice
OPENING_WEIGHT = 0.8  # of a document's first sentence, where what is asked is what its title is
OWN_WEIGHT = 0.4  # of a beginning with the title's subject, where nothing but a kind of answer is asked about it


_PRONOUNS = frozenset("it its he his she her they their".split())
_PREPOSITIONS = frozenset("in on at near by from off above below along under behind beside after before".split())


@dataclass(frozen=True)
class Ranked:
    """A sentence with its score, from 0 to 1 + FIT_WEIGHT + OWN_WEIGHT + OPENING_WEIGHT, and the fit in it (0 to 1)."""

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
    titled = {stem(word) for word in words(title)}
    telling = {asked: weight * (TITLE_WEIGHT if asked in titled else 1.0) for asked, weight in weights.items()}
    known = titled.union(query.stems)
    if not query.wants and titled.issuperset(query.stems):  # a name and nothing else: it asks what that is
        query = replace(query, wants=("description",))
    opens = opening and query.wants == ("description",) and not titled.isdisjoint(query.stems)
    fits = [query.fit(sentence, known) for sentence in sentences]
    opens = opens and 1 not in fits  # "it is a ..." says it better
    named = titled.intersection(query.stems) if titled.union(query.kinds).issuperset(query.stems) else frozenset()
    ranked = [
        Ranked(
            (1 - BEFORE_WEIGHT) * coverage(telling, sentence)
            + BEFORE_WEIGHT * coverage(telling, f"{before} {sentence}")
            + FIT_WEIGHT * fit
            + OWN_WEIGHT * (bool(named) and _begins_with(named, sentence))  # the Rhine's length, not a bridge's
            + OPENING_WEIGHT * (opens and not before),
            sentence,
            fit,
        )
        for before, sentence, fit in zip(["", *sentences], sentences, fits, strict=False)
    ]
    return sorted(ranked, key=lambda one: -one.score)


def _begins_with(named: Collection[str], sentence: str) -> bool:
    """Whether one of these stems, or a pronoun for them, is what a sentence begins with."""
    first = words(sentence)[:5]
    if not first or first[0] in _PREPOSITIONS:
        return False
    return first[0] in _PRONOUNS or any(stem(word) in named for word in first)


def coverage(weights: Mapping[str, float], text: str) -> float:
    """The share (0 to 1) of the weight of `weights`' stems that the words of `text` meet."""
    said = {stem(word) for word in words(text)}
    total = sum(weights.values())
    return sum(weight * likeness(asked, said) for asked, weight in weights.items()) / total if total else 0.0


# --- answering --------------------------------------------------------------------------------------------------

MAX_ASKED = 100  # words of a question that are looked for; a longer one is a pasted text
MAX_PIECE = 500  # characters of a sentence that are looked at together: telling what it holds may take their square
WHOLE = 8  # words from which an answer must itself speak of what was asked; a shorter one leaves it to its source
_IDLE_WORDS = """get become come up kind sort type still now also tell explain describe after new latest current recent
exactly actually ever under"""
_IDLE = frozenset(_IDLE_WORDS.split())  # that an answer need not repeat
_SINGLING = frozenset("first second third fourth fifth sixth".split())  # and that it must
_HAPPENING = frozenset(("date", "place", "named place"))  # kinds for which the first word tells what happened
NAME = re.compile(r"(?<=[^.?!] )[^\W\d_a-z][\w-]{2,}")  # a capital that begins no sentence
_YEAR = re.compile(r"1\d{3}|20\d\d")
# "the poet who wrote it", "the person the street is named after": whoever it is need not be called so
_SOMEBODY = re.compile(r"\bthe (person|man|woman|place|thing|[a-z]+(?= (?:who|that|which|where|whose)\b))\b")
_PREFACE = re.compile(r"^\W*[A-Za-z][a-z ,']{0,60}(?:[?!.:]\s+(?=\S)|,\s+(?=[WH][a-z]+ ))")  # "Could you look this up?"
_THROUGH = re.compile(r"\bthe (?:[\w-]+ ){0,2}?([a-z]+)(?= of\b)|['\u2019]s? (?:first |last |best )?([a-z]+)\b")
_LEADING_WORDS = """teacher student pupil friend rival successor predecessor heir doctor physician judge keeper guard
manager editor translator publisher patron sponsor maker builder discoverer commander mayor governor chairman secretary
treasurer curator conductor coach winner employer biographer illustrator producer bishop pilot gardener cook engraver
printer surveyor foreman carpenter nurse librarian head ruler developer buyer child parent uncle aunt cousin nephew
colleague assistant partner master servant capital"""
_LEADING = ROLES.union(_LEADING_WORDS.split())
_BRACKETS = re.compile(r"\([^()]*\)")
_ANOTHERS_BIRTH = re.compile(r"\bg(?:i|a)v(?:e|es|en|ing) birth\b", re.IGNORECASE)


def unanswered(
    question: str, answer: str, cited: Sequence[SearchResult], results: Sequence[SearchResult]
) -> str | None:
    """Why an answer and what it cites do not speak of what was asked; None if they do. `answer` is without links."""
    return next(_left_open(question, answer, cited, results), None)


def _left_open(
    question: str, answer: str, cited: Sequence[SearchResult], results: Sequence[SearchResult]
) -> Iterator[str]:
    found = _stems(" ".join(f"{result.title} {result.content}" for result in results))
    question = mended(_PREFACE.sub("", question), lambda word: stem(word) in found)
    asked = Query.parse(question)
    answer = _ANOTHERS_BIRTH.sub(" ", answer)
    titled = _stems(" ".join(source.title for source in cited))
    said = titled | _stems(" ".join([answer, *(source.content for source in cited)]))
    whole = len(words(answer)) >= WHOLE
    own = titled | _stems(answer) if whole else said
    names = list(dict.fromkeys(NAME.findall(question)))[:MAX_ASKED]
    for name in names:
        if not any(likeness(stem(word), said) for word in words(name)):
            yield f"the cited result does not speak of {name}"

    known = titled | asked.kinds | _stems(" ".join([*names, *_SOMEBODY.findall(question)]))
    about = [word for word, stemmed in zip(asked.terms, asked.stems, strict=True) if stemmed not in known]
    about = [word for word in about if word not in _IDLE and not (word.isdigit() and len(word) < 3)]  # "Voyager 1"
    missing = [word for word in about[:MAX_ASKED] if not _speaks(own, word)]
    for word in missing:
        if word in _SINGLING or (re.search(r"\d", word) and not _YEAR.fullmatch(word)):
            yield f"the cited result does not speak of {word!r}"
    if asked.wants == ("number",) and asked.counted in asked.stems and not likeness(asked.counted, own, related=False):
        yield f"the cited result does not count any {asked.counted!r}"
    if about and _HAPPENING.intersection(asked.wants):
        plain = _stems(_BRACKETS.sub(" ", answer)) if whole else said
        if not _speaks(plain, about[0]):
            yield f"the cited result does not speak of {about[0]!r}"

    pieces = [s[i : i + MAX_PIECE] for s in split_sentences(answer) for i in range(0, len(s), MAX_PIECE)]
    fits = {piece: asked.fit(piece, titled.union(asked.stems)) for piece in pieces}
    told = any(fit == 1 and asked.speaks(piece) for piece, fit in fits.items())
    cjk = bool(CJK_RUN.search(question))
    # "The first composer of Carmen" only leads to what is asked about him, "the man who wrote it" to his "wife" and to
    # where he "lived".
    parts = [about]
    for led in filter(None, (_SOMEBODY.search(question), _through(question))):
        last = [word for word in words(question[led.end() :]) if word not in STOP_WORDS][-1:]
        last = [word for word in last if not likeness(stem(word), own)]  # "live" by "her home"
        for part in words(question[: led.start()]), last, set(about).difference(led.groups()):
            parts.append([word for word in about if word in part])
    for counted in parts:
        half = (len(counted) + told) / 2 if not cjk else len(counted) - 1 + told  # pairs are not all words
        lacking = [word for word in missing if word in counted]
        if lacking and len(lacking) > half:
            yield f"the cited result does not speak of {lacking[0]!r}"
    fit = max(fits.values(), default=0.0)
    vague = 0.5 if asked.measured and "size" not in asked.wants else 0.3 if asked.wants == ("place",) else 0.0
    if asked.wants and fit <= vague:
        yield f"the answer holds no {asked.wants[0]}, which was asked for"

    others = [result for result in results if result not in cited]
    if not any(likeness(stemmed, titled, related=False) for stemmed in asked.stems):
        for result in others:
            subject = _stems(result.title)
            yield from (f"{result.url} is about {word!r}" for word in missing if stem(word) in subject)
    terms = [stemmed for stemmed in asked.stems if stemmed not in asked.asking][:MAX_ASKED]
    most = sum(likeness(term, said) > 0 for term in terms)
    for result in others:
        stems = _stems(f"{result.title} {result.content}")
        if sum(likeness(term, stems) > 0 for term in terms) > most:
            yield f"{result.url} speaks of more of what was asked"


def _through(question: str) -> re.Match[str] | None:
    """Where a question names one whom it asks about only by a role, the last of them: "the first composer of"."""
    found = [match for match in _THROUGH.finditer(question) if match[match.lastindex or 0] in _LEADING]
    return found[-1] if found else None


def _speaks(said: set[str], word: str) -> bool:
    return likeness(stem(word), said, related=False) > 0


def _stems(text: str) -> set[str]:
    return {stem(word) for word in words(text)}
