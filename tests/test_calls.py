"""Tool calls: every way to write one, and every refusal."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent.calls import Call, MalformedCallError, parse_calls

TEMPLATE = {"action": "web_search", "action_input": {"query": "height of the tower"}}
NATIVE = {"name": "web_search", "arguments": {"query": "height of the tower"}}
TOWER = [Call("height of the tower")]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TEMPLATE),
        json.dumps(NATIVE),
        f"\n  {json.dumps(TEMPLATE, indent=2)}\n\n",
        json.dumps([NATIVE]),
        json.dumps({"name": "web_search", "parameters": {"query": "height of the tower"}}),
        json.dumps({**TEMPLATE, "thought": "to be sure", "action_input": {"query": " height\nof  the tower ", "k": 3}}),
        json.dumps({"name": "web_search", "arguments": '{"query": "height of the tower"}'}),
        json.dumps({"name": "web_search", "arguments": "height of the tower"}),
        json.dumps(TEMPLATE) + ",",
        json.dumps(TEMPLATE) + ";\n",
    ],
)
def test_one_call(text):
    assert parse_calls(text) == TOWER


@pytest.mark.parametrize("form", ["{}{}", "{}\n{}", "{}, {}", "[{}, {}]", "[{}]\n[{}]", "{};{}"])
def test_two_calls_in_order(form):
    one = json.dumps(TEMPLATE)
    two = json.dumps({"name": "web_search", "arguments": {"query": "a second"}})
    assert parse_calls(form.replace("{}", "%s") % (one, two)) == [*TOWER, Call("a second")]


@pytest.mark.parametrize(
    "query", ["北京的塔有多高", '"quoted" \\ {braces}', "</tool_call>", "🙂", "\ud800", "a" * 100_000]
)
def test_queries_are_kept_as_they_are(query):
    assert parse_calls(json.dumps({"name": "web_search", "arguments": {"query": query}})) == [Call(query)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("[]", "empty"),
        ("web_search(tower)", "not valid JSON"),
        ('{"name": "web_search"', "not valid JSON"),
        ("{'name': 'web_search'}", "not valid JSON"),
        (json.dumps(NATIVE) + " and more", "not valid JSON"),
        ("```json\n" + json.dumps(NATIVE) + "\n```", "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
        ("[" * 100_000 + "]" * 100_000, "not valid JSON"),
        ('{"name": ' + "1" * 5000 + "}", "not valid JSON"),  # Python refuses to read such an integer
        ("null", "not a JSON object"),
        ('"web_search"', "not a JSON object"),
        ("3", "not a JSON object"),
        (json.dumps([[NATIVE]]), "not a JSON object"),
        (json.dumps([NATIVE, 1]), "not a JSON object"),
        ("{}", "names no tool"),
        ('{"name": 3}', "names no tool"),
        ('{"action": null, "name": "web_search"}', "names no tool"),
        ('{"name": "calculator", "arguments": {"query": "1 + 1"}}', "no tool called 'calculator'"),
        (json.dumps({"name": "x" * 10_000}), "no tool called 'xxx"),
        ('{"name": "web_search"}', "no query"),
        ('{"name": "web_search", "arguments": null}', "no query"),
        ('{"name": "web_search", "arguments": []}', "no query"),
        ('{"name": "web_search", "arguments": {"q": "tower"}}', "no query"),
        ('{"name": "web_search", "arguments": {"query": 3}}', "no query"),
        ('{"name": "web_search", "arguments": {"query": ["tower"]}}', "no query"),
        ('{"name": "web_search", "arguments": {"query": " \\n\\u2003"}}', "no query"),
        ('{"name": "web_search", "arguments": "  "}', "no query"),
        (json.dumps([NATIVE, {"name": "web_search"}]), "no query"),
    ],
)
def test_refusals_say_what_is_wrong_and_what_to_write(text, says):
    with pytest.raises(MalformedCallError) as error:
        parse_calls(text)
    message = str(error.value)
    assert says in message
    assert len(message) < 300
    example = message[message.index("like this: ") + len("like this: ") :]
    assert len(parse_calls(example)) == 1


def test_arguments_in_a_string_that_hold_no_object_are_the_query():
    for arguments in ("[1, 2]", "{", "9" * 5000, '{"a":' * 100_000):
        assert parse_calls(json.dumps({"name": "web_search", "arguments": arguments})) == [Call(arguments)]


def test_time_is_linear():
    started = time.perf_counter()
    many = parse_calls(json.dumps(NATIVE) * 20_000)
    assert (len(many), many[-1]) == (20_000, TOWER[0])
    for text in ("{" * 500_000, '"' * 500_000, json.dumps(NATIVE) + " " * 500_000 + "x", "," * 500_000):
        with pytest.raises(MalformedCallError):
            parse_calls(text)
    assert time.perf_counter() - started < 5


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("web_search")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "action", "arguments", "action_input", "parameters", "query"]), inner, max_size=4
        ),
    ),
    max_leaves=8,
)
pieces = st.one_of(
    st.text(max_size=30), values.map(json.dumps), st.sampled_from([json.dumps(TEMPLATE), "[", "]", "{", "}", ",", '"'])
)


@given(st.lists(pieces, max_size=4).map("".join))
def test_never_anything_but_calls_or_a_refusal(text):
    try:
        calls = parse_calls(text)
    except MalformedCallError as error:
        assert "Write it like this" in str(error)  # noqa: PT017
    else:
        assert calls
        assert all(type(call) is Call and call.query == " ".join(call.query.split()) != "" for call in calls)


@given(st.text(min_size=1).filter(str.strip), st.booleans(), st.booleans())
def test_what_is_written_is_read(query, native, ascii_only):
    arguments = {"query": query}
    value = (
        {"name": "web_search", "arguments": arguments}
        if native
        else {"action": "web_search", "action_input": arguments}
    )
    assert parse_calls(json.dumps(value, ensure_ascii=ascii_only)) == [Call(" ".join(query.split()))]
