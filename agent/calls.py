"""Tool calls: from the text between <tool_call> and </tool_call> to queries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

TOOL = "web_search"


class MalformedCallError(Exception):
    """A call that cannot be run; the message tells the model what to write instead."""


@dataclass(frozen=True)
class Call:
    """One search that the model asks for."""

    query: str


def parse_calls(text: str) -> list[Call]:
    """The calls in a span, in order: one JSON object, several behind one another, or a list of them.

    Takes the format of the template ({"action": ..., "action_input": {"query": ...}}) and Qwen's native one
    ({"name": ..., "arguments": {"query": ...}}). Raises MalformedCallError.
    """
    text = text.strip()
    decoder = json.JSONDecoder()
    objects: list[Any] = []
    position = 0
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):  # a ValueError alone: an integer of thousands of digits
            raise MalformedCallError(f"The tool call is not valid JSON. {_hint()}") from None
        objects.extend(value if isinstance(value, list) else [value])
        while position < len(text) and text[position] in " \t\r\n,;":
            position += 1
    if not objects:
        raise MalformedCallError(f"The tool call is empty. {_hint()}")
    return [_call(value) for value in objects]


def _call(value: Any) -> Call:
    if not isinstance(value, dict):
        raise MalformedCallError(f"The tool call is not a JSON object. {_hint()}")
    name = value.get("action", value.get("name"))
    arguments = value.get("action_input", value.get("arguments", value.get("parameters")))
    if not isinstance(name, str):
        raise MalformedCallError(f"The tool call names no tool. {_hint()}")
    if name != TOOL:
        raise MalformedCallError(f"There is no tool called {name[:60]!r}; the only tool is {TOOL}. {_hint()}")
    if isinstance(arguments, str):
        arguments = _unwrapped(arguments)
    query = arguments.get("query") if isinstance(arguments, dict) else None
    if not isinstance(query, str) or not query.strip():
        raise MalformedCallError(f"The tool call has no query. {_hint()}")
    return Call(" ".join(query.split()))


def _unwrapped(arguments: str) -> Any:
    # Some models write the arguments as a string: of JSON, or of the query itself.
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"query": arguments}


def _hint() -> str:
    example = json.dumps({"action": TOOL, "action_input": {"query": "what to search for"}})
    return f"Write it like this: {example}"
