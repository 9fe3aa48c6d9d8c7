"""Citations: which sources an answer cites, and what in it those sources do not hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from .events import Citation, Unsupported
from .gaps import MAX_PIECE, NAME, unanswered
from .query import STOP_WORDS, Query
from .search import SearchResult
from .sentences import split_sentences
from .words import likeness, stem, stems, words

# A Markdown link in three parts, none of which can backtrack far: "[title](", a url (one level of brackets inside it is
# allowed, as Wikipedia's urls have them), and ")" or ' "note")'. Or a bare url.
_HEAD = re.compile(r"\[(?P<title>[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\(\s{0,3}<?")
_URL = re.compile(r"[^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*")
_TAIL = re.compile(r">?(?:\s[^()]{0,300})?\)")
_NO_URL = r"\s<>()\[\]\"'。，、；：！？（）「」『』【】"
_BARE = re.compile(rf"(?<!\w)https?://[^{_NO_URL}]+(?:\([^{_NO_URL}]*\)[^{_NO_URL}]*)*")
_MARKER = re.compile(r"\s*(?:[-*+>]+|#+|\d{1,3}[.)])\s+")  # of a list, a quotation or a heading
_LABEL = re.compile(
    r"[\W\d]*(?:(?:sources?|references?|citations?|see|see also|来源|参考|参考资料|参考文献)[\W\d]*)?", re.I
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"[^\W\d_a-z][\w'’-]*")
_HERE = r"(?:in|by|from|among|with) (?:the|these|those|any|my|this)\b"
_NOT_FOUND = re.compile(
    r"\b(?:I|we)\b[^.?!;,]{0,20}?\b(?:not|cannot|unable to|[a-z]+n['\u2019]t)(?: been)?(?: able to)? ?"
    r"(?:find|found|answer|locate|determine)\b"
    r"|(?:^|[.?!:,]\s+)(?:(?:sorry|unfortunately|but),? )?(?:there (?:is|are|was|were) |(?:unable|not able) to find )?"
    r"(?:no |any )(?:relevant |such |matching )?(?:information|results?|answers?)\b"
    rf"|(?:\bnot|n['\u2019]t)(?: be| been)? (?:found|available|mentioned|determined|stated|given|answered) {_HERE}"
    r"|\b(?:is|are|was|were) not (?:available|mentioned|given|stated)(?=\s*[.!]?\s*$)"
    r"|\b(?:information|answer) (?:was|is|were|are) not (?:found|available|given)\b"
    r"|\b(?:results?|documents?|sources?|pages?) (?:do|does|did) not (?:hold|mention|contain|say|tell|give|answer)\b"
    r"|没有找到|找不到|未找到|无法",
    re.IGNORECASE,
)
_WHICH = re.compile(r"\bwhich\b", re.IGNORECASE)
_WHAT = re.compile(r"\W*(?:what|how|did|does|do|is|are|was|were)\b", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:it|its|he|him|his|she|her|they|them|their)\b", re.IGNORECASE)
_TO_THE_MODEL = re.compile(r"\b(?:you|your|yourself)\b|你|您", re.IGNORECASE)
REPEATED = 0.8  # share of words in the same order that makes a sentence a repetition of another
WORDS_HELD = 0.6  # share of a sentence's content words that its sources must hold; numbers and names: all of them


def check_answer(
    question: str, text: str, results: Sequence[SearchResult], searched: bool,
    last: tuple[str, Sequence[SearchResult]] | None = None,
) -> tuple[list[Citation], list[Unsupported]]:  # fmt: skip
    """The citations of an answer (each url once, in order), and what its sources do not support.

    Checked by words, not by meaning: every url must be one that a search returned; numbers and names of a cited
    sentence must occur in a result that it cites, and most of its other words; what is cited must speak of what was
    asked. Answers that say they found nothing need no source.

    `last`: the query of the last search and what it found. It tells what a part of an answer is about that goes from
    one source to another ("the designer of the bridge" and a birth), and what a pronoun in the question stands for.
    """
    by_url: dict[str, list[SearchResult]] = {}
    for result in results:
        by_url.setdefault(result.url, []).append(result)
    citations: dict[str, Citation] = {}
    unsupported: list[Unsupported] = []
    held: dict[tuple[str, ...], _Held] = {}
    claims: list[tuple[str, tuple[str, ...]]] = []
    for claim, links in _claims(text, by_url):
        for link in links:
            if link.url in by_url:
                citations.setdefault(link.url, Citation(link.title or by_url[link.url][0].title, link.url))
            else:
                reason = "no search of this run returned this url"
                unsupported.append(Unsupported("url", link.title, link.url, reason))
        known = tuple(dict.fromkeys(link.url for link in links if link.url in by_url))
        if not known:
            continue
        claims.append((claim, known))
        if known not in held:
            held[known] = _Held.of([result for url in known for result in by_url[url]])
        titles = [link.title for link in links if link.url in by_url and not _LABEL.fullmatch(link.title)]
        lacks = [(sentence, held[known].lacks(sentence)) for sentence in split_sentences(claim)]
        lacks += [(title, held[known].lacks_number(title)) for title in titles]
        unsupported.extend(Unsupported("sentence", said, known[0], lack) for said, lack in lacks if lack is not None)
    if not is_not_found(text):
        cited = [result for url in citations for result in by_url[url]]
        if not cited and not unsupported and text and (searched or _asks_for_a_fact(question)):
            unsupported.append(Unsupported("uncited", text, None, "the answer cites no source"))
        if cited:  # also where an earlier search's results are cited again
            plain = _without_links(text, citations)
            gap = unanswered(question, plain, cited, results)
            steps = _steps(question, *last, results) if gap is not None and last is not None else []
            if steps:
                # Which result of the last search stands out is a matter of its query, not of the question.
                said = " ".join([plain, *(result.content for result in steps)])
                gap = unanswered(question, said, [*cited, *steps], results, stands_out=False)
            if gap is None and last is not None:
                gap = _strays(question, claims, last, bool(steps))
            if gap is not None:
                unsupported.append(Unsupported("question", text, cited[0].url, gap))
    return list(citations.values()), unsupported


def _steps(
    question: str, query: str, found: Sequence[SearchResult], results: Sequence[SearchResult]
) -> list[SearchResult]:
    """What earlier searches than the last one say of whom that was about, where the question does not name them: the
    results with all names of its query that are not in the question ("the designer of the bridge", then her name), in
    what they say or in a link."""
    names = {word for name in _NAME.findall(query) for word in words(name)}.difference(words(question), STOP_WORDS)
    earlier = list(results)
    for result in found:
        if result in earlier:
            earlier.remove(result)
    return [r for r in earlier if names and names.issubset(words(" ".join((r.title, r.content, *r.links))))]


def _strays(
    question: str,
    claims: Sequence[tuple[str, tuple[str, ...]]],
    last: tuple[str, Sequence[SearchResult]],
    in_steps: bool,
) -> str | None:
    """Why no part of an answer that cites the last search speaks of what it was for; None if one does, or need not."""
    query, found = last
    several = len({urls for _, urls in claims}) > 1
    if not claims or not (in_steps or several or _PRONOUN.search(question)):
        return None
    parts = [(claim, [result for result in found if result.url in urls]) for claim, urls in claims]
    gaps = [unanswered(query, claim, cited, found) for claim, cited in parts if cited]
    if in_steps and not gaps:
        return "the cited result is not of the last search"
    return None if None in gaps else next(iter(gaps), None)


def is_not_found(text: str) -> bool:
    """Whether an answer says that nothing was found, instead of answering."""
    return bool(_NOT_FOUND.search(_without_links(text)))


@dataclass(frozen=True)
class _Link:
    start: int
    end: int
    title: str
    url: str


def _links(text: str, known: Iterable[str] = ()) -> list[_Link]:
    """The links of a text in order. Urls that are `known` may hold spaces and brackets, as names of files do."""
    odd = [url for url in known if re.search(r"[\s()<>]", url)]
    found: list[_Link] = []
    position = 0
    while head := _HEAD.search(text, position):
        position = start = head.end()
        ends = [start + len(url) for url in odd if text.startswith(url, start)]
        match = _URL.match(text, start)
        for end in [*ends, match.end() if match else start]:
            if tail := _TAIL.match(text, end):
                found.append(_Link(head.start(), tail.end(), head["title"], text[start:end]))
                position = tail.end()
                break
    masked = _blanked(text, found)
    for bare in _BARE.finditer(masked):
        url = bare.group().rstrip(".,;:!?*")
        found.append(_Link(bare.start(), bare.start() + len(url), "", url))
    return sorted(found, key=lambda link: link.start)


def _blanked(text: str, links: Sequence[_Link]) -> str:
    parts, position = [], 0
    for link in links:
        parts += [text[position : link.start], " " * (link.end - link.start)]
        position = link.end
    return "".join([*parts, text[position:]])


def _without_links(text: str, known: Iterable[str] = ()) -> str:
    return _blanked(text, _links(text, known))


def _claims(text: str, known: Iterable[str]) -> Iterator[tuple[str, list[_Link]]]:
    """Per paragraph, the text that each group of links stands for, with the group. A list of sources at the end stands
    for the paragraphs that have none."""
    uncited: list[str] = []
    sources: list[_Link] = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[-*\d#>])", text):
        marker = _MARKER.match(paragraph)
        start = behind = marker.end() if marker else 0
        group: list[_Link] = []
        claims: list[tuple[str, list[_Link]]] = []
        for link in _links(paragraph, known):
            between = paragraph[behind : link.start]
            if group and re.search(r"\w", between):
                # "As [A](a) says, it is 5 m tall. It is 6 m wide [B](b).": the first sentence ends with A's words.
                rest = _rest_of_sentence(between)
                claims.append((paragraph[start : group[0].start] + rest, group))
                start, group = behind + len(rest), []
            group.append(link)
            behind = link.end
        if group:
            claims.append((paragraph[start : group[0].start] + " " + paragraph[behind:], group))
        elif not _LABEL.fullmatch(paragraph):
            uncited.append(paragraph[start:])
        for claim, links in claims:
            if _LABEL.fullmatch(claim):
                sources += links
            else:
                yield claim, links
    if sources:
        yield "\n".join(uncited), sources


def _rest_of_sentence(text: str) -> str:
    sentences = split_sentences(text)
    return text[: text.index(sentences[0]) + len(sentences[0])] if len(sentences) > 1 else ""


@dataclass(frozen=True)
class _Held:
    """What sources say: their numbers, and the stems of their words."""

    numbers: frozenset[str]
    stems: frozenset[str]
    sentences: tuple[tuple[str, ...], ...]  # as words

    @classmethod
    def of(cls, sources: Sequence[SearchResult]) -> _Held:
        text = " ".join(f"{source.title} {source.content}" for source in sources)
        numbers = frozenset(number.replace(",", "") for number in _NUMBER.findall(text))
        sentences = (sentence for source in sources for sentence in split_sentences(source.content))
        return cls(numbers, frozenset(stems(text)), tuple(tuple(re.findall(r"\w+", s[:MAX_PIECE])) for s in sentences))

    def lacks_number(self, text: str) -> str | None:
        """Which number of the text they do not hold, as a reason; None if they hold all."""
        for number in _NUMBER.findall(text):
            if number.replace(",", "") not in self.numbers:
                return f"the cited result does not hold the number {number}"
        return None

    def lacks(self, sentence: str) -> str | None:
        """Why they do not hold the sentence; None if they do."""
        if reason := self.lacks_number(sentence):
            return reason
        for name in re.findall(r"(?<=[\w,;:)] )(?:[\"\u201c\u2018'*_(]{0,3})([^\W\d_a-z][^\W_]+)", sentence):
            if name[0].isupper() and any(stem(word) not in self.stems for word in words(name)):
                return f"the cited result does not hold the name {name}"
        content = [stem(word) for word in words(sentence) if word not in STOP_WORDS and not word.isdigit()]
        if content and not is_not_found(sentence):  # whose words are the question's
            share = sum(likeness(word, self.stems) > 0 for word in content) / len(content)
            if share < WORDS_HELD:
                return f"the cited result holds {share:.0%} of the sentence's words"
        return self._garbles(re.findall(r"\w+", sentence[:MAX_PIECE]))

    def _garbles(self, said: Sequence[str]) -> str | None:
        """Whether a sentence repeats one of theirs, but for a name in whose place it has words that they lack."""
        for known in self.sentences:
            match = SequenceMatcher(None, known, said, autojunk=False)
            if match.real_quick_ratio() < REPEATED or match.quick_ratio() < REPEATED or match.ratio() < REPEATED:
                continue
            for change, a, b, c, d in match.get_opcodes():
                names = [word for word in known[a:b] if a and word[0].isupper()]
                foreign = [word for word in said[c:d] if not stems(word) <= self.stems]
                if change == "replace" and names and foreign:
                    return f"the cited result says {names[0]} where the sentence says {foreign[0]}"
        return None


def _asks_for_a_fact(question: str) -> bool:
    """Whether a question wants a person, a date, a measure, ..., or something of what it names, and does not speak to
    the model about itself."""
    wants = set(Query.parse(question).wants) - {"description"}
    named = _WHAT.match(question) and NAME.search(question)
    return bool(wants or named or _WHICH.search(question)) and not _TO_THE_MODEL.search(question)
