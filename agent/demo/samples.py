"""Sampler: draws training samples of every behaviour that the built-in model is taught."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection

from .. import prompt
from ..agent import limit_notice
from ..calls import MalformedCallError, parse_calls
from ..search import SearchResult
from . import questions, script, words
from .disguise import drawn
from .facts import Family
from .language import Writer
from .pages import Prose
from .questions import Question
from .reading import Reading
from .sample import Exchange, Round, Sample
from .shelf import Shelf, seen
from .subjects import Subject
from .worlds import Worlds

SHARES = {
    "fact": 0.07, "salad": 0.07, "two hops": 0.07, "missing": 0.03, "found": 0.10, "found on": 0.11, "not there": 0.10,
    "read": 0.21, "read on": 0.09, "unanswered": 0.04, "second search": 0.01, "talk": 0.02, "correction": 0.01,
    "limit": 0.01, "chat": 0.06,
}  # fmt: skip
READING = {"read", "read on", "unanswered"}


class Sampler:
    """Draws samples from one seed, about made-up things and about pages of real prose."""

    def __init__(self, seed: int, prose: Prose, leave_out: Collection[str] = ()):
        """leave_out: behaviours that are not drawn."""
        self.rng = random.Random(seed)
        self.writer = Writer(self.rng, prose.sentences)
        self.shelf = Shelf(self.rng, self.writer)
        self.reading = Reading(self.rng, lambda: drawn(self.rng, prose.themes), 24)
        self.worlds = Reading(self.rng, Worlds(self.writer, self.shelf).drawn, 8)
        self.exchanges: dict[str, Callable[[], Exchange]] = {
            "fact": self.fact, "salad": self.salad, "two hops": self.two_hops, "missing": self.missing,
            "second search": self.found_second, "talk": self.talk, "correction": self.corrected, "limit": self.limited,
            "read": self.reading.fact, "read on": self.reading.two_hops, "unanswered": self.reading.unanswered,
            "found": self.read_closely, "found on": self.worlds.two_hops, "not there": self.worlds.unanswered,
        }  # fmt: skip
        left_out = {*leave_out, *(() if prose.themes else READING)}
        self.drawn = {name: share for name, share in SHARES.items() if name not in left_out}

    def sample(self, behaviour: str | None = None) -> Sample:
        """One of this behaviour, or of any."""
        if behaviour is None:
            (behaviour,) = self.rng.choices([*self.drawn], [*self.drawn.values()])
        return self.chat() if behaviour == "chat" else Sample(behaviour, [self.exchanges[behaviour]()])

    def chat(self) -> Sample:
        """A question, then one or two more: about the same subject, about something else, or thanks."""
        rng = self.rng
        form = rng.random()
        if form < 0.35 and "read" in self.drawn:
            exchange = self.about_page(self.reading)
        else:
            exchange = self.about_page(self.worlds) if form < 0.7 else self.made_up_about()
        exchanges = [exchange(False)]
        for _ in range(rng.choice((1, 1, 2))):
            form = rng.random()
            if form < 0.5:
                exchanges.append(exchange(True))
                if _calls(exchanges[-1:]) & _calls(exchanges[:-1]):
                    exchanges[-1] = self.talk()  # the very same search, which the program would not make twice
            elif form < 0.8:
                others = [name for name in ("fact", "salad", "missing", "two hops", "read") if name in self.drawn]
                exchanges.append(self.exchanges[rng.choice(others or ["fact"])]())
            else:
                exchanges.append(self.talk())
        return Sample("chat", exchanges)

    def made_up_about(self) -> Callable[[bool], Exchange]:
        """Questions about one made-up subject: told whether the one before was about it, too."""
        subject = self.writer.subject()
        return lambda again: self.fact(subject, again)

    def about_page(self, reading: Reading) -> Callable[[bool], Exchange]:
        """Questions about one page, which all of them call the same."""
        page = reading.page()
        while len({asked.named for asked in page.asked}) != 1:
            page = reading.page()

        def exchange(again: bool) -> Exchange:
            tries = (reading.about(page, again) for _ in range(40))
            return next(filter(None, tries), None) or reading.fact()

        return exchange

    # --- one question each --------------------------------------------------------------------------------------

    def talk(self) -> Exchange:
        """What needs no search: a greeting, a question about the model, a question in another language."""
        rng = self.rng
        form = rng.random()
        if form < 0.3:
            thought, question, said = "This is not in English.", questions.in_chinese(rng), script.ENGLISH
        elif form < 0.6:
            thought, question, said = "This needs no search.", rng.choice(questions.ABOUT_SELF), script.SELF
        else:
            thought, question, said = "This needs no search.", rng.choice(questions.GREETINGS), script.HELLO
        question = question.lower() if rng.random() < 0.2 else question
        return Exchange(question, [], script.answer(thought, said))

    def fact(self, subject: Subject | None = None, again: bool = False) -> Exchange:
        """A fact, its passage, and passages that are near misses. `again`: about the subject of the question before,
        which a pronoun may name."""
        rng = self.rng
        if subject is None and rng.random() < 0.22:
            return rng.choice((self.of_a_part, self.of_a_link))()
        fact = self.writer.fact(subject, named=subject.phrase if subject else None)
        gold = self.shelf.passage(fact)
        ranked = self.ranked(gold, self.others(fact.subject, gold, fact.family))
        if again and rng.random() < 0.7:
            person = fact.subject.kind == "person"
            asked = questions.follow_up(rng, fact.question, fact.named, rng.choice(("he", "she")) if person else "it")
            if asked.shown != fact.question:
                return self.found(asked, *ranked, script.search_for_same(asked.clean, fact.named))
        return self.found(questions.asked(rng, fact.question), *ranked)

    def of_a_part(self) -> Exchange:
        """A fact of one hop about a part: "How high is the dome of the Velm Cathedral?" """
        whole = self.writer.subject("building ship device")
        part = self.rng.choice((self.writer.noun_phrase(), self.rng.choice(words.NOUNS)))
        while words.LED_TO.intersection(part.split()):
            part = self.rng.choice(words.NOUNS)
        name = f"{part} of {whole.phrase}"
        fact = self.writer.fact(Subject(name, f"the {name}", "device"))
        gold = self.shelf.place(whole, fact.statement)
        return self.found(questions.asked(self.rng, fact.question),
                          *self.ranked(gold, self.others(whole, gold, fact.family)))  # fmt: skip

    def of_a_link(self) -> Exchange:
        """The first of two hops asked by itself: "Who was the designer of the Velm Bridge?" """
        link = self.writer.link()
        gold = self.shelf.place(link.subject, link.statement)
        asked = questions.asked(self.rng, questions.named(self.rng, link.phrase, link.value.kind == "person"))
        return self.found(asked, *self.ranked(gold, self.others(link.subject, gold, None)))

    def read_closely(self) -> Exchange:
        """A question over made-up pages, mostly one whose right result lacks a word of it, as the wrong ones do."""
        while True:
            exchange = self.worlds.fact()
            chosen = exchange.answer.partition(": yes.")[0].rpartition(": no.")[2]
            if " lacks " in chosen or self.rng.random() < 0.1:
                return exchange

    def salad(self) -> Exchange:
        """A question made of a subject and a few words of a sentence: no relation that could be known beforehand."""
        subject, sentence, asked = self.tossed()
        gold = self.shelf.place(subject, sentence, self.writer.filler() if self.rng.random() < 0.2 else None)
        return self.found(asked, *self.ranked(gold, self.others(subject, gold, None)))

    def two_hops(self) -> Exchange:
        """The first search gives the subject that the second one asks about."""
        rng = self.rng
        link = self.writer.link()
        middle = link.value
        fact = self.writer.fact(middle, named=link.phrase)
        while fact.family.describes:  # "Who was the designer of the bridge?" asks for the first hop
            fact = self.writer.fact(middle, named=link.phrase)
        asked = questions.asked(rng, fact.question)
        phrase = asked.typed(link.phrase)
        gold = self.shelf.place(link.subject, link.statement, self.writer.filler() if rng.random() < 0.15 else None)
        while middle.name.casefold() not in gold.content.casefold():  # another sentence was put into its middle
            gold = self.shelf.place(link.subject, link.statement)
        if rng.random() < 0.92:  # else its page does not exist, and the name is only in the sentence
            gold = self.shelf.leading_to(gold, middle.name)
        first, rank = self.ranked(gold, self.others(link.subject, gold, None))
        said = script.search_for_first(asked.clean, phrase)
        form = rng.random()
        if form < 0.05:  # the first hop leads nowhere
            return self.given_up(asked, [], said, asked.typed(link.named), link.subject)
        one_step = rng.random() < 0.12  # the first thought took it for one; what that found shows that it is not
        said = script.search_for(asked.clean) if one_step else said
        first = seen(said, first)
        rounds = [Round(said, prompt.response_text(first), learned=not one_step)]
        on = script.search_on(script.scan(first, rank), asked.clean, phrase, middle.name)
        if form < 0.1:  # the second one does
            return self.given_up(asked, rounds, on, middle.name, middle)
        rounds.append(Round(on, ""))
        if form < 0.14:  # a limit is reached between them: the answer is what there is
            rounds[1].response = prompt.notice_text(limit_notice(rng.randint(1, 5)))
            return Exchange(asked.shown, rounds, script.answer(script.scan([], None), script.partly(gold)))
        last = self.shelf.passage(fact)
        others = [*self.others(middle, last, fact.family), *([gold] if form < 0.35 else [])]
        second, rank = self.ranked(last, others[-2:])
        second = seen(on, second)
        rounds[1].response = prompt.response_text(second)
        return Exchange(asked.shown, rounds, script.answer(script.scan(second, rank), script.cited(last)))

    def missing(self) -> Exchange:
        """Nothing is found, or nothing that answers, or the search failed."""
        rng = self.rng
        family = None
        if rng.random() < 0.25:
            subject, _, asked = self.tossed()
            named = subject.phrase
        else:
            fact = self.writer.fact()
            subject, named, family = fact.subject, fact.named, fact.family
            asked = questions.asked(rng, fact.question)
        said = script.search_for(asked.clean)
        if rng.random() < 0.03:
            failed = prompt.notice_text(f"The search failed: {self.writer.filler()}")
            return self.given_up(asked, [Round(said, failed)], None, asked.typed(named), subject, family)
        return self.given_up(asked, [], said, asked.typed(named), subject, family)

    def found_second(self) -> Exchange:
        """Nothing that answers is found by the first query; a shorter one finds it."""
        fact = self.writer.fact()
        asked = questions.asked(self.rng, fact.question)
        said = script.search_for(asked.clean)
        first = seen(said, self.shelf.misses(fact.subject, fact.family)) if self.rng.random() < 0.3 else []
        query = script.shorter(script.query_in(said), asked.typed(fact.named), first)
        gold = self.shelf.passage(fact)
        second, rank = self.ranked(gold, self.others(fact.subject, gold, fact.family))
        if query is None:
            return self.found(asked, second, rank)
        again = script.search_again(first, query)
        second = seen(said, second)  # a query with fewer words: what is lacking is told of the first one
        rounds = [Round(said, prompt.response_text(first)), Round(again, prompt.response_text(second))]
        return Exchange(asked.shown, rounds, script.answer(script.scan(second, rank), script.cited(gold)))

    def corrected(self) -> Exchange:
        """A broken call, the program's notice, and the call again, this time whole."""
        exchange = self.fact()
        right = exchange.rounds[0].said
        thought, call = right.split("<tool_call>\n")
        bad, notice = broken_call(self.rng, call.removesuffix("\n</tool_call>"))
        wrong = Round(f"{thought}<tool_call>\n{bad}\n</tool_call>", prompt.notice_text(notice), learned=False)
        exchange.rounds[0].said = f"{script.MALFORMED}\n<tool_call>\n{call}"
        return Exchange(exchange.question, [wrong, *exchange.rounds], exchange.answer)

    def limited(self) -> Exchange:
        """No more searches are allowed: nothing was found."""
        fact = self.writer.fact()
        asked = questions.asked(self.rng, fact.question)
        rounds = [Round(script.search_for(asked.clean), "")]
        if self.rng.random() < 0.5:
            first = self.unhelpful(rounds[0].said, fact.subject, fact.family)
            rounds[0].response = prompt.response_text(first)
            query = script.shorter(script.query_in(rounds[0].said), asked.typed(fact.named), first)
            rounds += [Round(script.search_again(first, query), "")] if query else []
        rounds[-1].response = prompt.notice_text(limit_notice(self.rng.randint(0, 5)))
        return Exchange(asked.shown, rounds, script.answer(script.scan([], None), script.NOT_FOUND))

    # --- parts ----------------------------------------------------------------------------------------------------

    def tossed(self) -> tuple[Subject, str, Question]:
        """A subject, a sentence, and a question of a few of its words."""
        subject, sentence = self.writer.subject(), self.writer.filler()
        idle = script.STOP_WORDS | words.LED_TO
        content = [w for w in re.findall(r"[^\W\d_]{4,}", sentence) if w.lower() not in idle]
        count = self.rng.randint(1, 3)
        picked = [content[i] for i in sorted(self.rng.sample(range(len(content)), min(len(content), count)))]
        return subject, sentence, questions.tossed(self.rng, subject.phrase, picked, any(map(str.isdigit, sentence)))

    def others(self, subject: Subject, gold: SearchResult, family: Family | None) -> list[SearchResult]:
        """What comes along with the right result: its siblings, near misses, or both."""
        misses = self.shelf.near_misses(subject, family, self.rng.choice((0, 1, 2, 2, 2)))
        if self.rng.random() < 0.45:
            return [*self.shelf.siblings(subject, gold, family), *misses[:1]][:2]
        return misses

    def ranked(self, gold: SearchResult, others: list[SearchResult]) -> tuple[list[SearchResult], int]:
        """The right result among others, mostly first, as searches rank it."""
        if self.rng.random() < 0.01:
            order = self.shelf.order()
            others = [*others[:1], SearchResult(gold.title, gold.url + "0", order)]
        rank = 0 if self.rng.random() < 0.9 else self.rng.randint(0, len(others))
        rate = self.rng.choice((0, 0, 0.1, 0.3))  # of the names that have a page
        return [self.shelf.linked(one, rate) for one in (*others[:rank], gold, *others[rank:])], rank

    def found(self, asked: Question, results: list[SearchResult], rank: int, said: str | None = None) -> Exchange:
        """Searched for once and found. `said`: the first thought and call, unless they are the usual ones."""
        said = said or script.search_for(asked.clean)
        results = seen(said, results)
        rounds = [Round(said, prompt.response_text(results))]
        return Exchange(asked.shown, rounds, script.answer(script.scan(results, rank), script.cited(results[rank])))

    def given_up(
        self, asked: Question, rounds: list[Round], said: str | None, named: str, subject: Subject,
        family: Family | None = None,
    ) -> Exchange:  # fmt: skip
        """What is said behind the rounds finds nothing that answers, and a shorter query behind that neither. `said`:
        None where the last round found nothing."""
        found: list[SearchResult] = []
        if said is not None:
            found = self.unhelpful(said, subject, family)
            rounds = [*rounds, Round(said, prompt.response_text(found))]
        query = script.shorter(script.query_in(rounds[-1].said), named, found)
        if query is not None:
            again = script.search_again(found, query)
            # The same passages come again, or others do.
            wider = rounds[-1].said
            found = seen(wider, found) if found and self.rng.random() < 0.5 else self.unhelpful(wider, subject, family)
            rounds = [*rounds, Round(again, prompt.response_text(found))]
        return Exchange(asked.shown, rounds, script.answer(script.scan(found, None), script.NOT_FOUND))

    def unhelpful(self, said: str, subject: Subject, family: Family | None) -> list[SearchResult]:
        """What is found where nothing answers: nothing, or misses."""
        return [] if self.rng.random() < 0.3 else seen(said, self.shelf.misses(subject, family))


def _calls(exchanges: list[Exchange]) -> set[str]:
    return {one.said.partition("<tool_call>")[2] for exchange in exchanges for one in exchange.rounds}


def broken_call(rng: random.Random, call: str) -> tuple[str, str]:
    """A call as a model may garble it, and the notice that the program answers it with."""
    while True:
        cut = rng.randint(1, len(call) - 1)
        text = rng.choice((
            call[:cut], call[cut:], call.replace('"', "", 1), call.replace("query", rng.choice(words.NOUNS)),
            call.replace("web_search", rng.choice(words.NOUNS)), "", rng.choice(words.NOUNS), call.replace(":", "", 1),
        ))  # fmt: skip
        try:
            parse_calls(text)
        except MalformedCallError as error:
            return text, str(error)
