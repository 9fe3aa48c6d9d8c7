"""Gaps: what of a question an answer leaves open.

An answer does when it, with the titles of its sources (and with all that they say, where it is only a few words), lacks
one of these:

- each name in the question ("Bergen"), and numbers that single out one of several ("RTX 4090");
- what is counted ("how many steps"); where a date or a place is wanted, what happened then or there ("when was it
  opened"), and that not in brackets;
- half of the other words; where a role only leads to what is asked ("the composer of ..."), also half of them without
  it, half of those before it, and the last one of all. Those that only name the kind of answer ("which island") are
  left out; what can only be meant as the answer (a wood for "what wood", a depth for "how deep") counts as one met;
- the wanted kind of thing: a date, a person, a number with a unit of the measure (and no depth for "how tall").

It also does when none of its titles, but that of another result, has a word of the question, or when another result
that says nothing else of what the answer tells would be ranked nearly as high: what answers mostly stands out.
Words are compared by form and by a list of synonyms (see words.py); their meaning is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .query import ROLES, STOP_WORDS, Query, asked_by
from .search import SearchResult
from .sentences import own_title, rank_sentences, split_sentences, weigh
from .spelling import mended
from .words import CJK_RUN, fold, likeness, stem, stems, words

MAX_ASKED = 100  # words of a question that are looked for; a longer one is a pasted text
MAX_POLITE = 400  # characters in which openings are looked for: what they cost grows with the square
MAX_PIECE = 500  # characters of a sentence that are looked at together: telling what it holds may take their square
STANDS_OUT = 0.15  # by which a cited result must be worth more than others
WHOLE = 8  # words from which an answer must itself speak of what was asked; a shorter one leaves it to its source
NAME = re.compile(r"(?<=[^.?!] )[^\W\d_a-z][\w-]{2,}")  # a capital that begins no sentence
MOST_LACKED = 4  # words of a query that are told to be lacking
_QUERY_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W_]+")
_IDLE_WORDS = """get become come up kind sort type still now also tell explain describe after new latest current recent
exactly actually ever under even finally originally supposed another one done like every each"""
_IDLE = frozenset(_IDLE_WORDS.split())  # that an answer need not repeat
_HAPPENING = frozenset(("date", "place", "named place"))  # kinds for which the first word tells what happened
_YEAR = re.compile(r"1\d{3}|20\d\d")
_ASKS = (
    r"(?:(?:in|at|on|by|for|from|to|under|of|after) )?"
    r"(?:wh(?:o|om|ose|at|ich|en|ere|y)|how|tell|name|describe|explain)"
)
_ASKING = re.compile(rf"\W*(?:{_ASKS}|is|are|was|were|did|does|do|has|have|can|could)\b", re.IGNORECASE)
_PREFACE = re.compile(r"^\W*[A-Za-z][a-z ,']{0,60}(?:[?!.:]\s+(?=\S)|,\s+(?=[WH][a-z]+ ))")  # "Could you look this up?"
_AFTERWORD = re.compile(
    r"\?\s+(?:please|thanks|thank you|cheers|answer|be|keep|reply|respond)\b[^?]*$", re.IGNORECASE
)  # "Please be brief."
_POLITE = re.compile(
    r"^\W*(?:(?:please|excuse me|hello|hi|hey|ok|so|and)\b\W*)*"
    r"(?:(?:(?:can|could|would|will) you (?:please )?|please )?(?:tell (?:to )?me|say)\b"
    r"|(?:do|would) you (?:happen to )?know\b|i(?:'d| would) like to know\b|i (?:want to know|wonder)\b)?[\s,:]*"
    r"(?=(?:who|whom|whose|what|which|when|where|why|how|in|at|on|by|for|from|the|if)\b)",
    re.IGNORECASE,
)  # "excuse me, could you tell me when ..."
_TOLD = re.compile(r"\d+(?:[.,]\d+)*|(?<=[\w,;:)\"“(] )[^\W\d_a-z][\w'’-]{2,}")  # numbers and names
_BRACKETS = re.compile(r"\([^()]*\)")
_ANOTHERS_BIRTH = re.compile(r"\bg(?:i|a)v(?:e|es|en|ing) birth\b", re.IGNORECASE)
# "the poet who wrote it", "the person the street is named after": whoever it is need not be called so
_SOMEBODY = re.compile(r"\bthe (person|man|woman|place|thing|[a-z]+(?= (?:who|that|which|where|whose)\b))\b")
# the same in a query, which has lost its articles: "language people speak", "poet who wrote it"
_HEAD = re.compile(r"\b(person|people|man|woman|place|thing|[a-z]+(?= (?:who|that|which|where|whose|whom)\b))\b")
_THROUGH = re.compile(r"\bthe (?:[\w-]+ ){0,2}?([a-z]+)(?= of\b)|['\u2019]s? (?:first |last |best )?([a-z]+)\b")
_LEADING_WORDS = """teacher student pupil friend rival successor predecessor heir doctor physician judge keeper guard
manager editor translator publisher patron sponsor maker builder discoverer commander mayor governor chairman secretary
treasurer curator conductor coach winner employer biographer illustrator producer bishop pilot gardener cook engraver
printer surveyor foreman carpenter nurse librarian head ruler developer buyer child parent uncle aunt cousin nephew
colleague assistant partner master servant capital"""
_LEADING = ROLES.union(_LEADING_WORDS.split())


def unanswered(
    question: str,
    answer: str,
    cited: Sequence[SearchResult],
    results: Sequence[SearchResult],
    stands_out: bool = True,
) -> str | None:
    """Why an answer and what it cites do not speak of what was asked; None if they do. `answer` is without links.
    `stands_out`: whether what it cites must be worth more than the other results."""
    return next(_Gaps(question, answer, cited, results).reasons(stands_out), None)


def lacks(query: str, result: SearchResult) -> tuple[str, ...]:
    """What of a query a result does not speak of: words as the query has them, in its order, and the wanted kind of
    answer ("date") where it holds none; at most MOST_LACKED."""
    gaps = _Gaps(query, result.content, [result], [result])
    lacking = {part for name in gaps.missing_names() for part in words(name)}.union(gaps.missing)
    lacking.difference_update(led[1] for led in _HEAD.finditer(query))
    if fits := gaps.fits_well():
        lacking = {word for word in lacking if asked_by(word) not in gaps.asked.wants}
    said = (word for word in _QUERY_WORD.findall(query) if not lacking.isdisjoint(words(word)))
    kind = () if fits else gaps.asked.wants[:1]
    return tuple(dict.fromkeys([*said, *kind]))[:MOST_LACKED]


class _Gaps:
    """A question beside its answer, both taken apart into stems."""

    def __init__(self, question: str, answer: str, cited: Sequence[SearchResult], results: Sequence[SearchResult]):
        found = stems(" ".join(f"{result.title} {result.content}" for result in results))
        self.question = _bare(mended(" ".join(question.split()), lambda word: stem(word) in found))
        self.asked = Query.parse(self.question)
        self.answer = _ANOTHERS_BIRTH.sub(" ", answer)
        self.cited = cited
        self.others = [result for result in results if result not in cited]
        self.titled = stems(" ".join(source.title for source in cited))
        self.said = self.titled | stems(" ".join([self.answer, *(source.content for source in cited)]))
        self.whole = len(words(self.answer)) >= WHOLE
        self.own = self.titled | stems(self.answer) if self.whole else self.said
        self.names = list(dict.fromkeys(NAME.findall(self.question)))[:MAX_ASKED]
        self.about = self._about()  # the words that tell what is asked of the subject, and those that are not met
        self.missing = [word for word in self.about[:MAX_ASKED] if not _speaks(self.own, word)]
        pieces = [s[i : i + MAX_PIECE] for s in split_sentences(self.answer) for i in range(0, len(s), MAX_PIECE)]
        known = self.titled.union(self.asked.stems)
        self.fits = {piece: self.asked.fit(piece, known) for piece in pieces}

    def _about(self) -> list[str]:
        known = self.titled | self.asked.kinds | stems(" ".join([*self.names, *_SOMEBODY.findall(self.question)]))
        about = [word for word, stemmed in zip(self.asked.terms, self.asked.stems, strict=True) if stemmed not in known]
        return [word for word in about if word not in _IDLE and not (word.isdigit() and len(word) < 3)]  # "Voyager 1"

    def reasons(self, stands_out: bool) -> Iterator[str]:
        for word in self._unmet():
            yield f"the cited result does not speak of {word}"
        if self._uncounted():
            yield f"the cited result does not count any {self.asked.counted!r}"
        for word in self._unspoken():
            yield f"the cited result does not speak of {word!r}"
        if not self.fits_well():
            yield f"the answer holds no {self.asked.wants[0]}, which was asked for"
        yield from self._elsewhere()
        if stands_out and len(self.asked.stems) <= MAX_ASKED:
            yield from self._rivals()

    def missing_names(self) -> list[str]:
        return [name for name in self.names if not any(likeness(stem(word), self.said) for word in words(name))]

    def fits_well(self) -> bool:
        """Whether the answer holds the wanted kind of thing, or none is wanted."""
        wants = self.asked.wants
        vague = 0.5 if self.asked.measured and "size" not in wants else 0.3 if wants == ("place",) else 0.0
        return not wants or max(self.fits.values(), default=0.0) > vague

    def _unmet(self) -> Iterator[str]:
        """Each name that is not met, and what singles out one of several."""
        yield from self.missing_names()
        for word in self.missing:
            if re.search(r"\d", word) and not _YEAR.fullmatch(word):
                yield repr(word)

    def _uncounted(self) -> bool:
        asked = self.asked
        counts = asked.wants == ("number",) and asked.counted in asked.stems
        return counts and not likeness(asked.counted, self.own, related=False)

    def _unspoken(self) -> Iterator[str]:
        """What happened, where that is not met, and the first word of each part of the question that is not."""
        if self.about and _HAPPENING.intersection(self.asked.wants):
            plain = stems(_BRACKETS.sub(" ", self.answer)) if self.whole else self.said
            if not _speaks(plain, self.about[0]):
                yield self.about[0]
        told = any(fit == 1 and self.asked.speaks(piece) for piece, fit in self.fits.items())
        pairs = bool(CJK_RUN.search(self.question))  # not all of which are words
        for part in self._parts():
            lacking = [word for word in self.missing if word in part]
            if lacking and len(lacking) > (len(part) - 1 + told if pairs else (len(part) + told) / 2):
                yield lacking[0]

    def _parts(self) -> Iterator[list[str]]:
        """Words of which half must be met: all, and where a role leads to what is asked, those beside it. "The first
        composer of Carmen" leads to what is asked about him, "the man who wrote it" to his "wife", or how he "died"."""
        yield self.about
        through = [led for led in _THROUGH.finditer(self.question) if led[led.lastindex or 0] in _LEADING]
        for led in filter(None, (_SOMEBODY.search(self.question), *through[-1:])):
            last = [word for word in words(self.question[led.end() :]) if word not in STOP_WORDS][-1:]
            last = [word for word in last if not likeness(stem(word), self.own)]  # "live" by "her home"
            for part in words(self.question[: led.start()]), last, set(self.about).difference(led.groups()):
                yield [word for word in self.about if word in part]

    def _elsewhere(self) -> Iterator[str]:
        """Which other result is about what none of the cited ones is about."""
        asked = self.asked
        if not any(likeness(stemmed, self.titled, related=False) for stemmed in asked.stems):
            for result in self.others:
                subject = stems(result.title)
                yield from (f"{result.url} is about {word!r}" for word in self.missing if stem(word) in subject)

    def _rivals(self) -> Iterator[str]:
        """Which other results are worth nearly as much and tell nothing of the answer."""
        titles = " ".join(source.title for source in self.cited)
        told = set(map(_plain, _TOLD.findall(self.answer))).difference(words(f"{self.question} {titles}"))
        rivals = [result for result in self.others if told.isdisjoint(map(_plain, _TOLD.findall(result.content)))]
        best = max(map(self._worth, self.cited), default=0.0)
        for result in rivals:
            if self._worth(result) > best - STANDS_OUT:
                yield f"{result.url} speaks as much of what was asked"

    def _worth(self, result: SearchResult) -> float:
        """What a search would rank the result by, if it knew no more than the results."""
        asked = self.asked
        weights = weigh(asked, dict.fromkeys(asked.stems, 1.0))
        pieces = [s[i : i + MAX_PIECE] for s in split_sentences(result.content) for i in range(0, len(s), MAX_PIECE)]
        ranked = rank_sentences(asked, weights, result.title, pieces or [""])
        return ranked[0].score + own_title(asked, result.title)


def _bare(question: str) -> str:
    """The question without what only leads to it or follows it: "Quick question:", "Please be brief." """
    head = question[:MAX_POLITE]
    head = _AFTERWORD.sub("?", head) if len(question) <= MAX_POLITE else head
    preface = _PREFACE.match(head)
    if preface and _ASKING.match(head[preface.end() :]):
        led = preface.group()
        if not re.match(rf"\W*{_ASKS}\b", led, re.IGNORECASE) or re.search(r"\byou\b", led):
            head = head[preface.end() :]
    return _POLITE.sub("", head) + question[MAX_POLITE:]


def _plain(name: str) -> str:
    return fold(name).replace(",", "")


def _speaks(said: set[str], word: str) -> bool:
    return likeness(stem(word), said, related=False) > 0
