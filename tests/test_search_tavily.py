"""TavilySearch through the real client, against a server on the loopback; no key ever shows."""

import json
import threading
import time
import traceback
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent.search import SearchError, SearchResult
from longhand.agent.tavily import TavilySearch, cut_query
from longhand.engine.errors import LonghandError

pytest.importorskip("tavily")

KEY = "tvly-canary-0123456789"
FOUND = {"results": [{"title": "T", "url": "https://t.example/", "content": "c", "score": 0.9, "raw_content": None}]}


class Server:
    """Answers each POST with the next of `replies` (the last one again and again): (status, body, headers), where a
    body is sent as JSON unless it is bytes, and None sleeps past the client's timeout."""

    def __init__(self):
        self.replies = [(200, FOUND, {})]
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers["Authorization"], body))
                reply = outer.replies.pop(0) if len(outer.replies) > 1 else outer.replies[0]
                status, answer, headers = reply or (200, FOUND, {})
                if reply is None:
                    time.sleep(0.4)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # a client that timed out has hung up
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "TAVILY_HTTP_PROXY", "TAVILY_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.close()


def tavily(server, waits=None, **options):
    waits = [] if waits is None else waits
    return TavilySearch(**{"api_key": KEY, "base_url": server.url, "sleep": waits.append, **options})


def fails(search, query="q"):
    """The SearchError of a search, once everything that could show the key was looked through."""
    with pytest.raises(SearchError) as caught:
        search.search(query)
    error = caught.value
    shown = [str(error), repr(error), repr(error.args), repr(search), "".join(traceback.format_exception(error))]
    assert not any(KEY in text or "canary" in text for text in shown)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "\n" not in str(error)
    assert str(error).isprintable()
    return error


def test_a_search(server):
    search = tavily(server, depth="advanced", topic="news", time_range="week", max_results=7, include_domains=["a.b"])
    assert search.search("  how   tall ") == [SearchResult("T", "https://t.example/", "c", 0.9)]
    ((path, authorization, body),) = server.requests
    assert (path, authorization) == ("/search", f"Bearer {KEY}")
    assert body == {
        "query": "how tall",
        "search_depth": "advanced",
        "topic": "news",
        "time_range": "week",
        "max_results": 7,
        "include_domains": ["a.b"],
    }


def test_the_key_comes_from_the_environment_too(server, monkeypatch):
    monkeypatch.setenv("TAVILY_API_KEY", f" {KEY}\n")
    TavilySearch(base_url=server.url + "/").search("q")
    assert server.requests[0][:2] == ("/search", f"Bearer {KEY}")


@pytest.mark.parametrize("key", [None, "", " \n"])
def test_no_key(server, key):
    with pytest.raises(SearchError, match="TAVILY_API_KEY") as caught:
        tavily(server, api_key=key)
    assert caught.value.fatal


@pytest.mark.parametrize("key", ["tvly canary", "tvly-canary\r\nX: 1", "tvly-canärÿ"])
def test_a_key_that_no_header_can_hold_is_not_shown(server, key):
    with pytest.raises(SearchError, match="the Tavily key") as caught:
        tavily(server, api_key=key)
    assert caught.value.fatal
    assert "can" not in str(caught.value).replace("cannot", "")


def test_an_invalid_key_is_fatal_at_once(server):
    server.replies = [(401, {"detail": {"error": f"Unauthorized: {KEY} is no key\x1b[31m\n."}}, {})]
    error = fails(tavily(server))
    assert error.fatal
    assert "refused the key" in str(error)
    assert "[key] is no key" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [432, 433])
def test_a_used_up_quota_is_fatal_and_says_so(server, status):
    server.replies = [(status, {"detail": {"error": "This request exceeds your plan's limit."}}, {})]
    error = fails(tavily(server))
    assert error.fatal
    assert "quota" in str(error)
    assert "exceeds your plan" in str(error)
    assert len(server.requests) == 1


def test_too_many_requests_then_success(server):
    waits = []
    server.replies = [(429, {}, {}), (429, {}, {"Retry-After": "7"}), (200, FOUND, {})]
    assert len(tavily(server, waits).search("q")) == 1
    assert 0.375 <= waits[0] <= 0.625
    assert waits[1] == 7


def test_retry_after_may_be_a_date(server):
    waits = []
    then = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20))
    server.replies = [(503, b"busy", {"Retry-After": then}), (200, FOUND, {})]
    tavily(server, waits).search("q")
    assert 15 < waits[0] <= 20


def test_a_wait_too_long_is_told_and_not_waited_for(server):
    waits = []
    server.replies = [(429, {"detail": {"error": "slow down"}}, {"Retry-After": "3600"})]
    error = fails(tavily(server, waits))
    assert not error.fatal
    assert "slow down" in str(error)
    assert "3600" in str(error)
    assert waits == []
    assert len(server.requests) == 1


def test_server_errors_are_repeated_with_growing_waits(server):
    waits = []
    server.replies = [
        (500, {"error": KEY}, {"Retry-After": "soon"}),
        (502, b"<html>bad gateway</html>", {"Retry-After": "Mon, 01 Jan 2026 00:00:00 +99999999999999"}),
        (503, {}, {}),
    ]
    error = fails(tavily(server, waits))
    assert not error.fatal
    assert "503" in str(error)
    assert len(server.requests) == 4
    assert all(0.75 * base <= wait <= 1.25 * base for wait, base in zip(waits, (0.5, 1.0, 2.0), strict=True))


def test_a_bad_request_is_not_repeated(server):
    server.replies = [(400, {"detail": {"error": "Query is too long. " * 50}}, {})]
    error = fails(tavily(server))
    assert not error.fatal
    assert "Query is too long" in str(error)
    assert len(str(error)) < 300
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [204, 302, 404])
def test_other_statuses_become_one_line(server, status):
    server.replies = [(status, b"", {})]
    assert str(status) in str(fails(tavily(server)))


def test_a_timeout(server):
    server.replies = [None]
    error = fails(tavily(server, timeout_seconds=0.05, retries=1))
    assert not error.fatal
    assert "within 0.05 seconds" in str(error)
    assert len(server.requests) == 2


def test_nobody_there(server):
    error = fails(tavily(server, base_url="http://127.0.0.1:1", retries=0))
    assert not error.fatal
    assert "cannot be reached" in str(error)


@pytest.mark.parametrize("body", [b"<html>", b"{", [], 5, None, {"results": 5}, {"results": ["x"]}])
def test_an_answer_that_is_no_answer(server, body):
    server.replies = [(200, body, {})]
    assert "not a list of search results" in str(fails(tavily(server)))


def test_odd_results_are_mended_or_left_out(server):
    odd = [{"title": None, "url": "https://a/", "content": None, "score": "high"}, {"title": "no url"}, {}]
    server.replies = [(200, {"results": odd}, {}), (200, {}, {})]
    search = tavily(server)
    assert search.search("q") == [SearchResult("https://a/", "https://a/", "", None)]
    assert search.search("q") == []


def test_an_empty_query_is_not_sent(server):
    assert "empty" in str(fails(tavily(server), " \n "))
    assert server.requests == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("depth", "deep"),
        ("topic", "sports"),
        ("time_range", "decade"),
        ("max_results", 0),
        ("max_results", 21),
        ("timeout_seconds", 0),
        ("retries", -1),
        ("include_domains", "a.b"),
    ],
)
def test_an_unknown_option_is_named_with_its_value(option, value):
    with pytest.raises(LonghandError) as caught:
        TavilySearch(KEY, **{option: value})
    assert option in str(caught.value)
    assert repr(value) in str(caught.value)
    assert KEY not in str(caught.value)


@given(st.text(max_size=1500))
def test_queries_are_cut_between_words(query):
    cut = cut_query(query)
    normalised = " ".join(query.split())
    assert len(cut) <= 400
    assert normalised.startswith(cut)
    if " " in normalised[:400]:
        assert normalised.split(" ")[: len(cut.split(" "))] == cut.split(" ")
