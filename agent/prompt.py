"""The words around the model's own: the question's template and the frames of a tool response, as ids.

Everything the program wrote itself may hold control ids; questions, results and notices that quote them are literal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date

from ..engine.tokenizer import Tokenizer
from .search import SearchResult

TEMPLATE_VERSION = 1  # written to traces: equal versions give equal ids for equal inputs

# The template of the article that the project grew from, its language cleaned.
TEMPLATE = """You are Qwen QwQ, a curious AI built for retrieval-augmented generation.
It is {year} and the current date is {today}.
You have access to the web_search tool to retrieve relevant information to help answer user questions.
You can use the web_search tool up to {max_searches} times to answer a user's question, but try to be efficient and \
use it as few times as possible.
Below are some guidelines:
- Use web_search for general internet queries, like finding current events or factual information.
- Always provide a final answer in a clear and concise manner, with citations for any information obtained from the \
internet. Cite a source as a Markdown link: [title](url).
- If you think you need to use a tool, format your response as a tool call with the `action` and `action_input` \
within <tool_call>...</tool_call>, like this:
<tool_call>
{{"action": "web_search", "action_input": {{"query": "current stock price of Tesla"}}}}
</tool_call>
- After using a tool, continue your reasoning based on the web_search result in <tool_response>...</tool_response>.
- Remember that if you need multi-turn web_search to find relevant information, make sure you conduct all search \
tasks before you provide a final answer.
---
User Question: """


def opening_ids(tokenizer: Tokenizer, today: date, max_searches: int) -> list[int]:
    """The template up to the question; the same for every question of a day."""
    text = TEMPLATE.format(year=today.year, today=today.isoformat(), max_searches=max_searches)
    return tokenizer.encode("<|im_start|>user\n" + text)


def question_ids(tokenizer: Tokenizer, question: str) -> list[int]:
    """The question as literal ids, the end of the user's turn and the start of the model's thinking."""
    return tokenizer.encode_literal(question) + tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n<think>\n")


def follow_up_ids(tokenizer: Tokenizer, question: str, ended: bool) -> list[int]:
    """A further question in the same session; `ended` says that the last turn sampled its own <|im_end|>."""
    head = "\n<|im_start|>user\n" if ended else "<|im_end|>\n<|im_start|>user\n"
    return tokenizer.encode(head) + question_ids(tokenizer, question)


def response_frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids before and after a tool response; the text between them is literal."""
    return tokenizer.encode("\n<tool_response>\n"), tokenizer.encode("\n</tool_response>\n")


def response_text(results: Iterable[SearchResult]) -> str:
    """Search results as the JSON that the model reads."""
    return json.dumps([result.as_dict() for result in results], ensure_ascii=False)


def notice_text(message: str) -> str:
    """A notice (an error, a limit, a correction) as the JSON that the model reads in place of results."""
    return json.dumps({"notice": message}, ensure_ascii=False)
