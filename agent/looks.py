"""Looks: what the kinds of answer that a query may want look like in a sentence."""

from __future__ import annotations

import re
from functools import lru_cache

from .words import stem

ONE_OF = {  # kinds that are told by naming one of them: an answer to "what wood" need not say "wood"
    "wood": "oak pine poplar spruce cedar balsa teak walnut mahogany ebony beech birch ash elm maple lime fir"
    " cypress bamboo",
    "metal": "iron steel copper bronze brass tin lead zinc silver gold platinum aluminium titanium nickel beryllium",
    "stone": "marble granite limestone sandstone slate basalt jade flint chalk alabaster travertine porphyry",
    "cloth": "cotton wool silk linen muslin velvet canvas satin felt lace leather",
}
ONE_OF["material"] = " ".join([*ONE_OF.values(), "stone brick concrete clay glass ivory bone plaster paper rubber"])

_ONE_NUMBER = (
    r"(?:(?<!\w)(?<![A-Za-z]-)(?<!\d[.,])\d[\d.,]*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen"
    r"|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    r"|hundred|thousand|million|billion|trillion|dozen|half|twice|single|pair)s?\b)"
)
NUMBER = rf"{_ONE_NUMBER}(?:(?:\s|-|\sand\s|\sto\s){_ONE_NUMBER}){{0,4}}"
_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_YEAR = r"(?:1\d{3}|20\d\d)"
COUNT = re.compile(rf"(?!{_YEAR}\b(?!,\d))(?!\d+ {_MONTH}){NUMBER}", re.IGNORECASE)  # a number, but no year or date

LENGTH = (
    r"(?:kilo|centi|milli)?met(?:re|er)s?|[kcm]?m|feet|foot|ft|(?:nautical )?miles?|yards?|inch(?:es)?|fathoms?"
    r"|light[- ]years?|leagues?|stor(?:e?ys?|ies)"
)
_TIME = r"years?|months?|weeks?|days?|hours?|minutes?|seconds?|nights?|decades?|centur(?:y|ies)|ms|min"
UNITS = {
    "length": LENGTH,
    "length or time": f"{LENGTH}|{_TIME}|pages?|words?",
    "age": r"years?|months?|weeks?|days?",
    "weight": r"kg|kilo(?:gram(?:me)?)?s?|gram(?:me)?s?|g|mg|t|tonnes?|tons?|pounds?|lbs?|ounces?|oz|stone",
    "speed": r"km/h|kph|mph|m/s|knots?|(?:kilo)?met(?:re|er)s (?:an?|per) \w+|miles (?:an|per) \w+|\w+ per second",
    "heat": r"degrees?|°\s?[CF]?|[CFK]|kelvins?|celsius",
    "size": r"square|sq|km2|km²|m2|m²|hectares?|ha|acres?|cubic|lit(?:re|er)s?|parameters?|[KMGT]?i?B|\w*bytes?|pages?"
    rf"|people|inhabitants|members|{LENGTH}",
    "money": r"euros?|dollars?|pounds?|pence|cents?|francs?|crowns?|yen|yuan|rupees?|marks?|guilders?|shillings?",
}
_MEASURED = "|".join([LENGTH, _TIME, *(UNITS[want] for want in ("weight", "speed", "money")), "degrees?"])
MEASURE = re.compile(rf"[\s-]*({_MEASURED})(?!\w)")
AGED = (
    rf"\baged? (?:of |only )?{NUMBER}|\bat (?:only )?\d\d\b"
    rf"|\b(?:was|were|is|turned) (?:only |just |barely )?{NUMBER}(?=[,.;]| when\b| at the\b)"
)
# Words that say which measure a number is. The first six lines are lengths in different directions.
_MEASURES = """
tall high elevation altitude above rise stand
deep down below
wide broad across wingspan diameter
long stretch
thick thickness
far distance
long last take during duration
old age; heavy weigh mass; fast speed; large size area cover; hot cold temperature
"""
_UPPER = "A-Z" + "".join(filter(str.isupper, map(chr, range(0xC0, 0x250))))  # Latin letters
_CAPITAL = (
    rf"(?<!\w)(?!(?:{_MONTH}|The|It|He|She|They|In|On|At|Its|His|Her|This|That|A|An|And|But|For|By|To|Of|From|After|When|As"
    rf"|With|There|Their|These|One|Two|I)\b)[{_UPPER}][^\W\d_]*(?:['\u2019.-][^\W\d_]+)*"
)
_FULL_NAME = rf"{_CAPITAL}\.?(?:\s(?:(?:da|de|del|della|di|du|la|le|van|von|den|der|of|the|al|bin)\s)*{_CAPITAL}\.?)+"
_PLACED = r"(?:in|at|on|near|off|above|below|between|outside|inside|along|beside|opposite|under|behind|from|to|into|of)"

# Per kind: how well a pattern fits (0 to 1). What a group "new" matches must not consist of words of the query or the
# passage's title alone: the Eiffel Tower does not stand in "the Eiffel Tower".
LOOKS: dict[str, list[tuple[float, str]]] = {
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
        (0.5, rf"(?<=[\w,;:] )(?<! in )(?<! at )(?<! near )(?<! church of )(?<! city of )(?P<new>{_CAPITAL})"),
        (0.3, r"\bby (?:a|an|the|two|three|its|his|her|local)\b"),
    ],
    "place": [
        (1.0, rf"\b{_PLACED} (?:the )?(?:[\w-]+ (?:of )?(?:the )?)?(?P<new>{_CAPITAL})"),
        (0.6, rf"\b{_PLACED} (?:the|an?|its) "),
        (0.3, rf"(?<=[a-z,] )(?P<new>{_CAPITAL})"),
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
    "description": [(1.0, r"\b(?:is|was|are|were) (?:an?|the|one|among)\b"), (0.6, r", (?:an?|the) \w+")],
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
LOOKS["named place"] = sorted(LOOKS["place"] + LOOKS["name"], reverse=True)  # the island is called Olkhon
LOOKS |= {kind: [(1.0, rf"\b(?:{'|'.join(names.split())})\b")] for kind, names in ONE_OF.items()}
SPEAKING = (*ONE_OF, "colour", "food", "frequency")  # what is found of these is hardly ever meant otherwise


@lru_cache(maxsize=1)
def measures() -> list[frozenset[str]]:
    """The stems of each measure: those that say a height, a depth, a width, a length, a thickness, a distance, ..."""
    return [frozenset(map(stem, line.split())) for line in re.split(r"[;\n]", _MEASURES.strip())]
