"""Citations: which sources an answer cites, and what in it those sources do not hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .events import Citation, Unsupported
from .query import STOP_WORDS, Query
from .search import SearchResult
from .sentences import split_sentences
from .words import likeness, stem, words

# A Markdown link (one level of brackets inside its url is allowed, as Wikipedia's urls have them), or a bare url.
_LINK = re.compile(
    r"\[(?P<title>[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]"
    r"\(\s*<?(?P<url>[^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*)>?[^()]*\)"
)
_BARE = re.compile(r"(?<![(\w])https?://[^\s<>()\[\]\"']+[^\s<>()\[\]\"'.,;:!?]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NOT_FOUND = re.compile(
    r"(could not|couldn't|cannot|can't|did not|didn't|unable to|not able to) (find|answer|locate|determine)"
    r"|(was|is|were|are) not (found|available|mentioned)|no (relevant |such )?(information|results?|answer)"
    r"|没有找到|找不到|未找到|无法",
    re.IGNORECASE,
)
WORDS_HELD = 0.6  # share of a sentence's content words that its sources must hold; numbers and names: all of them
QUESTION_HELD = 0.5  # share of the question's words that the cited result or the answer must speak of


def check_answer(
    question: str, text: str, results: Sequence[SearchResult], searched: bool
) -> tuple[list[Citation], list[Unsupported]]:
    """The citations of an answer (each url once, in order), and what its sources do not support.

    Checked by words, not by meaning: every url must be one that a search returned; numbers and names of a cited
    sentence must occur in a result that it cites, and most of its other words; what is cited must speak of what was
    asked. Answers that say they found nothing need no source.
    """
    by_url: dict[str, list[SearchResult]] = {}
    for result in results:
        by_url.setdefault(result.url, []).append(result)
    citations: dict[str, Citation] = {}
    unsupported: list[Unsupported] = []
    for claim, urls in _claims(text):
        sources: list[SearchResult] = []
        for title, url in urls:
            if url in by_url:
                citations.setdefault(url, Citation(title or by_url[url][0].title, url))
                sources.extend(by_url[url])
            else:
                unsupported.append(Unsupported("url", title, url, "no search of this run returned this url"))
        if not sources:
            continue
        unsupported.extend(
            Unsupported("sentence", sentence, sources[0].url, reason)
            for sentence in split_sentences(claim)
            if (reason := _missing(sentence, sources)) is not None
        )
    if searched and not is_not_found(text):
        cited = [result for url in citations for result in by_url[url]]
        if not cited and not unsupported and text:
            unsupported.append(Unsupported("uncited", text, None, "the answer cites no source"))
        reason = _unasked(question, text, cited) if cited else None
        if reason is not None:
            unsupported.append(Unsupported("question", text, cited[0].url, reason))
    return list(citations.values()), unsupported


def is_not_found(text: str) -> bool:
    """Whether an answer says that nothing was found, instead of answering."""
    return bool(_NOT_FOUND.search(_LINK.sub("", text)))


def _claims(text: str) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """Per paragraph, the text before each group of links, with the (title, url) pairs of the group."""
    for paragraph in re.split(r"\n\s*\n|\n(?=[-*\d#>])", text):
        links = [(m.start(), m.end(), m["title"], m["url"]) for m in _LINK.finditer(paragraph)]
        taken = [range(start, end) for start, end, *_ in links]
        links += [
            (m.start(), m.end(), "", m.group())
            for m in _BARE.finditer(paragraph)
            if not any(m.start() in span for span in taken)
        ]
        group: list[tuple[int, str, str]] = []
        start = behind = 0
        for begin, end, title, url in sorted(links):
            if group and re.search(r"\w", paragraph[behind:begin]):
                yield paragraph[start : group[0][0]], [(t, u) for _, t, u in group]
                start, group = behind, []
            group.append((begin, title, url))
            behind = end
        if group:
            # Words behind the last link up to the sentence's end belong to it: "As [A](b) says, it is 5 m tall."
            rest = paragraph[behind:]
            yield paragraph[start : group[0][0]] + " " + rest, [(t, u) for _, t, u in group]


def _missing(sentence: str, sources: Sequence[SearchResult]) -> str | None:
    """Why the sources do not hold the sentence; None if they do."""
    held = " ".join(f"{source.title} {source.content}" for source in sources)
    numbers = {n.replace(",", "") for n in _NUMBER.findall(held)}
    for number in _NUMBER.findall(sentence):
        if number.replace(",", "") not in numbers:
            return f"the cited result does not hold the number {number}"
    stems = {stem(word) for word in words(held)}
    names = re.findall(r"(?<=[\w,;:)] )[^\W\d_a-z][^\W\d_]{2,}", sentence)
    for name in names:
        if any(stem(word) not in stems for word in words(name)):
            return f"the cited result does not hold the name {name}"
    content = [stem(word) for word in words(sentence) if word not in STOP_WORDS and not word.isdigit()]
    if content:
        share = sum(likeness(word, stems) > 0 for word in content) / len(content)
        if share < WORDS_HELD:
            return f"the cited result holds {share:.0%} of the sentence's words"
    return None


def _unasked(question: str, text: str, cited: Sequence[SearchResult]) -> str | None:
    """Why the cited results do not speak of what was asked; None if they do."""
    asked = Query.parse(question)
    held = " ".join([text, *(f"{result.title} {result.content}" for result in cited)])
    said = {stem(word) for word in words(held)}
    # Names identify the subject, so each must occur; other words may be told in other words.
    names = re.findall(r"(?<=[^.?!] )[^\W\d_a-z][\w-]{2,}", question)
    for name in names:
        if all(likeness(stem(word), said) == 0 for word in words(name)):
            return f"the cited result does not speak of {name}"
    content = [word for word in asked.stems if word not in asked.asking]
    if content:
        share = sum(likeness(word, said) > 0 for word in content) / len(content)
        if share < QUESTION_HELD:
            return f"the cited result speaks of {share:.0%} of the question's words"
    if asked.wants and asked.fit(text, {stem(word) for word in words(question)}) == 0:
        return f"the answer holds no {asked.wants[0]}, which was asked for"
    return None
