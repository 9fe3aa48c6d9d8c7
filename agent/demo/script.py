"""What the built-in model says, word for word: its thoughts, calls, scans and answers. Training teaches these texts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ..calls import parse_calls
from ..search import SearchResult

# What a query leaves out of its question.
STOP_WORDS = frozenset(
    "a an the is are was were be been do does did of in on at to for by with from and or what which that this it its "
    "has have had can as there me about tell please whom explain mean describe".split()
)
NOT_FOUND = "I could not find it in these documents."
REST = "I could not find the rest in these documents."
HELLO = "Hello! I am Longhand's demonstration model. Ask me about something in the documents."
SELF = "I am Longhand's demonstration model: I search the documents and answer with a citation."
ENGLISH = "I understand English only. Please ask in English."
MALFORMED = "I will write the call again."
SHORTER = "I will try a shorter query."


def query_of(question: str) -> str:
    """The question's words in order, without the stop words: what the model learns to search for."""
    kept = (word.strip("?!,;:\"'()[]=|") for word in question.rstrip("?. ").split())
    return " ".join(word for word in kept if word and word.lower() not in STOP_WORDS)


def asks(question: str) -> str:
    """What kind of answer the question wants, in its own words: 'when', 'how many', 'which', ..."""
    lower = re.findall(r"[\w-]+", question.lower())
    for index, word in enumerate(lower):
        if word == "how" and index + 1 < len(lower):
            return f"how {lower[index + 1]}"
        if word in ("who", "whom", "when", "where", "what", "which", "why"):
            return word
    return "about something"


def call(query: str) -> str:
    """A call, up to the id that generation stops on."""
    arguments = json.dumps({"action": "web_search", "action_input": {"query": query}}, ensure_ascii=False)
    return f"<tool_call>\n{arguments}\n</tool_call>"


def query_in(said: str) -> str:
    """The query of the call that a round ends with."""
    return parse_calls(said.split("<tool_call>")[1].split("</tool_call>")[0])[0].query


def search_for(question: str) -> str:
    """The first thought and call of a question of one hop."""
    return f"The question asks {asks(question)}, so I will search.\n{call(query_of(question))}"


# Thoughts in steps repeat what stands near, behind marks that stand nowhere else: "|" begins the question, "[" the part
# of it that has to be found, "[=" what that is, and "]" the rest. A small model copies behind a mark; it cannot take a
# question apart twice. What is found is mostly one of the result's links: it need not choose a name out of a sentence.


def search_for_first(question: str, phrase: str) -> str:
    """The first thought and call of a question of two hops: `phrase`, a part of the question, has to be found first."""
    marked = question.replace(phrase, f"[{phrase}]", 1)
    return f"The question asks {asks(question)}, in two steps | {marked}\n{call(query_of(phrase))}"


def search_for_same(question: str, name: str) -> str:
    """The first thought and call of a question that names its subject by a pronoun; `question` has a mark, "[= ...]",
    with the name there."""
    return f"The question asks {asks(question)}, about the same = {name} | {question}\n{call(query_of(question))}"


def scan(results: Sequence[SearchResult], gold: int | None) -> str:
    """The results in order, each with what it lacks and its verdict, up to the one that is chosen."""
    if not results:
        return "There are no results."
    shown = results if gold is None else results[: gold + 1]
    lacking = (f" lacks {' '.join(result.lacks)}" if result.lacks else "" for result in shown)
    return " ".join(
        f"{i + 1} {result.title}{lacks}: {'yes' if i == gold else 'no'}."
        for i, (result, lacks) in enumerate(zip(shown, lacking, strict=True))
    )


def search_on(scanned: str, question: str, phrase: str, name: str) -> str:
    """The second thought and call of a question of two hops: what `phrase` is, a link of the chosen result or a name in
    it, and the question with that in its place."""
    onward = question.replace(phrase, f"[= {name}]", 1)
    return f"{scanned} [{phrase}] = {name} | {onward}\n{call(query_of(onward))}"


def search_again(seen: Sequence[SearchResult], query: str) -> str:
    """The second thought and call where nothing answered."""
    return f"{scan(seen, None)} {SHORTER}\n{call(query)}"


def shorter(query: str, named: str, seen: Sequence[SearchResult]) -> str | None:
    """A query of fewer words than the last one: the subject with what the first result lacks, or the subject, or the
    end of its name; None if it has no end."""
    name = query_of(named)
    lacked = [word for word in (seen[0].lacks if seen else ()) if word in query and word not in name]
    tries = (" ".join([name, *lacked]), name, name.rpartition(" ")[2])
    return next((one for one in tries if one and len(one.split()) < len(query.split())), None)


def answer(thought: str, text: str) -> str:
    """The end of the thinking, and the answer."""
    return f"{thought}\n</think>\n\n{text}<|im_end|>"


def cited(chosen: SearchResult) -> str:
    """The chosen result's content with its citation."""
    return f"{chosen.content} [{chosen.title}]({chosen.url})"


def partly(chosen: SearchResult) -> str:
    """The same where that is only the first of two steps, and no more searches are allowed."""
    return f"{cited(chosen)} {REST}"
