"""Words: how the index and the ranking spell them, their stems, and how alike two of them are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

CJK_RUN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")  # kana, Han, Hangul
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

    return CJK_RUN.sub(spell, _THOUSANDS.sub("", _POSSESSIVE.sub("", fold(text))))


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
die died dies dying dead death; lie lay lain laid lying lies lays laying; use used uses using; age aged ages; tie tied
sleep slept; feel felt; meet met; shoot shot; fight fought; hear heard; send sent; swim swam swum
throw threw thrown; steal stole stolen; wake woke; weave wove woven; shrink shrank; tooth teeth; mouse mice
bear born birth; own owns owned owning owner owners; high height; long length; deep depth; wide width; weigh weight
hot heat; strong strength; far further; fast faster; tall taller tallest; old older oldest; big bigger biggest
drive drove driven; ride rode ridden; dig dug; leap leapt; strike struck; seek sought; hang hung; hide hid hidden
blow blew blown; bite bit bitten; tear tore torn; swear swore sworn; freeze froze frozen; spin spun; shine shone
lend lent; feed fed; flee fled; breed bred; bind bound; wing wings; say said; tell told; cling clung
"""
_INFLECTIONS = ("ings", "ing", "ed")
_DERIVATIONS = ("ments", "ions", "ment", "ion", "ors", "ers", "est", "or", "er", "ly")

# Words that tell what other words ask for. Light on purpose: a wrong one costs more than a missing one.
_SYNONYMS = """
open inaugurate; begin start commence; start launch; founded establish create; build construct erect raise
finish complete end; end close stop; write author pen compose; design architect plan
release publish issue appear print; invent develop devise; find discover; discover describe; make produce manufacture
use serve; bring carry; live inhabit dwell stay nest; inhabitant population resident people person; birthplace born
only single sole; first earliest; now today current; large big; captain skipper commander command
lead head direct chair; reign rule; crown coronation; locate situate lie stand; bury tomb grave
hold contain house store keep; cost price pay spend expensive worth; win receive award; award prize
teach professor lecture; train teach; marry wife husband; destroy demolish; own belong possess; buy purchase
employ worker staff workman; visit visitor tourist; work job profession occupation; feed eat food diet prey
colour color shade; weigh heavy mass kilogram tonne; hurt injure wound; doctor physician; steal thief rob
kill murder assassinate; repair restore renovate rebuild; move relocate transfer; gather collect; reach arrive
depart leave; climb ascent; journey trip travel voyage; ship boat vessel steamer; car vehicle; propose suggest
baptise christen; photograph photo picture; paint picture; wife bride spouse; husband groom spouse
catch capture seize arrest; grow cultivate plant; pay buy; tame domesticate; frigate ship; engine locomotive
found founded; moon satellite; post position; statue sculpture bust monument; prison jail gaol; castle fortress
railway railroad; degree graduate; die perish fatal; illness disease sickness; mountain peak; film movie; soldier troop
work teach post; study attend; teach study; study student; give award; climb summit; climb top; explore reach
keep show; keep display; emigrate leave; emigrate move; begin launch; famous know
buy sell; found start; rule king; rule queen; rule govern; govern mayor
create propose invent develop; breed nest; belong part; destroy burn
source rise begin; end flow; succeed successor; succeed follow; sponsor pay; sponsor fund
compose music; visit draw; visit attract; carve sculptor; carve sculpture; die kill; lie bury; language speak
find locate; launch appear; mouth flow
irish ireland; english england; british britain; scottish scot scotland; welsh wales; french france; german germany
dutch netherlands holland; belgian belgium; swiss switzerland; austrian austria; italian italy; spanish spain spaniard
portuguese portugal; danish dane denmark; swedish swede sweden; norwegian norway; finnish finn finland
icelandic iceland; polish pole poland; czech bohemia bohemian; hungarian hungary; romanian romania; bulgarian bulgaria
greek greece; turkish turk turkey; russian russia; ukrainian ukraine; american america; canadian canada
mexican mexico; brazilian brazil; argentine argentinian argentina; chilean chile; peruvian peru; egyptian egypt
ethiopian ethiopia; african africa; asian asia; european europe; indian india; chinese china; japanese japan
korean korea; vietnamese vietnam; thai thailand; indonesian indonesia; australian australia; persian persia iran iranian
israeli israel; arab arabia arabian; norse viking; roman rome; athenian athens; venetian venice; parisian paris
"""
# And words that often stand near: good enough to find a sentence, not to say that it speaks of what was asked.
_RELATED = """
tall high stand rise tower; long stretch span; wide broad across; old date; fast speed; far distance; sink wreck
founded establish create open set start begin launch inaugurate; hot temperature warm degree
large big size area cover extent; build construct complete erect raise; design architect plan engineer
release publish launch issue appear; live inhabitant population resident people home; king queen reign rule
name call know nickname title; lead head direct chair captain; seat capacity; prize award win receive
destroy burn fire demolish collapse; end finish close stop; own belong possess buy; colour color paint
climb ascent summit; picture paint canvas portrait; bury cemetery churchyard grave lie rest tomb crypt
die kill death poison drown shoot murder; father mother parent son daughter; disappear vanish lose miss
rich wealth fortune money sum; stone granite marble limestone sandstone; clergyman priest reverend vicar
trade apprentice; fly flight air; language translate; animal creature species; sport game match
know famous celebrated renowned; succeed successor replace took; study student teach subject; visit visitor draw
spring source rise begin; capital seat; show display keep exhibit
"""


def _entries(text: str) -> list[list[str]]:
    return [entry.split() for entry in re.split(r"[;\n]", text) if entry.strip()]


@lru_cache(maxsize=1)
def _bases() -> dict[str, str]:
    return {form: base for base, *forms in _entries(_IRREGULAR) for form in forms}


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
    for suffixes in (_INFLECTIONS, _DERIVATIONS):
        for suffix in suffixes:
            base = word.removesuffix(suffix)
            fits = len(base) >= 3 and re.search("[aeiouy]", base) and (not suffix.startswith("ion") or base[-1] in "st")
            if base != word and fits:
                word = base[:-1] if re.search(r"([bdgmnprt])\1$", base) else base
                break
    word = re.sub(r"(?<=[^aeiou])y$", "i", word)
    return re.sub("(?<!e)e$", "", word) if len(word) > 3 else word


def stems(text: str) -> set[str]:
    """The stems of the words of `text`."""
    return set(map(stem, words(text)))


@lru_cache(maxsize=2)
def _groups(related: bool) -> dict[str, frozenset[int]]:
    groups: dict[str, set[int]] = {}
    for number, group in enumerate(_entries(_SYNONYMS + (_RELATED if related else ""))):
        for word in group:
            groups.setdefault(stem(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in groups.items()}


@lru_cache(maxsize=65536)
def synonyms(word: str) -> tuple[str, ...]:
    """The words that stand in one group with a folded word: "irish", "ireland"."""
    return tuple(other for group in _entries(_SYNONYMS) if word in group for other in group if other != word)


def likeness(asked: str, said: Iterable[str], related: bool = True) -> float:
    """How well the stem `asked` is met by the stems `said`: 1 itself, 0.7 a synonym, 0.6 a shared beginning, else 0.

    `related`: words that often stand near count as synonyms. Without, the last part of a compound counts 0.6.
    """
    best = 0.0
    table = _groups(related)
    groups = table.get(asked, frozenset())
    for word in said:
        if word == asked:
            return 1.0
        if groups and not groups.isdisjoint(table.get(word, frozenset())):
            best = max(best, 0.7)
        elif not related and len(asked) > 2 and len(word) - len(asked) > 2 and word.endswith(asked):
            best = max(best, 0.6)  # "bee", "honeybee"
        elif len(asked) >= 5 and asked[:5] == word[:5]:
            shorter = min(len(asked), len(word))
            whole = asked[:shorter] == word[:shorter] and (shorter > 5 or len(asked) + len(word) < 12)
            if whole or asked[: max(6, shorter - 2)] == word[: max(6, shorter - 2)]:
                best = max(best, 0.6)
    return best
