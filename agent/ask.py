"""One question of the command line: run, shown, recorded, and told as an object. What it shows is imported late, so
that `longhand --help` starts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine.errors import LonghandError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from .agent import Agent
    from .events import Answer, Event
    from .prepare import Memory
    from .trace import Recorder
    from .view import View


def run_question(
    agent: Agent, question: str, out: Console | None, session: Any = None, recorder: Recorder | None = None
) -> tuple[Answer, bool]:
    """Run a question, showing it on `out` and writing its trace; Ctrl-C ends it with what there is. Returns the answer
    and whether it was interrupted."""
    from .view import View

    view = View(out) if out is not None else None
    answer: Answer | None = None
    try:
        events = agent.run(question, session)
        if recorder is not None:
            recorder.begin(agent, question)
        answer = watch(events, view, recorder)
    except (KeyboardInterrupt, BrokenPipeError) as error:
        answer = agent.interrupted()
        if answer is not None and recorder is not None:
            recorder.finish(answer)
        if answer is None or isinstance(error, BrokenPipeError):
            raise
    except LonghandError as error:
        if recorder is not None:
            recorder.fail(error)
        raise
    if view is not None:
        view.close_part()
        view.answer(answer)
    return answer, answer.finish_reason == "interrupted"


def watch(events: Iterable[Event], view: View | None, recorder: Recorder | None) -> Answer:
    """Show and record the events of a run as they come; returns its answer."""
    from .events import Finished

    for event in events:
        if recorder is not None:
            recorder.see(event)
        if view is not None:
            view.show(event)
        if isinstance(event, Finished):
            return event.answer
    raise AssertionError("a run ends with Finished")


def print_memory(out: Console, memory: dict[str, int | None]) -> None:
    """A line under the closing table: what was predicted, and the peak."""
    from .sizes import size

    said = {name: "unknown" if count is None else size(count) for name, count in memory.items()}
    out.print(f"memory: predicted {said['predicted']}, peak {said['peak']}, {said['baseline']} of it before the model")


def as_object(answer: Answer, agent: Agent, memory: Memory) -> dict[str, Any]:
    """What `ask --json` prints."""
    engine = agent.engine
    return {
        "answer": answer.text,
        "citations": [{"title": citation.title, "url": citation.url} for citation in answer.citations],
        "unsupported": [vars(item) for item in answer.unsupported],
        "searches": [{"query": query, "results": [r.as_dict() for r in results]} for query, results in answer.searches],
        "turns": [vars(turn) for turn in answer.turns],
        "recomputed": answer.recomputed,
        "finish_reason": answer.finish_reason,
        "model": engine.name,
        "device": str(engine.device),
        "memory": memory.as_dict(agent.session),
    }
