"""An answer as HTML: its citations linked to the results that support them, what is unsupported marked."""

from __future__ import annotations

import html
import re
from typing import Any

from .redact import redact
from .view import printable


def safe(text: object) -> str:
    """Text as HTML shows it: no secret, nothing that steers, every character of markup escaped."""
    return html.escape(printable(redact(str(text))), quote=True)


def answer_html(outcome: dict[str, Any], results: dict[str, int]) -> str:
    """`results`: url -> number of the result that it stands for on the page (its element is #result-N)."""
    text = outcome["answer"]
    links = _links(text, [*results, *(item["url"] for item in outcome["unsupported"] if item.get("url"))])
    marked = bytearray(len(text))
    for item in outcome["unsupported"]:
        start = text.find(item["text"]) if item["kind"] in ("sentence", "url") and item["text"] else -1
        if start >= 0:
            marked[start : start + len(item["text"])] = b"\1" * len(item["text"])
    parts, position = [], 0
    for start, end, title, url in links:
        parts.append(_plain(text, marked, position, start))
        number = results.get(url)
        if number is None:
            parts.append(
                f'<mark title="no search returned it">{safe(title)} <span class="url">{safe(url)}</span></mark>'
            )
        else:
            cite = f'<a class="cite" href="#result-{number}">{safe(title)}<sup>[{number}]</sup></a>'
            parts.append(f"<mark>{cite}</mark>" if any(marked[start:end]) else cite)
        position = end
    parts.append(_plain(text, marked, position, len(text)))
    return "".join(parts)


def unsupported_html(outcome: dict[str, Any]) -> str:
    """What does not hold, as a list; empty where everything does."""
    items = "".join(
        f"<li>{safe(item['reason'])}: <q>{safe(_short(item['text']))}</q>"
        f"{' <span class=url>' + safe(item['url']) + '</span>' if item.get('url') else ''}</li>"
        for item in outcome["unsupported"]
    )
    return f'<div class="bad found"><b>Unsupported</b> by what was found:<ul>{items}</ul></div>' if items else ""


def _links(text: str, urls: list[str]) -> list[tuple[int, int, str, str]]:
    """(start, end, title, url) of Markdown links and bare occurrences of these urls, in order."""
    found: list[tuple[int, int, str, str]] = []
    taken = bytearray(len(text))
    for url in sorted({url for url in urls if url}, key=len, reverse=True):
        address = re.escape(url)
        for pattern in (rf"\[([^\[\]]*)\]\(\s?<?{address}>?[^()\n]{{0,300}}\)", address):
            for match in re.finditer(pattern, text):
                if not any(taken[match.start() : match.end()]):
                    taken[match.start() : match.end()] = b"\1" * (match.end() - match.start())
                    title = match[1] if match.re.groups and match[1] else url
                    found.append((match.start(), match.end(), title, url))
    return sorted(found)


def _plain(text: str, marked: bytearray, start: int, end: int) -> str:
    parts = []
    while start < end:
        stop = next((n for n in range(start + 1, end) if marked[n] != marked[start]), end)
        part = safe(text[start:stop])
        parts.append(f"<mark>{part}</mark>" if marked[start] else part)
        start = stop
    return "".join(parts)


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"
