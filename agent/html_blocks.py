"""Blocks of an HTML page: its headings, paragraphs and tables, without what is no text of its own."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

from .block import Block, table_lines

_DROPPED_TAGS = "script style nav template noscript svg select button iframe object"
_INLINE_TAGS = """a abbr b bdi bdo cite code data del dfn em font i ins kbd label mark q s samp small span strike strong
sub sup time tt u var wbr"""
_DROPPED = frozenset(_DROPPED_TAGS.split())
_CLOSING = re.compile(f"</({_DROPPED_TAGS.replace(' ', '|')})\\b")
_INLINE = frozenset(_INLINE_TAGS.split())


def html_blocks(text: str) -> list[Block]:
    """The blocks of a page in order; its <title> is the first heading where it has none of level 1."""
    reader = _HtmlReader(text)
    # its close() takes quadratic time over a tag or comment that nobody closed; a last tag makes feed() hand over all
    # text before it
    reader.feed(text + "<p>")
    reader.finish()
    blocks = reader.blocks
    if reader.title and not any(block.level == 1 and block.text for block in blocks):
        blocks.insert(0, Block(1, reader.title))
    return blocks


@dataclass
class _Table:
    """A table that is open. `row`: its open row, if one is."""

    row: list[str] | None = None
    heads: int = 0  # of the row's cells
    rows: list[list[str]] = field(default_factory=list)
    headed: bool = False  # whether the first row names the columns


class _HtmlReader(HTMLParser):
    """Collects blocks. Tags that are never closed do no harm: any block tag ends the paragraph before it, and a menu
    that nobody closes is text."""

    def __init__(self, text: str) -> None:
        """`text`: what will be fed."""
        super().__init__(convert_charrefs=True)
        self._closings = Counter(_CLOSING.findall(text.lower()))  # that are still to come, of dropped tags
        self.blocks: list[Block] = []
        self.title = ""
        self._text: list[str] = []  # pieces
        self._level = 0
        self._dropped: list[str] = []  # open tags whose content is dropped
        self._open: Counter[str] = Counter()  # how often each is among them
        self._in_title = False
        self._table = _Table()  # the innermost; the first stands for the page, which has rows only by mistake
        self._around: list[_Table] = []

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        # html.parser stops at an unknown one (3.11); browsers take any for a comment
        return self.parse_bogus_comment(i, report)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._closings[tag] > 0 or tag in ("script", "style"):  # no text of a page, closed or not
            self._dropped.append(tag)
            self._open[tag] += 1
        elif tag == "title" and not self._dropped:
            self._in_title = True
        elif tag == "br":
            self._text.append("\n" if self._table.row is None else " ")
        elif tag == "li":
            self._text.append("\n")
        elif tag == "table":
            self._begin_table()
        elif tag == "tr" or (tag in ("td", "th") and self._around and self._table.row is None):
            self.flush()
            self._table.row, self._table.heads = [], int(tag == "th")
        elif tag in ("td", "th"):
            self._end_cell()
            self._table.heads += tag == "th"
        elif tag not in _INLINE:
            self._block_tag()
            if re.fullmatch("h[1-6]", tag) and self._table.row is None:
                self._level = int(tag[1])

    def handle_endtag(self, tag: str) -> None:
        if tag in _DROPPED:
            self._closings[tag] -= 1
            while self._open[tag]:  # and what was opened in it
                self._open[self._dropped.pop()] -= 1
        elif tag == "title":
            self._in_title = False
        elif tag in ("td", "th"):
            self._end_cell()
        elif tag == "tr":
            self._end_row()
        elif tag == "table":
            self._end_table()
        elif tag not in _INLINE and tag not in ("li", "br"):
            self._block_tag()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title = " ".join((self.title + data).split())
        elif not self._dropped:
            self._text.append(re.sub(r"\s+", " ", data))

    def flush(self) -> None:
        """Ends the open row and paragraph."""
        self._end_row()
        lines = filter(None, (" ".join(line.split()) for line in "".join(self._text).split("\n")))
        self.blocks.append(Block(self._level, (" " if self._level else "\n").join(lines)))
        self._text, self._level = [], 0

    def finish(self) -> None:
        """Ends all that is open."""
        while self._around:
            self._end_table()
        self._end_table()

    def _block_tag(self) -> None:
        if self._table.row is None:
            self.flush()
        else:
            self._text.append(" ")  # a paragraph inside a table's cell

    def _begin_table(self) -> None:
        self._end_cell()  # the one that it stands in, whose row goes on behind it
        self._around.append(self._table)
        self._table = _Table()

    def _end_table(self) -> None:
        self.flush()
        if self._table.rows:
            self.blocks.append(Block(0, "\n".join(table_lines(self._table.rows, self._table.headed))))
        self._table = self._around.pop() if self._around else _Table()

    def _end_cell(self) -> None:
        row = self._table.row
        if row is None:
            self.flush()
            return
        text = " ".join("".join(self._text).split())
        self._text = []
        if text:
            row.append(text)

    def _end_row(self) -> None:
        table = self._table
        if table.row is not None:
            self._end_cell()
            if table.row:
                table.headed = table.headed or (not table.rows and table.heads >= len(table.row))
                table.rows.append(table.row)
            table.row = None
