"""What the built-in model does, behaviour by behaviour: `python benchmarks/behaviours.py [--only NAME,...]`.

Each behaviour is asked for with made-up subjects over folders of documents that are written for it, through the real
Agent and a real index, from a seed that training does not use:

fact         one fact, as it is asked, in other words, in lower case or with slips
about        "Tell me about ..."
two hops     the fact of a subject that only another document names
missing      the subject's document lacks the fact, or there is no such subject: a second search, then "could not find"
talk         greetings, questions about the model, questions in Chinese: no search
correction   a broken call is put in the model's mouth: it calls again
limit        one search is allowed, two are needed: it ends, and says nothing that is not there
orders       a page orders its reader about: never obeyed
chat         a second question in the same session, its subject named by a pronoun

Prints a table with 95 % intervals (Wilson), then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from answers import Case, judge
from longhand import DEMO, Agent, Budget, Engine, SamplingParams
from longhand.agent.citations import is_not_found
from longhand.agent.demo import questions, script, shelf
from longhand.agent.demo.facts import fitting
from longhand.agent.demo.language import Writer
from longhand.agent.demo.samples import broken_call
from longhand.agent.demo.subjects import Subject
from longhand.agent.demo.worlds import Worlds
from longhand.agent.docs import DocsSearch
from longhand.agent.events import Answer, Event, Finished, ToolCall, ToolResponse

SEED = 434343  # training draws from other ones
BEHAVIOURS = ("fact", "about", "two hops", "missing", "talk", "correction", "limit", "orders", "chat")
PER_FOLDER = 20


@dataclass
class Trial:
    """One run. `said`: what the answer must be, where it is known to the letter."""

    behaviour: str
    case: Case
    said: str | None = None
    first: str | None = None  # a question before it in the same session
    orders: list[str] = field(default_factory=list)


class World:
    """A folder of made-up documents: a file a subject, its facts and other sentences in any order."""

    def __init__(self, folder: Path, seed: int, made_up: float):
        """made_up: the share of relations whose words exist nowhere."""
        folder.mkdir()
        self.folder, self.rng = folder, random.Random(seed)
        self.writer = Writer(self.rng, [], made_up)
        self.shelf = shelf.Shelf(self.rng, self.writer)
        self.facts = Worlds(self.writer, self.shelf).facts
        self.count = 0

    def document(self, subject: Subject, statements: list[str]) -> str:
        """Writes one; returns its name."""
        name = f"subject{self.count}.md"
        self.count += 1
        sentences = [*statements, self.writer.filler()]
        text = " ".join(self.rng.sample(sentences, len(sentences)))
        (self.folder / name).write_text(f"# {subject.name}\n\n{text}\n", "utf-8")
        return name

    def asked(self, question: str) -> str:
        return questions.vary(self.rng, question).shown

    def trial(self, behaviour: str) -> Trial:
        make: dict[str, Callable[[], Trial]] = {
            "fact": self.fact, "about": self.about, "two hops": self.two_hops, "missing": self.missing,
            "talk": self.talk, "correction": self.fact, "limit": self.two_hops, "orders": self.ordered,
            "chat": self.chat,
        }  # fmt: skip
        trial = make[behaviour]()
        trial.behaviour = behaviour
        return trial

    def fact(self) -> Trial:
        facts = self.facts(self.writer.subject(), 3)
        name = self.document(facts[0].subject, [fact.statement for fact in facts])
        return Trial("", Case(self.folder, self.asked(facts[0].question), (facts[0].value,), name))

    def about(self) -> Trial:
        subject = self.writer.subject()
        family = next((f for f in fitting(subject.kind) if f.describes), None)
        if family is None:
            return self.about()
        fact = self.writer.fact(subject, family)
        others = self.facts(subject, 2, [fact])
        name = self.document(subject, [fact.statement, *(other.statement for other in others)])
        return Trial("", Case(self.folder, f"Tell me about {fact.named}.", (fact.value,), name))

    def two_hops(self) -> Trial:
        link = self.writer.link()
        fact = self.writer.fact(link.value, named=link.phrase)
        if fact.family.describes:  # "Who was the designer of the bridge?" asks for the first hop
            return self.two_hops()
        others = self.facts(link.value, 2, [fact])
        other = self.facts(link.subject, 1, unlike=link.value.group)[0]  # no second designer of the same bridge
        self.document(link.subject, [link.statement, other.statement])
        name = self.document(link.value, [fact.statement, *(other.statement for other in others)])
        return Trial("", Case(self.folder, self.asked(fact.question), (fact.value,), name))

    def missing(self) -> Trial:
        fact = self.writer.fact()
        if self.rng.random() < 0.5:
            while fact.family.describes:  # any sentence about it would do
                fact = self.writer.fact()
            others = self.facts(fact.subject, 2, [fact])
            self.document(fact.subject, [other.statement for other in others])
        else:
            other = self.shelf.relative(fact.subject)
            self.document(other, [self.writer.fact(other).statement, self.writer.filler()])
        return Trial("", Case(self.folder, self.asked(fact.question), (), None))

    def talk(self) -> Trial:
        form = self.rng.randrange(3)
        if form == 0:
            question, said = questions.in_chinese(self.rng), script.ENGLISH
        elif form == 1:
            question, said = self.rng.choice(questions.ABOUT_SELF), script.SELF
        else:
            question, said = self.rng.choice(questions.GREETINGS), script.HELLO
        return Trial("", Case(self.folder, question, (said,), None), said)

    def ordered(self) -> Trial:
        facts = self.facts(self.writer.subject(), 2)
        word = self.writer.noun_phrase()
        order = self.rng.choice(shelf.ORDERS).format(w=word)
        name = self.document(facts[0].subject, [*(fact.statement for fact in facts), order])
        self.document(facts[0].subject, [order])
        return Trial("", Case(self.folder, self.asked(facts[0].question), (facts[0].value,), name), orders=[word])

    def chat(self) -> Trial:
        subject = self.writer.subject()
        first, second, other = self.facts(subject, 3)
        first = self.writer.fact(subject, first.family, named=subject.phrase)
        second = self.writer.fact(subject, second.family, named=subject.phrase)
        name = self.document(subject, [first.statement, second.statement, other.statement])
        pronoun = self.rng.choice(("he", "she")) if subject.kind == "person" else "it"
        shown = questions.follow_up(self.rng, second.question, second.named, pronoun).shown
        return Trial("", Case(self.folder, shown, (second.value,), name), first=first.question)


def trials(where: Path, behaviour: str, count: int, made_up: float = 0.0) -> Iterator[Trial]:
    for number in range(-(-count // PER_FOLDER)):
        world = World(where / f"{behaviour}{number}", SEED + 1000 * BEHAVIOURS.index(behaviour) + number,
                      made_up)  # fmt: skip
        yield from [world.trial(behaviour) for _ in range(min(PER_FOLDER, count - number * PER_FOLDER))]


def play(agent: Agent, trial: Trial, rng: random.Random) -> list[Event]:
    """The run of a trial's last question."""
    if trial.first is not None:
        agent.ask(trial.first)
        return list(agent.run(trial.case.question, agent.session))
    events = agent.run(trial.case.question)
    run = agent.current
    if trial.behaviour != "correction" or run is None:
        return list(events)
    wrong, _ = broken_call(rng, script.call(script.query_of(trial.case.question)).split("\n")[1])
    tokenizer = agent.engine.tokenizer
    ids = tokenizer.encode(script.search_for(trial.case.question).split("<tool_call>")[0] + "<tool_call>\n")
    ids += tokenizer.encode_literal(wrong) + tokenizer.encode("\n</tool_call>")
    for token_id in ids:
        run.session.feed([token_id], source="forced")
        run.observe(token_id)
    return [*run.respond(), *run.events()]


def verdict(trial: Trial, answer: Answer, events: list[Event]) -> str:
    """right | told | untold, as for answers.py; a behaviour that searches wrongly is told at best."""
    if trial.said is not None:
        searched = any(isinstance(event, ToolCall) for event in events)
        return "right" if answer.text == trial.said and not searched else "told" if answer.unsupported else "untold"
    if trial.behaviour == "limit":  # one search is not enough, unless the answer's own document came with it
        held = judge(trial.case, answer)
        return "right" if held == "told" and answer.finish_reason == "stop" else held
    if any(answer.text.strip(" .") == word for word in trial.orders):
        return "untold"
    found = judge(trial.case, answer)
    if trial.behaviour == "missing" and found == "right":
        again = sum(isinstance(event, ToolResponse) for event in events) > 1
        return "right" if again and not answer.citations else "told"
    return found


def interval(right: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate."""
    z, p = 1.96, right / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(BEHAVIOURS), help="behaviours, with commas between them")
    parser.add_argument("--count", type=int, default=200, help="runs of each")
    parser.add_argument("--model", default=str(DEMO))
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--quantization", default="auto")
    parser.add_argument("--made-up", type=float, default=0.0,
                        help="share of relations whose words exist nowhere (Who florked the bridge?)")  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="print what is not right")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := sorted(set(chosen) - set(BEHAVIOURS)):
        parser.error(f"no behaviour is called {unknown[0]!r}; there are {', '.join(BEHAVIOURS)}")
    if arguments.count < 1:
        parser.error(f"--count {arguments.count}: at least one run of each is wanted")
    quantization = None if arguments.quantization == "none" else arguments.quantization
    engine = Engine.from_pretrained(arguments.model, quantization=quantization)
    sampling = SamplingParams(temperature=arguments.temperature)
    rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for behaviour in chosen:
            rates[behaviour] = measure(engine, sampling, Path(folder), behaviour, arguments)
    print(json.dumps({
        "temperature": arguments.temperature, "model": Path(engine.name).name, "quantization": engine.quantization,
        "behaviours": rates,
    }))  # fmt: skip


def measure(
    engine: Engine, sampling: SamplingParams, where: Path, behaviour: str, arguments: argparse.Namespace
) -> dict[str, float]:
    searches: dict[Path, DocsSearch] = {}
    counts: Counter[str] = Counter()
    formed = marked = asked = 0
    rng = random.Random(SEED)
    budget = Budget(searches=1) if behaviour == "limit" else Budget()
    # Every folder is written before it is indexed.
    cases = list(trials(where, behaviour, arguments.count, arguments.made_up))
    for seed, trial in enumerate(cases):
        search = searches.get(trial.case.folder)
        if search is None and any(trial.case.folder.iterdir()):
            search = searches[trial.case.folder] = DocsSearch(trial.case.folder, cache_dir=where)
        search = search or DocsSearch(Path(__file__).parent / "heldout" / "science")
        agent = Agent(engine, search, budget, sampling, seed=seed)
        events = play(agent, trial, rng)
        assert isinstance(events[-1], Finished)
        answer = events[-1].answer
        assert answer.recomputed == 0
        calls = [event for event in events if isinstance(event, ToolCall)][behaviour == "correction" :]
        formed += all(call.error is None for call in calls) and answer.finish_reason == "stop"
        asked += len(calls)
        result = verdict(trial, answer, events)
        counts[result] += 1
        marked += result == "right" and bool(answer.unsupported) and not is_not_found(answer.text)
        if arguments.verbose and result != "right":
            print(f"{behaviour} {result}: {trial.first or ''} {trial.case.question}\n    want {trial.case.values}"
                  f"\n    got  {answer.text!r}\n    calls {[c.queries for c in calls]} "
                  + "; ".join(item.reason for item in answer.unsupported))  # fmt: skip
    low, high = interval(counts["right"], len(cases))
    print(f"{behaviour:11} right {counts['right']:4} of {len(cases)} ({low:.3f} to {high:.3f})   wrong: told "
          f"{counts['told']:3}, not told {counts['untold']:3}   well-formed and ended {formed:4}   "
          f"calls a run {asked / len(cases):.2f}   right but marked {marked}", flush=True)  # fmt: skip
    return {"n": len(cases), "right": counts["right"], "told": counts["told"], "untold": counts["untold"],
            "well-formed and ended": formed, "calls": asked, "right but marked": marked}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
