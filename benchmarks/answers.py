"""How often the agent answers right: `python benchmarks/answers.py [--set heldout]`. The sets:

heldout    120 + 20 questions on real subjects over benchmarks/heldout/, prose that training never saw; for the last 20
           the folder holds no answer
heldout2   162 + 31 more of both kinds, over benchmarks/heldout2/; `--folders inventions,nature` asks about these alone
heldout3   230 questions of five kinds over benchmarks/heldout3/; `--kinds two-hop,missing` asks these alone
heldout4   230 more of these kinds over benchmarks/heldout4/, in prose that seldom says a thing in a question's words
heldout5   about a thousand questions over benchmarks/heldout5/, eight of forty themes of pages with questions that were
           written together; training reads the others
builtin    60 + 10 questions over the built-in documents; the last 10 take two hops
synthetic  200 questions about made-up things, over folders written from a seed that training does not use
calls      100 runs: how many emit only well-formed tool calls and end by themselves

An answer is right when it holds an accepted value and cites the right file. A wrong one is told when it is marked
`unsupported` or says that nothing was found. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longhand import DEMO, Agent, Budget, Engine, SamplingParams
from longhand.agent.citations import is_not_found
from longhand.agent.demo.language import Writer
from longhand.agent.docs import DocsSearch
from longhand.agent.events import Answer, Finished, ToolCall

HERE = Path(__file__).parent
BUILTIN_DOCS = HERE.parent / "agent" / "demo" / "docs"
SETS = ("heldout", "heldout2", "heldout3", "heldout4", "heldout5", "builtin", "synthetic", "calls")
SYNTHETIC_SEED = 424242  # training draws from Recipe.seed and numbers near it


@dataclass(frozen=True)
class Case:
    folder: Path
    question: str
    values: tuple[str, ...]  # none: the folder holds no answer
    file: str | None
    kind: str = "fact"


def heldout(name: str = "heldout") -> Iterator[Case]:
    for line in (HERE / name / "questions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Case(HERE / name / row["folder"], row["question"], tuple(row["values"]), row["file"],
                   row.get("kind", "fact"))  # fmt: skip


def builtin() -> Iterator[Case]:
    for line in (HERE / "builtin_questions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield Case(BUILTIN_DOCS, row["question"], tuple(row["values"]), row["file"], row.get("kind", "fact"))


def synthetic(where: Path, count: int = 200, folders: int = 10) -> Iterator[Case]:
    """Folders of made-up documents: a file a subject, a section a fact, other sentences between."""
    rng = random.Random(SYNTHETIC_SEED)
    writer = Writer(rng, [])
    for number in range(folders):
        folder = where / f"folder{number}"
        folder.mkdir()
        cases = []
        for index in range(count // folders):
            facts = [writer.fact()]
            while len(facts) < 3:
                other = writer.fact(facts[0].subject)
                if all(other.family is not fact.family for fact in facts):
                    facts.append(other)
            name = f"subject{index}.md"
            sentences = [fact.statement for fact in facts] + [writer.filler()]
            order = rng.sample(sentences, len(sentences))
            (folder / name).write_text(f"# {facts[0].subject.name}\n\n{' '.join(order)}\n", "utf-8")
            cases.append(Case(folder, facts[0].question, (facts[0].value,), name))
        yield from cases


def judge(case: Case, answer: Answer) -> str:
    """right | told (wrong, but marked or said to be not found) | untold."""
    told = bool(answer.unsupported) or is_not_found(answer.text) or not answer.text
    if case.file is None:
        return "right" if is_not_found(answer.text) else "told" if told else "untold"
    held = any(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answer.text, re.IGNORECASE) for value in case.values)
    cited = any(citation.url.startswith(f"{case.file}#") for citation in answer.citations)
    return "right" if held and cited else "told" if told else "untold"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--set", default="heldout", choices=SETS)
    parser.add_argument("--folders", default=None, help="only questions about these folders, by name, with commas")
    parser.add_argument("--kinds", default=None, help="only questions of these kinds, with commas")
    parser.add_argument("--model", default=str(DEMO))
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--quantization", default="auto")
    parser.add_argument("--limit", type=int, default=None, help="only the first questions")
    parser.add_argument("--verbose", action="store_true", help="print what is not right")
    arguments = parser.parse_args()
    engine = Engine.from_pretrained(
        arguments.model, quantization=None if arguments.quantization == "none" else arguments.quantization
    )
    sampling = SamplingParams(temperature=arguments.temperature)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.set == "calls":
            cases = [case for case in heldout() if case.file][:100]
        else:
            make = {"builtin": builtin, "synthetic": lambda: synthetic(Path(folder))}
            cases = list(make[arguments.set]() if arguments.set in make else heldout(arguments.set))
        if arguments.folders is not None:
            cases = [case for case in cases if case.folder.name in arguments.folders.split(",")]
        if arguments.kinds is not None:
            cases = [case for case in cases if case.kind in arguments.kinds.split(",")]
        if not (cases := cases[: arguments.limit]):
            parser.error("no question is left; look at --folders, --kinds and --limit")
        run(engine, sampling, cases, arguments)


def run(engine: Engine, sampling: SamplingParams, cases: list[Case], arguments: argparse.Namespace) -> None:
    searches: dict[Path, DocsSearch] = {}
    counts: Counter[str] = Counter()
    seconds = sampled = marked = well_formed = 0
    for seed, case in enumerate(cases):
        if case.folder not in searches:
            searches[case.folder] = DocsSearch(case.folder)
        agent = Agent(engine, searches[case.folder], Budget(), sampling, seed=seed)
        started = time.perf_counter()
        events = list(agent.run(case.question))
        seconds += time.perf_counter() - started
        assert isinstance(events[-1], Finished)
        answer = events[-1].answer
        assert answer.recomputed == 0
        sampled += sum(turn.sampled for turn in answer.turns)
        calls = [event for event in events if isinstance(event, ToolCall)]
        ended = answer.finish_reason == "stop"
        well_formed += bool(calls) and all(call.error is None for call in calls) and ended
        verdict = judge(case, answer)
        kind = case.kind if case.kind != "fact" else "answerable" if case.file else "unanswerable"
        counts[f"{kind} {verdict}"] += 1
        marked += verdict == "right" and bool(answer.unsupported)
        if arguments.verbose and (verdict != "right" or answer.unsupported):
            print(f"{verdict:7} {case.question}\n        want {list(case.values)} in {case.file}")
            print(f"        got  {answer.text}")
            print("        " + "; ".join(item.reason for item in answer.unsupported))
    for kind in dict.fromkeys(key.rpartition(" ")[0] for key in counts):
        of_kind = {verdict: counts[f"{kind} {verdict}"] for verdict in ("right", "told", "untold")}
        if sum(of_kind.values()):
            print(f"{kind:13} right {of_kind['right']:4}   wrong and told {of_kind['told']:4}   "
                  f"wrong and not told {of_kind['untold']:4}   of {sum(of_kind.values())}")  # fmt: skip
    result = {
        "set": arguments.set, "n": len(cases), "temperature": arguments.temperature, "model": Path(engine.name).name,
        "quantization": engine.quantization, "dtype": str(engine.dtype), **counts, "right but marked": marked,
        "well-formed calls and proper end": well_formed, "seconds per question": round(seconds / len(cases), 3),
        "ids sampled per second": round(sampled / seconds, 1),
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
