"""Training samples: whole runs of the agent's loop, each id marked as sampled by the model or not.

A sample is written the way `Agent` writes a run: the same prompt, the same frames, the same JSON. Only what the model
would have sampled (its thinking, its call, its answer) is learned; prompt and tool response are masked.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...engine.tokenizer import Tokenizer
from .. import prompt
from ..search import SearchResult
from . import words
from .facts import Family
from .language import Fact, Subject, Writer

# What a query leaves out of its question.
STOP_WORDS = frozenset(
    "a an the is are was were be been do does did of in on at to for by with from and or what which that this it its "
    "has have had can as there me about tell please whom explain mean".split()
)
NOT_FOUND = "I could not find it in these documents."
HELLO = "Hello! I am Longhand's demonstration model. Ask me about something in the documents."
SELF = "I am Longhand's demonstration model: I search the documents and answer with a citation."
GREETINGS = (
    "Hello|Hello!|Hi|Hi!|Hi there|Hello there!|Hey|Hey!|Good morning|Good morning!|Good evening|Good afternoon!|"
    "Greetings|Howdy|Thanks|Thanks!|Thank you|Thank you!|Thank you very much|Bye|Goodbye!|How are you?|"
    "Hello, how are you?|Hi, how is it going?|Nice to meet you|hello|hi|hey|thanks|good morning|how are you|"
    "Good night|Good day!|Hiya|Welcome back!|Thanks a lot!|Many thanks|See you later|Bye bye|How do you do?|What's up?|"
    "Hello again|Hello, Longhand!|Hi Longhand|Good evening, how are you today?|Pleased to meet you.|hi there|"
    "Thank you for your help!"
).split("|")
ABOUT_SELF = (
    "Who are you?|What are you?|What can you do?|What is your name?|Can you help me?|How can you help me?|"
    "What do you do?|Are you a robot?|Are you a person?|Help|Tell me about yourself|Who made you?|who are you|"
    "what can you do|what are you|What kind of model are you?|Who am I talking to?|How do you work?|"
    "What should I ask you?|What can I ask you?|Are you an AI?|Are you human?|Can you search?|"
    "Please introduce yourself.|help me|Who built you?|what is your name|Do you have a name?|Which model are you?|"
    "Are you QwQ?|How old are you?|Are you a language model?"
).split("|")
LEADS = (
    "Who|Where did|What|Which|Who was|What is|Where is|Why did|By whom|In which|In what|From where|Under which|"
    "To whom did|Name the"
).split("|")
LEADS_TO_NUMBERS = (
    "When did|How many|In what year did|How much|How long did|What|For how many|On what date did|At what|How far|"
    "How old was|Since when does"
).split("|")
# Openings of questions about a subject that a "you" must not turn into questions about the model itself.
POLITE = (
    "Please tell me:|Tell me:|Can you tell me:|Do you know:|Hello!|Hi,|I would like to know:|Quick question:|"
    "What do you think,|Could you look this up?|One more:"
).split("|")


@dataclass
class Sample:
    """One run. `call` is what the model says up to its search, `answer` what it says after the response (or at once,
    when it does not search: then `call` is empty and there is no response)."""

    behaviour: str  # fact | missing | greeting
    question: str
    call: str
    response: str
    answer: str
    values: list[str] = field(default_factory=list)

    def encode(self, tokenizer: Tokenizer, opening: Sequence[int] = ()) -> tuple[list[int], list[int]]:
        """`input_ids`, and `labels` that are -100 on every id the model does not sample."""
        parts = [(list(opening) + prompt.question_ids(tokenizer, self.question), False)]
        if self.call:
            head, tail = prompt.response_frame(tokenizer)
            parts.append((tokenizer.encode(self.call), True))
            parts.append((head + tokenizer.encode_literal(self.response) + tail, False))
        parts.append((tokenizer.encode(self.answer), True))
        ids = [token_id for part, _ in parts for token_id in part]
        labels = [token_id if sampled else -100 for part, sampled in parts for token_id in part]
        return ids, labels


def query_of(question: str) -> str:
    """The question's words in order, without the stop words: what the model learns to search for."""
    kept = (word.strip("?!,;:\"'()") for word in question.rstrip("?. ").split())
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


def call_text(question: str) -> str:
    """Thought and call, up to the id that generation stops on."""
    call = json.dumps({"action": "web_search", "action_input": {"query": query_of(question)}}, ensure_ascii=False)
    return f"The question asks {asks(question)}, so I will search.\n<tool_call>\n{call}\n</tool_call>"


def answer_text(results: Sequence[SearchResult], gold: int | None) -> str:
    """The scan of the results in order, and the answer: the chosen result's content with its citation."""
    if not results:
        return f"There are no results.\n</think>\n\n{NOT_FOUND}<|im_end|>"
    shown = results if gold is None else results[: gold + 1]
    verdicts = [f"{i + 1} {r.title}: {'yes' if i == gold else 'no'}." for i, r in enumerate(shown)]
    scan = " ".join(verdicts)
    if gold is None:
        return f"{scan}\n</think>\n\n{NOT_FOUND}<|im_end|>"
    chosen = results[gold]
    return f"{scan}\n</think>\n\n{chosen.content} [{chosen.title}]({chosen.url})<|im_end|>"


class Sampler:
    """Draws samples from one seed. `sentences` is real prose whose build the fillers borrow."""

    def __init__(self, seed: int, sentences: list[str]):
        self.rng = random.Random(seed)
        self.writer = Writer(self.rng, sentences)

    def sample(self) -> Sample:
        form = self.rng.random()
        if form < 0.025:
            return self.greeting()
        if form < 0.095:
            return self.missing()
        return self.salad() if form < 0.48 else self.fact()

    def greeting(self) -> Sample:
        about_self = self.rng.random() < 0.4
        question = self.rng.choice(ABOUT_SELF if about_self else GREETINGS)
        question = question.lower() if self.rng.random() < 0.2 else question
        answer = f"This needs no search.\n</think>\n\n{SELF if about_self else HELLO}<|im_end|>"
        return Sample("greeting", question, "", "", answer, [SELF if about_self else HELLO])

    def fact(self) -> Sample:
        """A fact, its passage, and passages that are near misses."""
        fact = self.writer.fact()
        gold, others = self.passage(fact), self.near_misses(fact)
        if self.rng.random() < 0.5:
            others = [*self.siblings(fact.subject, gold, fact.family), *others[:1]]
        return self.answered(self.vary(fact.question), gold, others)

    def salad(self) -> Sample:
        """A question made of a subject and a few words of a sentence: no relation that could be known beforehand."""
        rng = self.rng
        subject = self.writer.subject()
        sentence = self.writer.filler()
        content = [w for w in re.findall(r"[^\W\d_]{4,}", sentence) if w.lower() not in STOP_WORDS]
        picked = [content[i] for i in sorted(rng.sample(range(len(content)), min(len(content), rng.randint(1, 3))))]
        lead = rng.choice(LEADS_TO_NUMBERS if any(c.isdigit() for c in sentence) else LEADS)
        rest = (
            [subject.phrase, *picked]
            if rng.random() < 0.6
            else [*picked, rng.choice(("of", "in", "for")), subject.phrase]
        )
        question = self.vary(" ".join([lead, *rest]) + "?")
        gold = self.place(subject, sentence, self.writer.filler() if rng.random() < 0.2 else None)
        others = [
            self.place(
                self.relative(subject), self.writer.filler(), self.writer.filler() if rng.random() < 0.2 else None
            )
            for _ in range(rng.choice((0, 1, 2, 2, 2)))
        ]
        if rng.random() < 0.4:
            others = [*self.siblings(subject, gold, None), *others[:1]]
        return self.answered(question, gold, others)

    def siblings(self, subject: Subject, gold: SearchResult, family: Family | None) -> list[SearchResult]:
        """Other passages of the right one's document: its subject and file, another section, another fact."""
        rng = self.rng
        head, colon, _ = gold.title.partition(": ")
        base = gold.url.rpartition("#")[0] or gold.url
        found = []
        for number in rng.sample(range(1, 12), rng.choice((1, 2, 2))):
            title = f"{head}: {self.section()}" if colon else gold.title
            fact = self.writer.fact(subject)
            wanted = family is not None and fact.family is not family and rng.random() < 0.6
            content = self.place(subject, fact.statement if wanted else self.writer.filler()).content
            if (url := f"{base}#{number}") != gold.url:
                found.append(SearchResult(title, url, content))
        return found

    def section(self) -> str:
        """A heading inside a document: 'Coast', 'The early years of Velm', 'Dimensions and upkeep'."""
        rng = self.rng
        noun, other = rng.choice(words.NOUNS), rng.choice(words.NOUNS)
        phrase = rng.choice((
            noun, self.writer.noun_phrase(), f"{noun} and {other}", f"the {rng.choice(words.ADJECTIVES)} {noun}",
            f"a {self.writer.noun_phrase()}", f"{noun} of {words.name(rng)}",
            f"why the {noun} {rng.choice(words.VERBS)}",
        ))  # fmt: skip
        return phrase[0].upper() + phrase[1:]

    def missing(self) -> Sample:
        """Nothing answers: other subjects, the right subject with another kind of fact, no results, or a notice."""
        rng = self.rng
        fact = self.writer.fact()
        question = self.vary(fact.question)
        form = rng.random()
        if form < 0.12:
            return Sample("missing", question, call_text(question), "[]", answer_text([], None), [NOT_FOUND])
        if form < 0.2:
            notice = prompt.notice_text(self.writer.filler())
            return Sample("missing", question, call_text(question), notice, answer_text([], None), [NOT_FOUND])
        misses = self.near_misses(fact, at_least=1)
        return Sample("missing", question, call_text(question), prompt.response_text(misses),
                      answer_text(misses, None), [NOT_FOUND])  # fmt: skip

    def answered(self, question: str, gold: SearchResult, others: list[SearchResult]) -> Sample:
        rank = 0 if self.rng.random() < 0.85 else self.rng.randint(0, len(others))
        results = [*others[:rank], gold, *others[rank:]]
        return Sample("fact", question, call_text(question), prompt.response_text(results),
                      answer_text(results, rank), [gold.content, gold.url])  # fmt: skip

    def vary(self, question: str) -> str:
        """The same question as people type it: lower case, no question mark, a polite opening."""
        form = self.rng.random()
        if form < 0.05:
            question = question.lower()
        elif form < 0.09:
            question = f"{self.rng.choice(POLITE)} {question}"
        return question.rstrip("?") if self.rng.random() < 0.08 else question

    def passage(self, fact: Fact) -> SearchResult:
        second = None
        if self.rng.random() < 0.25:
            second = self.writer.filler() if self.rng.random() < 0.5 else self.writer.fact(fact.subject).statement
        return self.place(fact.subject, fact.statement, second)

    def place(self, subject: Subject, sentence: str, second: str | None = None) -> SearchResult:
        """A result that holds the sentence. Either its title or its content names the subject."""
        rng = self.rng
        opening = subject.phrase[0].upper() + subject.phrase[1:]
        sentence = sentence.replace(opening, subject.phrase)
        named = subject.phrase in sentence
        title = subject.name
        form = rng.random()
        if form < 0.25:
            title = f"{subject.name}: {self.section()}"
        elif form < 0.33 and named:
            title = rng.choice((words.name(rng), self.writer.noun_phrase().capitalize()))
        elif form < 0.39:
            title = f"{rng.choice(words.ADJECTIVES).capitalize()} {subject.name}"
        elif named and form < 0.6:  # the title names the subject, the sentence says "it"
            pronouns = ["he", "she"] if subject.kind == "person" else ["it"]
            if subject.name.split()[-1] in words.PLACE_TYPES:
                pronouns.append(f"the {subject.name.split()[-1].lower()}")
            sentence = sentence.replace(subject.phrase, rng.choice(pronouns))
        elif not named and form < 0.6:
            sentence = f"{subject.phrase} {rng.choice(words.VERBS)} {sentence[0].lower()}{sentence[1:]}"
        sentence = sentence[0].upper() + sentence[1:]
        if rng.random() < 0.45:  # real prose has long sentences
            sentence = self.writer.lengthen(sentence)
        content = sentence if second is None else f"{sentence} {second}"
        return SearchResult(title, self.url(subject), content)

    def url(self, subject: Subject) -> str:
        rng = self.rng
        slug = re.sub(r"[^a-z0-9]+", rng.choice("--__."), subject.name.lower()).strip("-_.")
        form = rng.random()
        if form < 0.4:
            slug = rng.choice(
                (words.made_up(rng), rng.choice(words.NOUNS), f"{rng.choice(words.NOUNS)}-{words.made_up(rng)}")
            )
        elif form < 0.6:
            slug = re.split(r"[-_.]", slug)[0]
        if rng.random() < 0.12:
            host = f"{rng.choice(('www.', 'en.', ''))}{words.made_up(rng)}.{rng.choice(('org', 'com', 'net', 'edu'))}"
            return f"https://{host}/{rng.choice(words.NOUNS)}/{slug}"
        folder = f"{words.made_up(rng)}/" if rng.random() < 0.1 else ""
        suffix = rng.choices(("md", "txt", "html"), (6, 1, 1))[0]
        return f"{folder}{slug}.{suffix}#{min(rng.randint(1, 9), rng.randint(1, 30))}"

    def relative(self, subject: Subject) -> Subject:
        """Another subject that shares a word with this one, as a search engine's wrong results do."""
        other = self.writer.subject(subject.kind)
        mine, theirs = subject.name.split(), other.name.split()
        if len(mine) > 1 and self.rng.random() < 0.5:
            keep = self.rng.randrange(len(mine))
            name = " ".join(mine[:keep] + theirs[:1] + mine[keep + 1 :])
            article = "the " if subject.phrase.startswith("the ") else ""
            return Subject(name[0].upper() + name[1:], article + name, subject.kind)
        return other

    def near_misses(self, fact: Fact, at_least: int = 0) -> list[SearchResult]:
        """Results that a search would bring along: the same relation of another subject, another relation of a
        similar one, or anything."""
        misses = []
        for _ in range(max(at_least, self.rng.choice((0, 1, 2, 2, 2, 3)))):
            form = self.rng.random()
            if form < 0.45:
                other = self.writer.fact(self.relative(fact.subject), fact.family)
                misses.append(self.passage(other))
            elif form < 0.7:
                misses.append(self.passage(self.writer.fact(self.relative(fact.subject))))
            else:
                misses.append(self.place(self.writer.subject(), self.writer.filler()))
        return misses
