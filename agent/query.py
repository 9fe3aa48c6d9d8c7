"""Query: what a search asks for. Its content words, and the kind of thing that its question words want."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .looks import AGED, COUNT, LENGTH, LOOKS, MEASURE, NUMBER, ONE_OF, SPEAKING, UNITS, measures
from .words import likeness, stem, stems, words

_STOP_WORDS = """a about an and any are as at be been but by can could did do does for from had has have he her him his
how i if in into is it its many me much my of on or our she should so some t than that the their them there these they
this those to us was we were what when where which who whom whose why will with would you your"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# The kinds of answer, by the words that ask for them; what they look like is in looks.py.

_AFTER_HOW = {
    "length": "tall high deep wide broad thick far",
    "length or time": "long",
    "age": "old",
    "weight": "heavy",
    "speed": "fast quickly",
    "heat": "hot cold warm",
    "size": "large big small",
    "frequency": "often",
}
_ANYWHERE = {
    "date": "when year date month day century",
    "person": "who whom whose",
    "place": "where location birthplace",
    "reason": "why",
    "name": "name named call called nickname nicknamed known titled",
    "length": "height depth width distance elevation altitude diameter",
    "length or time": "length duration",
    "age": "age",
    "weight": "weight mass weigh",
    "speed": "speed",
    "heat": "temperature",
    "size": "size area",
    "money": "cost price fee money",
    "number": "population percentage percent number",
    "colour": "colour color",
    "food": "eat eats diet feed",
}
_IF_NOTHING_ELSE = {  # nouns that often follow "which", but that many other questions hold too
    "person": """architect author designer founder inventor engineer painter composer poet scientist physicist king
        queen emperor president minister captain explorer artist sculptor director writer chemist doctor astronomer
        mathematician philosopher general admiral pope saint actor singer pianist father mother brother sister wife
        husband son daughter creator leader owner""",
    "named place": """country city town village island river lake sea ocean mountain continent region state province
        county street square port harbour border museum university school""",
    "money": "pay paid",
    "name": "company firm team organisation organization group newspaper magazine publisher",
}
ROLES = frozenset(_IF_NOTHING_ELSE["person"].split())
_WHICH_OF = re.compile(rf"\b(?:what|which|kind|type|sort)(?: of)? ({'|'.join(ONE_OF)})s?\b")
_DESCRIBE = re.compile(
    r"^\W*(?:(?i:tell \w+ about|explain|describe)\b|(?i:who)(?: is| was)? [A-Z][^\s,?!]*(?: [A-Z][^\s,?!]*)*[\s?!]*$)"
)
_QUESTION_WORDS = ("what", "which", "who", "whom", "whose", "when", "where", "why", "how")
_JOINING = ("who", "whom", "whose", "when", "where", "why")  # behind another one: "how old was she when she died"
_ASKING_ONLY = ("date", "person", "place", "name")  # an answer shows these without saying "year" or "name"


def _want(table: dict[str, str], word: str) -> str | None:
    return next((want for want, asking in table.items() if word in asking.split()), None)


def asked_by(word: str) -> str | None:
    """The kind of answer that a word asks for wherever it stands: "food" by "feed"."""
    return _want(_ANYWHERE, word)


@dataclass(frozen=True)
class Query:
    """A parsed query.

    `terms`: its distinct folded content words, at least one where the text holds any word; `stems`: the same, stemmed;
    `wants`: the kinds of answer that its question words name; `counted`: the stem behind "how many" or "how much";
    `many`: it was "many"; `asking`: the stems that only name a kind ("year", "name") and so need not occur in an
    answer; `kinds`: these and the other stems that say no more than the kind ("tall" behind "how", "which island").
    """

    terms: tuple[str, ...]
    stems: tuple[str, ...]
    wants: tuple[str, ...]
    counted: str
    many: bool
    asking: frozenset[str]
    kinds: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Query:
        """Any text is a query; one of stop words alone keeps them all as terms."""
        every = words(text)
        terms = tuple(dict.fromkeys([word for word in every if word not in STOP_WORDS] or every))
        wants: list[str] = []
        asking: set[str] = set()
        kinds: set[str] = set()
        counted, many = "", False
        asked = False  # a question word has been met
        for before, word, following in zip(["", *every], every, [*every[1:], ""], strict=False):
            joins = asked and word in _JOINING and before not in ("and", "or")
            asked = asked or word in _QUESTION_WORDS
            if before in ("which", "what") and word not in STOP_WORDS:
                kinds.add(stem(word))
            if joins:
                continue
            if word == "how" and (want := _want(_AFTER_HOW, following)):
                wants.append(want)
                kinds.add(stem(following))
            elif word in ("many", "much"):
                wants.append("number")
                counted, many = stem(following), word == "many"
            elif want := _want(_ANYWHERE, word):
                wants.append(want)
                if want in _ASKING_ONLY:
                    asking.add(stem(word))
                elif want in UNITS and word not in ("weigh", "cost"):
                    kinds.add(stem(word))
        for vague in ("name", "number"):  # "when was it named", "how much does it weigh": the other one says more
            if len(set(wants)) > 1:
                wants = [want for want in wants if want != vague]
        if which := _WHICH_OF.search(" ".join(every)):
            wants = [which[1]]
            kinds.add(stem(which[1]))
        elif _DESCRIBE.search(text):
            wants = ["description"]
        elif not wants:
            nouns = [(want, word) for word in every if (want := _want(_IF_NOTHING_ELSE, word))][:1]
            wants = [want for want, _ in nouns]
            kinds.update(stem(word) for _, word in nouns)
        stems = tuple(map(stem, terms))
        return cls(
            terms, stems, tuple(dict.fromkeys(wants)), counted, many, frozenset(asking), frozenset(asking | kinds)
        )

    @property
    def measured(self) -> bool:
        """Whether a number with a unit is wanted."""
        return any(want in UNITS for want in self.wants)

    def fit(self, sentence: str, known: Collection[str]) -> float:
        """From 0 to 1: does `sentence` hold the kinds of thing that are wanted? 0 when the query names no kind.

        `known`: the stems that the query and the passage's title say already.
        """
        if not self.wants:
            return 0.0
        return sum(self._fit_one(want, sentence, known) for want in self.wants) / len(self.wants)

    def speaks(self, sentence: str) -> bool:
        """Whether what `sentence` holds of the wanted kind says itself that it was meant: a wood for "what wood", and,
        for "how deep", a number behind which depth is spoken of. To be asked where `fit` is 1."""
        said = stems(sentence)
        if self.measured:
            return any(said & measure for measure in measures() if measure.intersection(self.stems))
        return any(want in SPEAKING for want in self.wants)

    def _fit_one(self, want: str, sentence: str, known: Collection[str]) -> float:
        if want == "number":
            return self._fit_number(sentence)
        if want in UNITS:
            if match := re.search(rf"{NUMBER}[\s-]*(?:\w+ and a half )?({UNITS[want]})(?!\w)", sentence):
                return 0.5 if self._measures_another(want, match[1], sentence) else 1.0
            if want == "heat" and re.search(rf"\btemperatures? (?:\w+ ){{0,2}}{NUMBER}", sentence):
                return 1.0
            if want == "money" and re.search(r"[$€£¥]\s?\d", sentence):
                return 1.0
            if want == "age" and re.search(AGED, sentence):
                return 1.0
            return 0.3 if want != "money" and COUNT.search(sentence) else 0.0
        for worth, pattern in LOOKS[want]:
            for match in re.finditer(pattern, sentence):
                if want == "description" and not self._is_about(known, sentence[: match.start()]):
                    continue
                names = [name for name in match.groupdict().values() if name]
                if not names or any(stem(word) not in known for word in words(names[0])):
                    return worth
        return 0.0

    @staticmethod
    def _is_about(known: Collection[str], before: str) -> bool:
        """Whether what is said behind these words is said of the passage's subject: "it was a ...", not "her reward
        was a ..."."""
        said = words(before)
        return bool(said) and (said[0] in ("it", "he", "she", "they", "this") or any(stem(w) in known for w in said))

    def _measures_another(self, want: str, unit: str, sentence: str) -> bool:
        """Whether the right unit measures another thing: a depth for "how tall", a prize of 500 pounds for a weight."""
        said = stems(sentence)
        if unit in ("pound", "pounds"):
            return want == ("money" if said & {stem("weigh"), stem("heavy"), stem("mass")} else "weight")
        if not re.fullmatch(LENGTH, unit):
            return False
        if want == "size":
            return any(said & measure for measure in measures()[:2])  # how big it is, and not how high
        told = [bool(said & measure) for measure in measures()[:6]]
        asked = [not measure.isdisjoint(self.stems) for measure in measures()[:6]]
        if any(map(min, told, asked)):
            return False
        _, deep, wide, _, thick, _ = asked  # a bare length may be a height, but hardly ever one of these
        return deep or wide or thick or (any(told) and any(asked))

    def _fit_number(self, sentence: str) -> float:
        """1: the counted thing follows a number within three words; 0.8: both occur; 0.5: a number. For "how
        many", a number with the unit of a measure counts nothing else."""
        best = 0.0
        for match in COUNT.finditer(sentence):
            measure = MEASURE.match(sentence, match.end())
            if self.many and measure and stem(words(measure[1])[0]) != self.counted:
                continue
            best = max(best, 0.5)
            near = [stem(word) for word in words(sentence[match.end() : match.end() + 60])[:4]]
            if self.counted and likeness(self.counted, near) > 0:
                return 1.0
        if best and self.counted and likeness(self.counted, stems(sentence)) > 0:
            return 0.8
        return best
