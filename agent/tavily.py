"""TavilySearch: web search through Tavily's own client, with its errors turned into one line without the key."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from ..engine.errors import LonghandError
from .search import SearchError, SearchResult

MAX_QUERY_CHARACTERS = 400  # Tavily refuses longer queries
LONGEST_WAIT_SECONDS = 30.0  # a server that asks for more is told to the person, not waited for
_CHOICES = {
    "depth": ("basic", "advanced"),
    "topic": ("general", "news", "finance"),
    "time_range": (None, "day", "week", "month", "year"),
}


@dataclass(frozen=True)
class _Failure:
    """One attempt that failed. A value and not an exception: an exception would drag along the client's own, whose
    text, arguments and frames may hold the key."""

    message: str
    fatal: bool = False
    passing: bool = False  # worth another attempt
    wait_seconds: float | None = None  # what the server asked for


@dataclass
class _Seen:
    """Status and headers of an attempt's last response; the client's exceptions tell neither."""

    status: int | None = None
    retry_after: str | None = None

    def note(self, response: Any, *_: Any, **__: Any) -> None:
        self.status = response.status_code
        self.retry_after = response.headers.get("Retry-After")


class TavilySearch:
    """Searches the web through api.tavily.com.

    `api_key` is taken from the environment variable TAVILY_API_KEY when it is not given; it is sent nowhere else and
    shown nowhere. `timeout_seconds` bounds each wait for the server, per attempt; an attempt that met 429, 5xx, a
    timeout or a broken connection is repeated up to `retries` times, after the seconds that the server's Retry-After
    asks for, else after about 0.5, 1, 2, ... Queries are cut to 400 characters at a word boundary.

    Raises LonghandError for an option it does not know, naming option and value. Raises SearchError (fatal) when there
    is no key, here, or when it is refused or its quota is used up, in `search`; every other failure of `search` is a
    SearchError that is not fatal.
    """

    name = "tavily"

    def __init__(
        self,
        api_key: str | None = None,
        depth: str = "basic",
        topic: str = "general",
        time_range: str | None = None,
        max_results: int = 5,
        include_domains: Iterable[str] = (),
        exclude_domains: Iterable[str] = (),
        timeout_seconds: float = 20.0,
        retries: int = 3,
        base_url: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        _check_choices(depth=depth, topic=topic, time_range=time_range)
        _check_range("max_results", max_results, 1, 20)
        _check_range("timeout_seconds", timeout_seconds, 0.001, 120)
        _check_range("retries", retries, 0, 10)
        self._options: dict[str, Any] = {
            "search_depth": depth,
            "topic": topic,
            "time_range": time_range,
            "max_results": max_results,
            "include_domains": _domains("include_domains", include_domains) or None,
            "exclude_domains": _domains("exclude_domains", exclude_domains) or None,
            "timeout": timeout_seconds,
        }
        self._retries = retries
        self._sleep = sleep
        self._jitter = random.Random()
        self._seen = _Seen()
        self._key = _checked_key(os.environ.get("TAVILY_API_KEY", "") if api_key is None else api_key)
        self._client = self._connect(base_url)

    def __repr__(self) -> str:
        return f"TavilySearch(depth={self._options['search_depth']!r}, topic={self._options['topic']!r})"

    def search(self, query: str) -> list[SearchResult]:
        """The results for `query` as Tavily ranks them, best first."""
        query = cut_query(query)
        if not query:
            raise SearchError("the search query is empty")
        outcome = self._attempt(query)
        for attempt in range(self._retries):
            if not isinstance(outcome, _Failure) or not outcome.passing:
                break
            wait = outcome.wait_seconds
            if wait is None:
                wait = 0.5 * 2**attempt * self._jitter.uniform(0.75, 1.25)  # so that many callers do not return at once
            if wait > LONGEST_WAIT_SECONDS:
                break
            self._sleep(wait)
            outcome = self._attempt(query)
        if isinstance(outcome, _Failure):
            raise SearchError(outcome.message, fatal=outcome.fatal)
        return outcome

    def _connect(self, base_url: str | None) -> Any:
        import requests
        from tavily import TavilyClient

        session = requests.Session()
        session.hooks["response"].append(self._seen.note)
        return TavilyClient(api_key=self._key, api_base_url=base_url and base_url.rstrip("/"), session=session)

    def _attempt(self, query: str) -> list[SearchResult] | _Failure:
        """One request. Never raises: whatever the client raises becomes a _Failure here."""
        self._seen.status = self._seen.retry_after = None
        try:
            return _results(self._client.search(query, **self._options))
        except Exception as error:
            return self._failure(error)

    def _failure(self, error: Exception) -> _Failure:
        import requests
        from tavily.errors import TimeoutError as TavilyTimeout

        status = self._seen.status
        if isinstance(error, (TavilyTimeout, requests.Timeout)):
            return _Failure(f"Tavily did not answer within {self._options['timeout']:g} seconds", passing=True)
        if status is None:
            broken = isinstance(error, requests.ConnectionError)
            what = "cannot be reached; check the network" if broken else f"cannot be asked ({type(error).__name__})"
            return _Failure(f"Tavily {what}", passing=broken)
        if status == 200:
            return _Failure("Tavily's answer is not a list of search results", passing=False)
        said = self._without_key(str(error))
        said = f": {said}" if said and not isinstance(error, (requests.HTTPError, TypeError)) else ""
        if status in (401, 403):
            return _Failure(f"Tavily refused the key (HTTP {status}){said}; check TAVILY_API_KEY", fatal=True)
        if status in (432, 433):
            return _Failure(f"the Tavily quota of this key is used up (HTTP {status}){said}", fatal=True)
        if status == 400:
            return _Failure(f"Tavily refused the request (HTTP 400){said}")
        if status == 429 or status >= 500:
            wait = _seconds(self._seen.retry_after)
            asks = f"; it asks to wait {wait:.0f} seconds" if wait is not None else ""
            what = "too many requests" if status == 429 else "Tavily has trouble"
            return _Failure(f"{what} (HTTP {status}){said}{asks}", passing=True, wait_seconds=wait)
        return _Failure(f"Tavily answered with HTTP {status}{said}")

    def _without_key(self, text: str) -> str:
        """A server's words, fit to print: no key, one line, nothing unprintable, at most 200 characters."""
        text = " ".join(text.replace(self._key, "[key]").split())
        return "".join(character for character in text if character.isprintable())[:200]


def cut_query(query: str, limit: int = MAX_QUERY_CHARACTERS) -> str:
    """`query` with its white space normalised, cut to `limit` characters: at a word boundary if it has one."""
    query = " ".join(query.split())
    if len(query) <= limit:
        return query
    return query[: limit + 1].rpartition(" ")[0] or query[:limit]


def _results(answer: dict[str, Any]) -> list[SearchResult]:
    results = []
    for found in answer["results"]:
        title, url, content, score = (found.get(key) for key in ("title", "url", "content", "score"))
        if isinstance(url, str) and url:
            number = float(score) if isinstance(score, (int, float)) else None
            results.append(SearchResult(str(title or url), url, str(content or ""), number))
    return results


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds from now: RFC 9110 allows a number or a date. None for anything else."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(?:\.\d{1,9})?\s*", retry_after):
        return float(retry_after)
    try:
        then = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=timezone.utc)
    return max(0.0, (then - datetime.now(timezone.utc)).total_seconds())


def _checked_key(key: str) -> str:
    """The key without the white space around it. What cannot stand in a header is refused here, where it is not shown:
    the HTTP library's own complaint would quote it."""
    key = key.strip()
    if not key:
        raise SearchError("no Tavily key: set TAVILY_API_KEY, or search a folder with --search docs", fatal=True)
    if not re.fullmatch(r"[!-~]+", key):
        raise SearchError("the Tavily key holds white space or characters outside ASCII; check it", fatal=True)
    return key


def _check_choices(**options: str | None) -> None:
    for option, value in options.items():
        if value not in _CHOICES[option]:
            known = ", ".join(str(choice) for choice in _CHOICES[option])
            raise LonghandError(f"{option} is {value!r}; Tavily knows {known}")


def _check_range(option: str, value: float, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise LonghandError(f"{option} is {value!r}; it must be from {least:g} to {most:g}")


def _domains(option: str, domains: Iterable[str]) -> list[str]:
    if isinstance(domains, str):
        raise LonghandError(f"{option} is {domains!r}; it wants a list of domains")
    return [str(domain) for domain in domains]
