"""Query: what a search asks for. Its content words, and the kind of thing that its question words want."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .words import likeness, stem, words

_STOP_WORDS = """a about an and any are as at be been but by can could did do does for from had has have he her him his
how i if in into is it its many me much my of on or our she should so some t than that the their them there these they
this those to us was we were what when where which who whom whose why will with would you your"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# --- the kinds of answer, by the words that ask for them ----------------------------------------------------------

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
    "place": "where location",
    "reason": "why",
    "name": "name named called nickname nicknamed known titled",
    "length": "height depth width distance elevation altitude diameter",
    "length or time": "length duration",
    "age": "age",
    "weight": "weight mass weigh",
    "speed": "speed",
    "heat": "temperature",
    "size": "size area",
    "money": "cost price fee",
    "number": "population percentage percent number",
    "colour": "colour color",
    "food": "eat eats diet feed",
}
_IF_NOTHING_ELSE = {  # nouns that often follow "which", but that many other questions hold too
    "person": """architect author designer founder inventor engineer painter composer poet scientist physicist king
        queen emperor president minister captain explorer artist sculptor director writer chemist doctor astronomer
        mathematician philosopher general admiral pope saint actor singer pianist father mother brother sister wife
        husband son daughter creator leader owner""",
    "place": """country city town village island river lake sea ocean mountain continent region state province county
        street square port harbour border museum university school""",
    "name": "company firm team organisation organization group newspaper magazine publisher",
}
_ASKING_ONLY = ("date", "person", "place", "name")  # an answer shows these without saying "year" or "name"


def _want(table: dict[str, str], word: str) -> str | None:
    return next((want for want, asking in table.items() if word in asking.split()), None)


# --- the kinds of answer, by what they look like ------------------------------------------------------------------

_ONE_NUMBER = (
    r"(?:(?<!\w)(?<![A-Za-z]-)\d[\d.,]*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen"
    r"|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    r"|hundred|thousand|million|billion|trillion|dozen|half|twice|single|pair)s?\b)"
)
_NUMBER = rf"{_ONE_NUMBER}(?:(?:\s|-|\sand\s|\sto\s){_ONE_NUMBER}){{0,4}}"
_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_YEAR = r"(?:1\d{3}|20\d\d)"
_COUNT = re.compile(rf"(?!{_YEAR}\b(?!,\d))(?!\d+ {_MONTH}){_NUMBER}", re.IGNORECASE)  # a number, but no year or date

_LENGTH = (
    r"(?:kilo|centi|milli)?met(?:re|er)s?|[kcm]?m|feet|foot|ft|miles?|yards?|inch(?:es)?|fathoms?|light[- ]years?"
    r"|leagues?|stor(?:e?ys?|ies)"
)
_TIME = r"years?|months?|weeks?|days?|hours?|minutes?|seconds?|nights?|decades?|centur(?:y|ies)|ms|min"
_UNITS = {
    "length": _LENGTH,
    "length or time": f"{_LENGTH}|{_TIME}|pages?|words?",
    "age": r"years?|months?|weeks?|days?",
    "weight": r"kg|kilo(?:gram(?:me)?)?s?|gram(?:me)?s?|g|mg|t|tonnes?|tons?|pounds?|lbs?|ounces?|oz|stone",
    "speed": r"km/h|kph|mph|m/s|knots?|(?:kilo)?met(?:re|er)s (?:an?|per) \w+|miles (?:an|per) \w+|\w+ per second",
    "heat": r"degrees?|°\s?[CF]?|[CFK]|kelvins?|celsius",
    "size": r"square|sq|km2|km²|m2|m²|hectares?|ha|acres?|cubic|lit(?:re|er)s?|parameters?|[KMGT]?i?B|\w*bytes?|pages?"
    rf"|people|inhabitants|members|{_LENGTH}",
    "money": r"euros?|dollars?|pounds?|pence|cents?|francs?|crowns?|yen|yuan|rupees?|marks?|guilders?|shillings?",
}
_CAPITAL = (
    rf"(?!(?:{_MONTH}|The|It|He|She|They|In|On|At|Its|His|Her|This|That|A|An|And|But|For|By|To|Of|From|After|When|As"
    r"|With|There|Their|These|One|Two|I)\b)[A-Z][^\W\d_]*(?:['\u2019.-][^\W\d_]+)*"
)
_FULL_NAME = rf"{_CAPITAL}\.?(?:\s(?:(?:da|de|del|della|di|du|la|le|van|von|den|der|of|the|al|bin)\s)*{_CAPITAL}\.?)+"
_PLACED = r"(?:in|at|on|near|off|above|below|between|outside|inside|along|beside|opposite|under|behind|from|to|into|of)"

# Per kind: how well a pattern fits (0 to 1). What a group "new" matches must not consist of words of the query or the
# passage's title alone: the Eiffel Tower does not stand in "the Eiffel Tower".
_LOOKS: dict[str, list[tuple[float, str]]] = {
    "date": [
        (1.0, rf"\b{_YEAR}s?\b|\b\d{{1,2}} {_MONTH}\b|\b{_MONTH} \d|\d+ (?:BC|AD|BCE|CE)\b"),
        (0.7, rf"\b(?:in|since|until|every|from|of|to|each|late|early|mid) {_MONTH}\b|\bcentury\b|\d ?[ap]\.?m\b"),
        (0.5, r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b|\b(?:spring|summer|autumn|winter|o'clock|noon)\b"),
        (0.3, r"\b(?:every|after|before|during|until) \w+|\bdays?\b|\byears?\b"),
    ],
    "person": [
        (1.0, rf"\b[Bb]y (?:the )?(?:[\w-]+ ){{0,4}}?(?P<new>{_FULL_NAME})|(?<=[\w,;:)] )(?P<new2>{_FULL_NAME})"),
        (0.9, rf"(?P<new>{_FULL_NAME})"),
        (0.7, rf"\b[Bb]y (?:the )?(?:[\w-]+ ){{0,3}}?(?P<new>{_CAPITAL})"),
        (0.5, rf"(?<=[\w,;:] )(?P<new>{_CAPITAL})"),
        (0.3, r"\bby (?:a|an|the|two|three|its|his|her|local)\b"),
    ],
    "place": [
        (1.0, rf"\b{_PLACED} (?:the )?(?:[\w-]+ (?:of )?(?:the )?)?(?P<new>{_CAPITAL})"),
        (0.6, rf"\b{_PLACED} (?:the|an?|its) "),
    ],
    "name": [
        (1.0, r"\b(?:called|named|nicknamed|known (?:\w+ )?as|titled|entitled|baptised|christened|dubbed|names?)\b"),
        (0.8, rf"(?<=[a-z], )(?P<new>{_CAPITAL})[^,.;]*[,.;]"),  # his base, Framheim, on the ice
        (0.8, '[\u201c"\u2018][^\u201d"\u2019]+[\u201d"\u2019]'),
        (0.5, rf"(?<=[a-z] )(?P<new>{_CAPITAL})"),
    ],
    "reason": [
        (1.0, r"\b(?:because|since|so that|so as|due to|in order|owing to|thanks to|reasons?|on account)\b"),
        (0.6, r"\b(?:to (?!the|a|an|its|his|her)[a-z]{3,}|for (?:its|their|the)|as|after)\b"),
    ],
    "frequency": [(1.0, r"\b(?:every|once|twice|times|daily|weekly|monthly|yearly|annual(?:ly)?|each|per|hourly)\b")],
    "colour": [
        (
            1.0,
            r"(?P<new>\b(?i:red|blue|green|yellow|white|black|gr[ea]y|orange|brown|pink|purple|gold|silver|scarlet)\b)",
        )
    ],
    "food": [
        (1.0, r"\b(?:feeds?|feeding|fed|lives?|living|preys?|diet|dines?) (?:\w+ ){0,3}?(?:on|of|is|was)\b|\beats?\b"),
        (0.7, r"\b(?:ate|eating|eaten|diet|prey|hunts?|catch(?:es)?|fed|food)\b"),
    ],
}


@dataclass(frozen=True)
class Query:
    """A parsed query. `terms`: its distinct folded content words, at least one where the text holds any word; `stems`:
    the same, stemmed; `wants`: the kinds of answer that its question words name; `counted`: the stem behind "how many"
    or "how much"; `asking`: the stems that only name a kind ("year", "name") and so need not occur in an answer."""

    terms: tuple[str, ...]
    stems: tuple[str, ...]
    wants: tuple[str, ...]
    counted: str
    asking: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Query:
        """Any text is a query; one of stop words alone keeps them all as terms."""
        every = words(text)
        terms = tuple(dict.fromkeys([word for word in every if word not in STOP_WORDS] or every))
        wants: list[str] = []
        asking: set[str] = set()
        counted = ""
        for word, following in zip(every, [*every[1:], ""], strict=False):
            if word == "how" and (want := _want(_AFTER_HOW, following)):
                wants.append(want)
            elif word in ("many", "much"):
                wants.append("number")
                counted = stem(following)
            elif want := _want(_ANYWHERE, word):
                wants.append(want)
                if want in _ASKING_ONLY:
                    asking.add(stem(word))
        for vague in ("name", "number"):  # "when was it named", "how much does it weigh": the other one says more
            if len(set(wants)) > 1:
                wants = [want for want in wants if want != vague]
        if not wants:
            wants = [want for word in every if (want := _want(_IF_NOTHING_ELSE, word))][:1]
        return cls(terms, tuple(map(stem, terms)), tuple(dict.fromkeys(wants)), counted, frozenset(asking))

    @property
    def measured(self) -> bool:
        """Whether a number with a unit is wanted."""
        return any(want in _UNITS for want in self.wants)

    def fit(self, sentence: str, known: Collection[str]) -> float:
        """From 0 to 1: does `sentence` hold the kinds of thing that are wanted? 0 when the query names no kind.

        `known`: the stems that the query and the passage's title say already.
        """
        if not self.wants:
            return 0.0
        return sum(self._fit_one(want, sentence, known) for want in self.wants) / len(self.wants)

    def _fit_one(self, want: str, sentence: str, known: Collection[str]) -> float:
        if want == "number":
            return self._fit_number(sentence)
        if want in _UNITS:
            if re.search(rf"{_NUMBER}[\s-]*(?:\w+ and a half )?(?:{_UNITS[want]})(?!\w)", sentence):
                return 1.0
            if want == "money" and re.search(r"[$€£¥]\s?\d", sentence):
                return 1.0
            if want == "age" and re.search(rf"\baged? (?:of )?{_NUMBER}|\bat (?:only )?\d\d\b", sentence):
                return 1.0
            return 0.3 if want != "money" and _COUNT.search(sentence) else 0.0
        for worth, pattern in _LOOKS[want]:
            for match in re.finditer(pattern, sentence):
                names = [name for name in match.groupdict().values() if name]
                if not names or any(stem(word) not in known for word in words(names[0])):
                    return worth
        return 0.0

    def _fit_number(self, sentence: str) -> float:
        """1: the counted thing follows a number within three words; 0.8: both occur; 0.5: a number."""
        best = 0.0
        for match in _COUNT.finditer(sentence):
            best = max(best, 0.5)
            near = [stem(word) for word in words(sentence[match.end() : match.end() + 60])[:4]]
            if self.counted and likeness(self.counted, near) > 0:
                return 1.0
        if best and self.counted and likeness(self.counted, map(stem, words(sentence))) > 0:
            return 0.8
        return best
