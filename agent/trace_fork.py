"""Traces of several ways on from one prefix: a file for each, in which the prefix is noted as reused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import LonghandError

if TYPE_CHECKING:
    from .agent import Run
    from .trace import Recorder
    from .trace_file import Span, Trace

OTHER_QUERY = "another query"  # the reason of a call that a branch puts in the place of the model's own
Record = Callable[[int], "Recorder"]  # of the n-th way on, from 1


@dataclass(frozen=True)
class Fork:
    """What a session had in its cache before its trace begins, and how long that took, for it and its siblings."""

    name: str
    seconds: float
    before: Iterable[Span | dict[str, Any]] = ()  # its spans and outcomes, where another trace has recorded them


def numbered(path: Path, number: int) -> Path:
    """The file of the n-th of several sessions that are written to `path`."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def before(trace: Trace, end: int) -> Iterator[Span | dict[str, Any]]:
    """What a trace holds of its first `end` ids: spans, the last one cut, and the outcomes of questions before."""
    asked = 0
    for span in trace.spans:
        if span.start >= end:
            return
        if span.question is not None:
            yield from trace.outcomes[max(asked - 1, 0) : asked]
            asked += 1
        if span.end <= end:
            yield span
            continue
        left = count = end - span.start
        parts = []
        for name, ids, size in span.parts:
            if left > 0:
                parts.append((name, min(ids, left), size))
            left -= ids
        yield replace(span, ids=span.ids[:count], logprobs=span.logprobs[:count], parts=parts)


@contextmanager
def recorded(recorder: Recorder | None, run: Run) -> Iterator[None]:
    """Whatever ends a run inside of this ends its trace, too."""
    try:
        yield
    except KeyboardInterrupt:
        if recorder is not None:
            recorder.finish(run.answer("interrupted"))
        raise
    except LonghandError as error:
        if recorder is not None:
            recorder.fail(error)
        raise
    finally:
        if recorder is not None:
            recorder.close()
