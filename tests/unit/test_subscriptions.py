"""Bindings of `postgres_changes` as text becomes conditions, without a database."""

from typing import Any

import pytest

from local_supabase.subscriptions import Binding, BindingError, Filter, binding_id, describe, inspect, parse_binding

TABLE = {"event": "*", "schema": "public", "table": "t"}


@pytest.mark.parametrize(
    ("params", "binding"),
    [
        (TABLE, Binding("*", "public", "t")),
        ({"table": "t"}, Binding("*", "public", "t")),
        ({"schema": "app"}, Binding("*", "app", "*")),
        ({**TABLE, "event": "insert"}, Binding("INSERT", "public", "t")),
        ({**TABLE, "event": "BOGUS"}, Binding("*", "public", "t")),
        ({**TABLE, "event": 5}, Binding("*", "public", "t")),
        ({**TABLE, "filter": " "}, Binding("*", "public", "t")),
        ({**TABLE, "select": ["a", 5]}, Binding("*", "public", "t", select=("a",))),
        ({**TABLE, "select": []}, Binding("*", "public", "t")),
    ],
)
def test_bindings(params: dict[str, Any], binding: Binding) -> None:
    """Schema or table may be missing, unknown events mean all, and an empty filter or selection means none."""
    assert parse_binding(params) == binding


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("a=eq.1", [Filter("a", "eq", "1")]),
        ("a=eq.", [Filter("a", "eq", "")]),
        ("a=eq.x.y=z", [Filter("a", "eq", "x.y=z")]),
        ("a=gt.1,b=not.lte.2", [Filter("a", "gt", "1"), Filter("b", "lte", "2", negated=True)]),
        ("a=in.(1,2),b=eq.3", [Filter("a", "in", "{1,2}"), Filter("b", "eq", "3")]),
        ('a=eq."x,y"', [Filter("a", "eq", "x,y")]),
        ('a=eq."x\\"y\\\\"', [Filter("a", "eq", 'x"y\\')]),
        ('a=eq."x"y', [Filter("a", "eq", '"x"y')]),
        ('a=in.("x,)",y)', [Filter("a", "in", '{"x,)",y}')]),
        ("a=like.f(x,y)", [Filter("a", "like", "f(x,y)")]),
    ],
)
def test_filters(text: str, filters: list[Filter]) -> None:
    """Commas join conditions, except within quotes and parentheses; quotes are taken off."""
    assert list(parse_binding({**TABLE, "filter": text}).filters) == filters


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %{}"),
        ({**TABLE, "table": 5}, '%{"event" => "*", "schema" => "public", "table" => 5}'),
        ({"schema": "public", "filter": "a=eq.1"}, "No subscription params"),
        ({**TABLE, "filter": 5}, "No subscription params"),
        ({**TABLE, "filter": "a"}, 'Error parsing `filter` params: ["a"]'),
        ({**TABLE, "filter": "a=b"}, 'Error parsing `filter` params: ["b"]'),
        ({**TABLE, "filter": "a=foo.b.c"}, 'Error parsing `filter` params: ["foo", "b.c"]'),
        ({**TABLE, "filter": "a=eq.1,,b=eq.2"}, "must not contain empty segments"),
        ({**TABLE, "filter": "a=in.1"}, "`in` filter value must be wrapped by parentheses"),
        ({**TABLE, "select": "a"}, "Error parsing `select` params: expected a list"),
        ({"schema": "public", "select": ["a"]}, "Column selection is not supported for wildcard subscriptions"),
    ],
)
def test_errors_say_what_is_wrong(params: dict[str, Any], message: str) -> None:
    """What cannot be understood is refused with the request quoted as the real server quotes it."""
    with pytest.raises(BindingError) as refused:
        parse_binding(params)
    assert message in str(refused.value)


def test_ids_are_equal_for_equal_bindings_and_never_zero() -> None:
    """An id depends on what is asked, not on the order of keys, and lies between 1 and 2^27 - 1."""
    ids = {binding_id({**TABLE, "filter": f"a=eq.{i}"}) for i in range(2_000)}
    assert len(ids) == 2_000
    assert min(ids) >= 1
    assert max(ids) < 2**27
    assert binding_id(TABLE) == binding_id(dict(reversed(TABLE.items())))


def test_describe() -> None:
    """Error messages name event, schema, table, filters and selection."""
    binding = parse_binding({**TABLE, "filter": 'a=not.eq."q\\"#{"', "select": ["b"]})
    filters = '[{"a", "eq", "q\\"\\#{", true}]'
    assert describe(binding) == f'[event: *, schema: public, table: t, filters: {filters}, select: ["b"]]'


def test_inspect() -> None:
    """Terms look as in the real server's language."""
    value = {"b": [None, True, 1.5], "a": {"c": "ü\n"}}
    assert inspect(value) == '%{"a" => %{"c" => "ü\\n"}, "b" => [nil, true, 1.5]}'
