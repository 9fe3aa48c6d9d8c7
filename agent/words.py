"""Words: how the index and the ranking spell them, their stems, and how alike two of them are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_CJK_RUN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")  # kana, Han, Hangul
_MARKS = re.compile("[\u0300-\u036f]")
_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['\u2019]s\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def fold(text: str) -> str:
    """Lower case, compatibility forms and accents gone ("Ångström" -> "angstrom"); Hangul and kana stay whole."""
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text))).casefold()


def search_text(text: str) -> str:
    """`text` as the index holds it: folded, "1,280" as "1280", a CJK run as its characters and its pairs."""

    def spell(match: re.Match[str]) -> str:
        run = match.group()
        return " " + " ".join([*run, *(run[i : i + 2] for i in range(len(run) - 1))]) + " "

    return _CJK_RUN.sub(spell, _THOUSANDS.sub("", _POSSESSIVE.sub("", fold(text))))


def words(text: str) -> list[str]:
    """The words of `text` in order, as search_text spells them, without punctuation."""
    return _WORD.findall(search_text(text))


_IRREGULAR = """
be am; build built; write wrote written; find found; begin began begun; hold held; lead led; take took taken
give gave given; make made; win won; rise rose risen; buy bought; sell sold sale; teach taught; fly flew flown
grow grew grown growth; run ran; draw drew drawn; stand stood; keep kept; leave left; lose lost loss; come came
become became; fall fell fallen; break broke broken; speak spoke spoken; sing sang sung song; pay paid; spend spent
see saw seen; go went gone; sink sank sunk; know knew known; think thought; live lives life; person people; foot feet
child children; man men; woman women; choose chose; bring brought; catch caught; wear wore worn; eat ate eaten
die died dies dying dead death; lie lay lain lying lies; use used uses using; age aged ages; tie tied ties
lay laid; sleep slept; feel felt; meet met; shoot shot; fight fought; hear heard; send sent; swim swam swum
throw threw thrown; steal stole stolen; wake woke; weave wove woven; shrink shrank; tooth teeth; mouse mice
bear born birth; own owns owned owning owner owners; high height; long length; deep depth; wide width; weigh weight
hot heat; strong strength; far further; fast faster; tall taller tallest; old older oldest; big bigger biggest
"""
_SUFFIXES = ("ments", "ions", "ment", "ings", "ing", "ion", "ors", "ers", "est", "ed", "or", "er", "ly")

# Words that ask for a thing and words that tell it. Light on purpose: a wrong one costs more than a missing one.
_SYNONYMS = """
tall high stand rise tower; long stretch span; wide broad across; old date; heavy weigh mass; fast speed; far distance
hot temperature warm degree; large big size area cover extent; write author pen; compose write
found establish create open set start begin launch inaugurate; build construct complete erect raise
design architect plan engineer; release publish launch issue appear; invent develop devise; make produce manufacture
live inhabitant population resident people home; name call know nickname title; lead head direct chair captain
locate situate lie stand; hold contain house store; seat capacity; cost price pay spend expensive worth; prize award win
receive win; teach professor lecture; marry wife husband; destroy burn fire demolish collapse; end finish close stop
own belong possess buy; employ worker staff; visit visitor tourist; work job profession occupation; first earliest
feed eat food diet prey; colour color shade; colour color paint; find discover
move relocate transfer; journey trip travel voyage
repair restore renovate rebuild; ship boat vessel; car vehicle; steal thief rob; kill murder assassinate
reach arrive; climb ascent summit; sink wreck; baptise christen; king queen reign rule; crown coronation
begin start; use serve; picture paint canvas portrait; propose suggest; train teach; weigh kilogram tonne
"""


@lru_cache(maxsize=1)
def _bases() -> dict[str, str]:
    verbs = [entry.split() for entry in re.split(r"[;\n]", _IRREGULAR) if entry.strip()]
    return {form: base for base, *forms in verbs for form in forms}


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A folded English word without its common endings; forms of one verb meet in one stem ("wrote" -> "write").

    Small on purpose: both sides of a comparison go through it, so a stem need not be a word.
    """
    word = _bases().get(word, word)
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif re.search(r"(s|x|z|ch|sh)es$", word):
        word = word[:-2]
    elif word.endswith("s") and not re.search(r"(ss|us|is)$", word):
        word = word[:-1]
    for suffix in _SUFFIXES:
        base = word.removesuffix(suffix)
        fits = len(base) >= 3 and re.search("[aeiouy]", base) and (not suffix.startswith("ion") or base[-1] in "st")
        if base != word and fits:
            word = base[:-1] if re.search(r"([bdgmnprt])\1$", base) else base
            break
    word = re.sub(r"(?<=[^aeiou])y$", "i", word)
    return word.removesuffix("e") if len(word) > 3 else word


@lru_cache(maxsize=1)
def _synonyms() -> dict[str, frozenset[int]]:
    groups: dict[str, set[int]] = {}
    for number, group in enumerate(re.split(r"[;\n]", _SYNONYMS)):
        for word in group.split():
            groups.setdefault(stem(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in groups.items()}


def likeness(asked: str, said: Iterable[str]) -> float:
    """How well the stem `asked` is met by the stems `said`: 1 itself, 0.7 a synonym, 0.6 a shared beginning, else 0."""
    best = 0.0
    groups = _synonyms().get(asked, frozenset())
    for word in said:
        if word == asked:
            return 1.0
        if groups and not groups.isdisjoint(_synonyms().get(word, frozenset())):
            best = max(best, 0.7)
        elif len(asked) >= 5 and asked[:5] == word[:5]:
            shorter = min(len(asked), len(word))
            if asked[:shorter] == word[:shorter] or asked[: max(6, shorter - 2)] == word[: max(6, shorter - 2)]:
                best = max(best, 0.6)
    return best
