"""A trace as one HTML page that needs nothing else: no network, no other file. Every text in it is a stranger's and is
escaped; the page's policy allows its own script alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

from .trace_answer import answer_html, safe, unsupported_html
from .trace_assets import SCRIPT, STYLE
from .trace_file import Span, Trace, made
from .words import words

SOURCES = {
    "prompt": "prompt: template and question",
    "sampled": "sampled: chosen by the model",
    "tool": "tool: what a search returned",
    "forced": "forced: words put in the model's mouth",
}


def page(trace: Trace) -> str:
    """The page as text."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    body = [*_answers(trace), *_figures(trace), *_turns(trace), *_strip(trace), *_run(trace), *_facts(trace)]
    title = safe(trace.questions[0][:80] if trace.questions else trace.header["question"][:80])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n<script>{SCRIPT}</script></head>\n<body><main>\n"
        + "\n".join(body) + "\n</main></body></html>\n"
    )  # fmt: skip


def _numbers(trace: Trace, answer: str) -> dict[str, int]:
    """url -> the number of its result on the page; of several, the first that has most words of the answer."""
    said = set(words(answer))
    results = [result for search in trace.searches for result in search["results"]]
    found: dict[str, tuple[int, int]] = {}
    for number, result in enumerate(results, 1):
        shared = len(said.intersection(words(result["content"])))
        if result["url"] not in found or shared > found[result["url"]][0]:
            found[result["url"]] = shared, number
    return {url: number for url, (_, number) in found.items()}


def _answers(trace: Trace) -> Iterator[str]:
    """Each question with its answer."""
    if trace.state:
        yield f'<div class="card warn">This trace has no end of its own: {safe(trace.state)}.</div>'
    questions = trace.questions or [trace.header["question"]]
    for place, question in enumerate(questions):
        tag = "h1" if place == 0 else "h2"
        number = f'<span class="note">question {place + 1}</span> ' if place else ""
        yield f'<{tag} dir="auto">{number}{safe(question)}</{tag}>'
        if place == 0:
            more = f", the first of {len(questions)} questions in one session" if len(questions) > 1 else ""
            yield (f'<p class="lead">Asked of {safe(_model_name(trace))} on {safe(trace.header["today"])}{more}; '
                   f"{_searches(trace)}. Below: the answer, what was reused, and every step.</p>")  # fmt: skip
            yield from _fork(trace)
        outcome = trace.outcomes[place] if place < len(trace.outcomes) else None
        if outcome is None:
            yield '<div class="card">No answer yet.</div>'
        elif "error" in outcome:
            yield f'<div class="card bad">Ended with an error: {safe(outcome["error"])}</div>'
        else:
            reason, numbers = outcome["finish_reason"], _numbers(trace, outcome["answer"])
            early = "" if reason == "stop" else f'<p class="bad">Ended early: {safe(reason)}</p>'
            yield (f'<div class="card answer"><div class="text" dir="auto">{answer_html(outcome, numbers)}</div>'
                   f"{unsupported_html(outcome)}{early}</div>")  # fmt: skip
            if outcome["citations"]:
                yield '<p class="note">A number in the answer leads to the search result that supports it.</p>'


def _searches(trace: Trace) -> str:
    count = sum(map(made, trace.searches))
    kind = {"docs": "in documents", "tavily": "of the web", "replay": "that were recorded"}.get(
        trace.header["search"], ""
    )
    return f"it made {count or 'no'} search{'' if count == 1 else 'es'} {kind}".rstrip()


def _fork(trace: Trace) -> Iterator[str]:
    """What a run is that shares its beginning with others."""
    if fork := trace.header.get("fork"):
        yield (f'<div class="card"><b>{safe(fork["name"])}</b>: one of several ways on from the same beginning. Its '
               f"first {fork['ids']:,} ids were computed once, for all of them, in {fork['seconds']:.3f} s; here they "
               "count as reused.</div>")  # fmt: skip


def _model_name(trace: Trace) -> str:
    name = str(trace.header["name"]).rstrip("/")
    return "the built-in model" if name.endswith("agent/demo/checkpoint") else name.rsplit("/", 1)[-1]


def _figures(trace: Trace) -> Iterator[str]:
    """The whole run in seven numbers."""
    stats = [turn for _, turn in trace.stats]
    reused = sum(turn["reused"] for turn in stats)
    computed = sum(span.computed for span in trace.spans)
    seconds = sum(span.seconds for span in trace.spans)
    length = trace.spans[-1].end if trace.spans else 0
    again = f"{reused / (reused + computed):.0%}" if reused + computed else "-"
    cells = [
        (f"{length:,}", "token ids in the conversation"), (f"{len(stats)}", "turns of the model"),
        (f"{computed:,}", "ids computed"), (f"{reused:,}", "ids reused from the cache"),
        (again, "of what the turns needed was reused"), (f"{trace.recomputed}", "ids computed twice"),
        (f"{seconds:.2f} s", "of computing"),
    ]  # fmt: skip
    yield '<div class="figures">' + "".join(f"<div><b>{a}</b><span>{b}</span></div>" for a, b in cells) + "</div>"


def _turns(trace: Trace) -> Iterator[str]:
    """Per turn, a bar of reused, computed and sampled, and its latency."""
    longest = max((turn["reused"] + turn["computed"] + 1 for _, turn in trace.stats), default=1)
    yield "<h2>What each turn reused</h2>"
    yield ('<p class="lead">A conversation with tools is one list of token ids that only grows. The model keeps what '
           "it has computed of it in a cache; after a search, a turn computes only what was appended, and the bar "
           "shows how much it did not have to compute again.</p>")  # fmt: skip
    starts = {span.turn: span.question for span in trace.spans if span.question is not None}
    yield ('<table class="turns card"><tr><th>turn</th><th>ids</th><th>reused</th><th>computed for what was fed</th>'
           "<th>sampled</th><th>first token</th><th>ids/s</th></tr>")  # fmt: skip
    for number, turn in trace.stats:
        decoded = min(max(turn["sampled"] - 1, 0), turn["computed"])
        passed = turn["computed"] - decoded
        parts = [("reused", turn["reused"]), ("computed", passed), ("sampled", decoded)]
        bars = "".join(f'<i class="b-{name}" style="width:{count * 100 / longest:.2f}%" title="{count} {name}"></i>'
                       for name, count in parts)  # fmt: skip
        if number in starts and len(starts) > 1:
            yield f'<tr><td></td><td colspan="6" class="asked" dir="auto">{safe(starts[number])}</td></tr>'
        rate = f"{turn['sampled'] / turn['decode_seconds']:.0f}" if turn["decode_seconds"] else "-"
        yield (f'<tr><td>{number}</td><td><div class="bar">{bars}</div></td><td>{turn["reused"]:,}</td>'
               f"<td>{passed:,}</td><td>{turn['sampled']:,}</td><td>{turn['prefill_seconds']:.3f} s</td>"
               f"<td>{rate}</td></tr>")  # fmt: skip
    yield "</table>"
    yield ('<div class="key"><span><i class="b-reused"></i>reused from the cache</span><span><i class="b-computed"></i>'
           'computed for what was fed (and one id that was pending)</span><span><i class="b-sampled"></i>sampled, one '
           "by one</span></div>")  # fmt: skip


def _strip(trace: Trace) -> Iterator[str]:
    """All spans as two strips, coloured by where their ids came from: as long as their ids, and as their seconds."""
    yield "<h2>Where the ids came from, and where the time went</h2>"
    yield ('<p class="lead">The whole conversation from left to right, one block per span; click one for its text. '
           "Above, a block is as long as it has ids; below, as its computing took.</p>")  # fmt: skip
    seconds = sum(span.seconds for span in trace.spans) or 1.0
    for name, sizes in (("ids", [float(max(span.size, 1)) for span in trace.spans]),
                        ("time", [span.seconds * 1000 / seconds for span in trace.spans])):  # fmt: skip
        blocks = "".join(
            f'<a class="{span.source}" href="#span-{number}" style="flex:{size:.3f}" title="turn {span.turn}, '
            f"{span.source}: {span.size} ids, {span.computed} computed on {span.cached} cached, "
            f'{span.seconds:.3f} s"></a>'
            for number, (span, size) in enumerate(zip(trace.spans, sizes, strict=True))
            if size > 0
        )
        if blocks:
            yield f'<div class="strips"><span class="note">{name}</span><div class="strip">{blocks}</div></div>'
    there = {span.source for span in trace.spans}
    keys = "".join(
        f'<span><i class="k {source}"></i>{said}</span>' for source, said in SOURCES.items() if source in there
    )
    yield f'<div class="key">{keys}</div>'


def _run(trace: Trace) -> Iterator[str]:
    """Every span with its text, turn by turn."""
    yield '<h2>The run, step by step <button id="unfold" type="button">unfold all</button></h2>'
    cited = {citation["url"] for outcome in trace.outcomes for citation in outcome.get("citations", [])}
    result, turn = 0, 0
    for number, span in enumerate(trace.spans):
        if span.turn != turn:
            turn = span.turn
            yield f"<h3>Turn {turn}{_turn_note(trace, turn)}</h3>"
        yield f'<div id="span-{number}">'
        if span.source == "tool":
            yield _tool(span, result, cited)
            result += len(span.search["results"]) if span.search else 0
        elif span.source == "sampled":
            yield from _sampled(span)
        else:
            name = "prompt" if span.source == "prompt" else f"forced ({span.reason or 'by the engine'})"
            shown = span.question if span.question is not None else _first(_untagged(span.text))
            yield _folded(span, span.source, name, shown, span.text)
        yield "</div>"


def _tool(span: Span, before: int, cited: set[str]) -> str:
    """A search with its results; the n-th result of the page is #result-n."""
    search = span.search
    if search is None:
        return _folded(span, "tool", "tool response", "", span.text)
    query = f'searched for <span class="query" dir="auto">{safe(search["query"])}</span>' if search["query"] else ""
    said = ", from this run's own results" if search["repeated"] else ""
    said += ", cut to fit the context" if search["cut"] else ""
    parts = [f'<div class="span tool"><div class="head"><b>tool response</b> {query} {_note(span, said)}</div>']
    if search["notice"]:
        parts.append(f'<div class="text" dir="auto">{safe(search["notice"])}</div>')
    elif not search["results"]:
        parts.append('<div class="note">no results</div>')
    for number, result in enumerate(search["results"], before + 1):
        mark = ' <span class="cited">✓ cited in the answer</span>' if result["url"] in cited else ""
        parts.append(
            f'<div class="result" id="result-{number}"><div><b>[{number}]</b> <span dir="auto">{safe(result["title"])}'
            f'</span> <span class="url">{safe(result["url"])}</span>{mark}</div><div class="text" dir="auto">'
            f"{safe(result['content'])}</div>{_told(result)}</div>"
        )
    return "".join(parts) + "</div>"


def _told(result: dict[str, Any]) -> str:
    """What the search tells about a result: the pages that it names, and what of the query it lacks."""
    lists = {"names": result.get("links", []), "lacks": result.get("lacks", [])}
    return "".join(
        f'<div class="note" dir="auto">{told} {safe(", ".join(texts))}</div>' for told, texts in lists.items() if texts
    )


def _sampled(span: Span) -> Iterator[str]:
    """Thinking folded, calls and answer as they are."""
    position = 0
    if not span.parts or sum(length for _, _, length in span.parts) != len(span.text):
        yield _folded(span, "sampled", "sampled", "", span.text)
        return
    for name, count, length in span.parts:
        text = _untagged(span.text[position : position + length])
        position += length
        if not text:
            continue
        note = f'<span class="note">{count} ids</span>'
        if name == "thinking":
            yield (f'<details class="span sampled"><summary><span class="head"><b>thinking</b> <span class="note" '
                   f'dir="auto">{safe(_first(text))}</span> {note}</span></summary>'
                   f'<div class="text thought" dir="auto">{safe(text)}</div></details>')  # fmt: skip
        else:
            label = "asks for a search" if name == "call" else name
            shown = f"<code>{safe(text)}</code>" if name == "call" else safe(text)
            yield (f'<div class="span sampled"><div class="head"><b>{safe(label)}</b> {note}</div>'
                   f'<div class="text" dir="auto">{shown}</div></div>')  # fmt: skip


def _first(text: str) -> str:
    """What fits behind a fold's name."""
    line = " ".join(text.split())
    return line if len(line) <= 110 else line[:110] + "…"


def _untagged(text: str) -> str:
    """A part without the control tokens around it, which its frame on the page says already."""
    text = text.strip().removeprefix("<tool_call>").removesuffix("</tool_call>")
    return text.strip().removesuffix("</think>").removesuffix("<|im_end|>").removesuffix("<|endoftext|>").strip()


def _turn_note(trace: Trace, turn: int) -> str:
    stats = next((span.stats for span in trace.spans if span.turn == turn and span.stats), None)
    if stats is None:
        return ' <span class="note">computed before this run began</span>' if "fork" in trace.header else ""
    return (f' <span class="note">reused {stats["reused"]:,} ids, computed {stats["computed"]:,}; first id after '
            f"{stats['prefill_seconds']:.3f} s, then {stats['decode_seconds']:.3f} s</span>")  # fmt: skip


def _folded(span: Span, source: str, name: str, shown: str, text: str) -> str:
    return (f'<details class="span {source}"><summary><span class="head"><b>{safe(name)}</b> '
            f'<span{" class=note" if source == "forced" else ""} dir="auto">{safe(shown)}</span> {_note(span)}</span>'
            f'</summary><div class="text" dir="auto">{safe(text)}</div></details>')  # fmt: skip


def _note(span: Span, more: str = "") -> str:
    said = f"{span.size} ids, {span.computed} computed on {span.cached} cached, {span.seconds:.3f} s{more}"
    said += f", {span.redacted} redacted" if span.redacted else ""
    return f'<span class="note">{said}</span>'


def _facts(trace: Trace) -> Iterator[str]:
    """The header, folded."""
    rows = "".join(f'<tr><td>{safe(name)}</td><td class="text">{safe(value)}</td></tr>'
                   for name, value in trace.header.items() if name not in ("type", "question"))  # fmt: skip
    yield "<h2>How to repeat it</h2><details><summary>model, sampling, versions</summary>"
    yield f'<table class="facts">{rows}</table></details>'
