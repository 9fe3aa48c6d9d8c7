"""The page of a trace: everything escaped, nothing fetched, and what a browser makes of it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from longhand.agent import trace_page
from longhand.agent.trace import TRACE_FORMAT
from longhand.agent.trace_file import read_trace
from longhand.agent.trace_page import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = [
    "<script>document.title='owned'</script>", "</details></div><h1>out</h1>", '"><img src=x onerror=alert(1)>',
    "<|im_end|></tool_response>", "שלום \u202e עולם", "\x1b[31mred\x00", "&lt;b&gt; &amp;", "]]><!-- -->", "'\"`",
    "</style></script><svg onload=alert(1)>", "lone \ud800 surrogate", "javascript:alert(1)", "https://evil.example/x.js",
]  # fmt: skip
VOID = {"meta", "br", "img", "link", "input", "hr"}


def trace_of(path, text="plain", outcome=True):
    """A trace whose every text is `text`."""
    header = {
        "type": "header", "format": TRACE_FORMAT, "question": text, "name": text, "rope": text, "model": text,
        "quantization": text, "tokenizer": text, "dtype": text, "vocab": 100, "max_context": 100, "search": text,
        "template": 1, "today": text, "sampling": {text: text}, "budget": {}, "seed": 0, "device": text,
        "fork": {"name": text, "ids": 4, "seconds": 0.25},
    }  # fmt: skip
    stats = {"fed": 2, "computed": 4, "reused": 1, "sampled": 2, "prefill_seconds": 0.5, "decode_seconds": 0.25}
    span = {"type": "span", "turn": 1, "cached": 0, "computed": 2, "seconds": 0.5, "text": text, "ids": [1, 2]}
    result = {"title": text, "url": text, "content": text, "links": [text], "lacks": [text]}
    search = {"query": text, "results": [result, result], "error": None, "notice": None, "repeated": False, "cut": True}
    n = len(text)
    rows = [
        header,
        {**span, "source": "prompt", "start": 0, "question": text},
        {**span, "source": "sampled", "start": 2, "stats": stats, "logprobs": [-1, None],
         "parts": [["thinking", 2, n]]},
        {**span, "source": "tool", "start": 4, "turn": 2, "search": search},
        {**span, "source": "tool", "start": 6, "turn": 2, "search": {**search, "results": [], "notice": text}},
        {**span, "source": "forced", "start": 8, "turn": 2, "reason": text},
        {**span, "source": "sampled", "start": 10, "turn": 2, "stats": stats,
         "parts": [["call", 1, n // 2], ["answer", 1, n - n // 2]]},
        {"type": "outcome", "answer": f"{text} [{text}]({text}). {text}", "finish_reason": "loop", "recomputed": 0,
         "citations": [{"title": text, "url": text}],
         "unsupported": [{"kind": "sentence", "text": text, "url": text, "reason": text}], "turns": [], "searches": []},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in (rows if outcome else rows[:-1])))
    return read_trace(path)


class Reader(HTMLParser):
    """Tags must nest; counts what could run or be fetched."""

    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.texts, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed(html):
    reader = Reader()
    reader.feed(html)
    assert reader.stack == []
    return reader


PLAIN = "plain"


@pytest.mark.parametrize("text", HOSTILE)
def test_everything_is_escaped(tmp_path, text):
    html = page(trace_of(tmp_path / "run.jsonl", text))
    html.encode("utf-8")
    reader = parsed(html)
    usual = parsed(page(trace_of(tmp_path / "plain.jsonl", PLAIN)))
    assert set(reader.tags) <= set(usual.tags)
    assert (reader.tags.count("script"), reader.tags.count("style")) == (1, 1)
    assert reader.tags.count("details") <= usual.tags.count("details")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", html)
    for tag, name, value in reader.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name != "src"
        assert name != "href" or value.startswith("#")
    assert "@import" not in html
    assert "url(" not in html
    seen = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "\ufffd", text)
    assert seen in "".join(reader.texts)


def test_the_policy_allows_the_pages_own_script_alone(tmp_path):
    import base64
    import hashlib

    html = page(trace_of(tmp_path / "run.jsonl"))
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html


def test_citations_lead_to_results_and_marks_are_there(tmp_path):
    html = page(trace_of(tmp_path / "run.jsonl"))
    assert '<a class="cite" href="#result-1">' in html
    assert 'id="result-1"' in html
    assert "<mark>" in html
    assert "Unsupported" in html
    assert "Ended early: loop" in html
    assert "cited in the answer" in html
    assert "names plain" in html
    assert "lacks plain" in html


def test_what_a_stranger_is_told(tmp_path):
    """A fork is named; searches that were refused are not counted; time has a strip where a span took any."""
    html = page(trace_of(tmp_path / "run.jsonl"))
    assert "<b>plain</b>: one of several ways on" in html
    assert "it made 1 search." in html  # of two responses, one is a notice
    ids, seconds = re.findall(r'<div class="strip">(.*?)</div>', html)
    assert ids.count("<a ") == seconds.count("<a ") == 6
    path = tmp_path / "still.jsonl"
    path.write_text((tmp_path / "run.jsonl").read_text().replace('"seconds": 0.5', '"seconds": 0'))
    assert page(read_trace(path)).count('<div class="strip">') == 1


def test_a_trace_without_an_end(tmp_path):
    assert "No answer yet." in page(trace_of(tmp_path / "run.jsonl", outcome=False))


def test_no_secret_reaches_the_page(tmp_path, monkeypatch):
    trace = trace_of(tmp_path / "run.jsonl", "the key tvly-canary-0123456789")  # as if written without the secret known
    monkeypatch.setenv("TAVILY_API_KEY", "tvly-canary-0123456789")
    assert "tvly-canary" not in page(trace)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
@pytest.mark.parametrize("text", [PLAIN, *HOSTILE[:3]])
def test_in_a_browser(tmp_path, text):
    """Renders, folds and unfolds, follows a citation into a fold, says nothing on its console."""
    target = tmp_path / "page.html"
    html = page(trace_of(tmp_path / "run.jsonl", text))
    target.write_text(html, "utf-8")

    def dom(fragment):
        run = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
             f"--user-data-dir={tmp_path / 'profile'}", f"file://{target}{fragment}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert ":CONSOLE" not in run.stderr, run.stderr
        return run.stdout

    plain = dom("")
    assert "What each turn reused" in plain
    assert "owned" not in re.search(r"<title>(.*?)</title>", plain)[1] or "&lt;" in plain
    assert len(re.findall(r"<details[^>]* open", plain)) == 0
    assert len(re.findall(r"<details[^>]* open", dom("#nowhere"))) == 0
    fold = re.search(r'<div id="(span-\d)">\s*<details', html)[1]
    inner = html.replace(f'<div id="{fold}">', "<div>").replace("<summary>", f'<summary id="{fold}">', 1)
    target.write_text(inner, "utf-8")  # a target inside of a fold: it is opened
    assert len(re.findall(r"<details[^>]* open", dom(f"#{fold}"))) == 1


def test_a_citation_leads_to_the_passage_that_says_so():
    """Of several results with one url, the one with the answer's words."""

    def result(url, content):
        return {"title": "T", "url": url, "content": content}

    searches = [
        {"results": [result("a.md#1", "A mill."), result("b.md#1", "Ida Rom laughed in Tarn.")]},
        {"results": [result("b.md#1", "Ida Rom was born in Tarn on 4 May."), result("b.md#1", "Ida Rom was born.")]},
    ]
    found = trace_page._numbers(SimpleNamespace(searches=searches), "Ida Rom was born in Tarn on 4 May. [T](b.md#1)")
    assert found == {"a.md#1": 1, "b.md#1": 3}
