"""Blocks: reading a Markdown, HTML or plain-text document into headings and paragraphs of clean text.

Inside a paragraph a line break is kept only where it means something: a list item, a table row, a line of code.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from itertools import pairwise

from .block import Block, table_lines
from .html_blocks import html_blocks

SUFFIXES = (".md", ".markdown", ".txt", ".html", ".htm")


def read_blocks(text: str, suffix: str) -> list[Block]:
    """The blocks of the document `text` in order; `suffix`, one of SUFFIXES in any case, says how to read it."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")
    if suffix.lower() in (".html", ".htm"):
        blocks = html_blocks(text)
    elif suffix.lower() == ".txt":
        blocks = list(_text_blocks(text))
    else:
        blocks = _markdown_blocks(text)
    return [block for block in blocks if block.text]


# --- plain text -------------------------------------------------------------------------------------------------

_BULLET = re.compile(r"^\s*(?:[-*+\u2022]|\d{1,3}[.)])\s+")


def _text_blocks(text: str) -> Iterator[Block]:
    for place, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        lines = _unwrapped([line.rstrip() for line in paragraph.split("\n") if line.strip()])
        if place == 0 and len(lines) > 1 and ":" not in lines[0] and not _BULLET.match(paragraph):
            yield Block(0, lines.pop(0))  # a title, perhaps, with no blank line behind it
        yield Block(0, "\n".join(lines))


def _unwrapped(lines: list[str]) -> list[str]:
    """Joins hard-wrapped lines. A break is meant, and kept, before a bullet, or where the next word had room to spare
    on the line and does not go on in lower case (a table of facts, a verse)."""
    width = max(map(len, lines), default=0)
    joined = [[_BULLET.sub("", line).strip()] for line in lines[:1]]
    for previous, line in pairwise(lines):
        room = width - len(previous) - 1 - len(line.split()[0])
        if _BULLET.match(line) or (room > 2 and not line.lstrip()[0].islower()):
            joined.append([_BULLET.sub("", line).strip()])
        else:
            joined[-1].append(line.strip())
    return [" ".join(parts) for parts in joined]


# --- Markdown ---------------------------------------------------------------------------------------------------

_FRONT_MATTER = re.compile(
    r"\A(---|\+\+\+)[ \t]*\n(?=[\w\"'-]+[ \t]*[:=])(.*?)\n(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL
)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")
_ATX = re.compile(r"^ {0,3}(#{1,6})(?:[ \t](.*))?$")
_SETEXT = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_RULE = re.compile(r"^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_TABLE_RULE = re.compile(r"^\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?$")
_DEFINITION = re.compile(r"^ {0,3}\[(?!\^)[^\]]+\]:\s*\S+(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*$")
_TAGS = (
    "a abbr article aside b blockquote br center cite code dd del details div dl dt em figcaption figure font footer "
    "h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark ol p picture pre q s samp section small source span "
    "strike strong sub summary sup table tbody td tfoot th thead tr tt u ul var video"
)
_TAG = re.compile(rf"</?(?:{'|'.join(_TAGS.split())})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.{1,2000}?)(?<!`)\1(?!`)")


def _markdown_blocks(text: str) -> list[Block]:
    blocks: list[Block] = []
    front = _FRONT_MATTER.match(text)
    if front:
        text = text[front.end() :]
        title = re.search(r"^title[ \t]*[:=][ \t]*(.+)$", front.group(2), re.MULTILINE)
        if title and not re.search(r"^# ", text, re.MULTILINE):
            blocks.append(Block(1, title.group(1).strip().strip("\"'")))
    lines: list[str] = []  # of the open paragraph
    code: list[str] = []
    fence = ""
    for line in [*_without_comments(text), ""]:
        mark = _FENCE.match(line)
        if fence:
            if mark and mark.group(1).startswith(fence) and not mark.group(2).strip():
                blocks.append(Block(0, "\n".join(code)))
                code, fence = [], ""
            elif line.strip():
                code.append(line.strip())
            continue
        line = re.sub(r"^(?: {0,3}> ?)+", "", line)
        heading, underline = _ATX.match(line), _SETEXT.match(line)
        if heading or mark or not line.strip() or (_RULE.match(line) and not (underline and lines)):
            blocks.append(Block(0, _paragraph(lines)))
            lines = []
            if heading:
                blocks.append(
                    Block(len(heading.group(1)), _inline(re.sub(r"(?:^|\s)#+$", "", (heading.group(2) or "").strip())))
                )
            elif mark:
                fence = mark.group(1)
        elif underline and lines and "|" not in lines[-1] and not _BULLET.match(lines[-1]):
            blocks.append(Block(1 if "=" in line else 2, _inline(" ".join(map(str.strip, lines)))))
            lines = []
        elif lines or not _DEFINITION.match(line):
            lines.append(line)
    blocks.append(Block(0, "\n".join(code)))  # a fence that nobody closed
    return blocks


def _without_comments(text: str) -> Iterator[str]:
    """The lines of `text` without <!-- comments -->, which may span lines but do not begin inside a code fence."""
    fence, inside = "", False
    lines = text.split("\n")
    closing = max((number for number, line in enumerate(lines) if "-->" in line), default=-1)
    for number, line in enumerate(lines):
        mark = _FENCE.match(line)
        if not inside and mark and not (fence and not mark.group(1).startswith(fence)):
            fence = "" if fence else mark.group(1)
        if fence or (not inside and "<!--" not in line):
            yield line
            continue
        code = [match.span() for match in _CODE.finditer(line)]
        indent, last = len(line) - len(line.lstrip()), line.rfind("-->")
        kept: list[str] = []
        start = place = span = 0  # of what is kept, of what is looked at, of the code that comes next
        while (found := line.find("-->" if inside else "<!--", place)) >= 0:
            place = found + (3 if inside else 4)
            while span < len(code) and code[span][1] <= found:
                span += 1
            if not inside and span < len(code) and code[span][0] < found:
                place = code[span][1]
            elif not inside and found > indent and max(last - found, closing - number) <= 0:
                continue  # one that nobody closes, in the middle of a line, is text
            else:
                if not inside:
                    kept.append(line[start:found])
                inside, start = not inside, place
        yield "".join(kept) + ("" if inside else line[start:])


def _paragraph(lines: list[str]) -> str:
    """One line per list item, table row and hard break; other lines are joined, as Markdown shows them."""
    for place, line in enumerate(lines[1:]):
        if "|" in lines[place] and _TABLE_RULE.match(line.strip()):
            rows = [_cells(row) for row in lines[place:] if row is not line]
            return "\n".join(filter(None, [_paragraph(lines[:place]), *table_lines(rows)]))
    text = ""
    hard = False
    for line in lines:
        item = _BULLET.match(line)
        text += ("\n" if item or hard else " ") + re.sub(r"^\[[ xX]\] ", "", _BULLET.sub("", line).strip())
        hard = line.endswith(("  ", "\\"))
        text = text.removesuffix("\\") if hard else text
    return "\n".join(filter(None, (_inline(line) for line in text.split("\n"))))


def _cells(row: str) -> list[str]:
    row = re.sub(r"^\s*\||(?<!\\)\|\s*$", "", row)
    return [_inline(cell.strip().replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", row)]


def _inline(text: str) -> str:
    """Markdown's inline markup stripped: links keep their text, images go, code keeps its characters."""
    kept: list[str] = []

    def keep(characters: str) -> str:
        kept.append(characters)
        return f"\0{len(kept) - 1}\0"

    text = _CODE.sub(lambda match: keep(match.group(2).strip()), text)
    text = re.sub(r"\\([!-/:-@\[-`{-~])", lambda match: keep(match.group(1)), text)
    text = re.sub(r"!\[[^\[\]]{0,1000}\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\]]*\])", "", text)
    text = re.sub(r"\[\^[^\[\]]{1,100}\]:?", "", text)
    text = re.sub(r"\[([^\[\]]*)\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"<((?:https?|mailto):[^<>\s]+)>", r"\1", text)
    text = _TAG.sub(lambda match: " " if match.group().lower().startswith("<br") else "", text)
    text = re.sub(r"(\*{1,3}|~~)(?=\S)(.{1,500}?)(?<=\S)\1", _emphasised, text)
    text = re.sub(r"(\*{1,2})(?=\S)(.{1,500}?)(?<=\S)\1", _emphasised, text)  # *one **in** another*
    text = re.sub(r"(?<!\w)(_{1,3})(?=\S)(.{1,500}?)(?<=\S)\1(?!\w)", r"\2", text)
    text = html.unescape(text)
    for _ in range(2):  # an escape may stand inside code
        text = re.sub("\0(\\d+)\0", lambda match: kept[int(match.group(1))], text)
    return " ".join(text.split())


def _emphasised(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    product = before.isdigit() or (match.group(1) == "*" and before.isalnum() and after.isalnum())  # 2*3*4, a*b*c
    return match.group() if product else match.group(2)
