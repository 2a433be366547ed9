"""Values as JSON, exactly as the real server writes them: `to_jsonb` of the column's type, in UTC.

The types below are written here, because a table of streaks consists of them and asking PostgreSQL for each value
would cost more than everything else. All other types (arrays, json, domains, enums, composites, ...) are PostgreSQL's
to write.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, Final

import asyncpg

from .wal import is_outage

__all__ = ["NULL", "Encoder"]

NULL: Final = "null"
_CACHED_VALUES: Final = 50_000
_CACHED_BYTES: Final = 1_000  # per value: the rare long ones would fill the memory


def _bool(text: str) -> str:
    return "true" if text == "t" else "false"


def _number(text: str) -> str:
    return NULL if text[-1] in "Nny" else text  # NaN, Infinity, -Infinity


def _float(text: str) -> str:
    if text[-1] in "Nny":
        return NULL
    number = Decimal(text)
    return format(number, "f") if number else "0"


def _timestamp(text: str) -> str:
    return f'"{text.replace(" ", "T", 1) if text[0].isdigit() else text}"'


def _timestamptz(text: str) -> str:
    return _timestamp(text.replace("+00", "+00:00", 1))


def _bytea(text: str) -> str:
    return f'"{text.removeprefix(chr(92) + "x")}"'


_PLAIN_TEXT: Final = (18, 19, 25, 1042, 1043)  # "char", name, text, bpchar, varchar
_QUOTED: Final = (2950, 1082, 1083, 1266, 1186, 869, 650, 829)  # uuid, date, time(tz), interval, inet, cidr, macaddr
_WRITERS: Final[dict[int, Callable[[str], str]]] = {
    16: _bool,
    20: str,
    21: str,
    23: str,
    700: _float,
    701: _float,
    1700: _number,
    1114: _timestamp,
    1184: _timestamptz,
    3802: str,  # jsonb: its text is its JSON
    17: _bytea,
    **dict.fromkeys(_PLAIN_TEXT, encode_basestring),
    **dict.fromkeys(_QUOTED, encode_basestring),
}


class Encoder:
    """Writes values of any type, remembering what PostgreSQL wrote."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, str], str] = OrderedDict()
        self._batch: dict[tuple[int, str], str] = {}

    def writer(self, type_oid: int) -> Callable[[str], str]:
        """Return the function that writes values of this type; `learn` must have seen those of foreign types."""
        return _WRITERS.get(type_oid) or (lambda text: self._batch[type_oid, text])

    def is_foreign(self, type_oid: int) -> bool:
        """Return whether PostgreSQL must write values of this type."""
        return type_oid not in _WRITERS

    async def learn(self, connection: Any, values: Iterable[tuple[int, str]], sql_types: dict[int, str]) -> None:
        """Have PostgreSQL write the values of foreign types that a batch of changes contains.

        Args:
            connection: A connection opened by `wal.connect`, or a pool's of the same settings.
            values: Pairs of type oid and text.
            sql_types: The types' names, quoted as SQL needs them.
        """
        self._batch = {}
        unknown: dict[int, list[str]] = {}
        for key in set(values):
            if key in self._known:
                self._known.move_to_end(key)
                self._batch[key] = self._known[key]
            else:
                unknown.setdefault(key[0], []).append(key[1])
        for type_oid, texts in unknown.items():
            await self._ask(connection, type_oid, sql_types[type_oid], texts)
        while len(self._known) > _CACHED_VALUES:
            self._known.popitem(last=False)

    async def _ask(self, connection: Any, type_oid: int, sql_type: str, texts: list[str]) -> None:
        query = (
            f"select array_agg(to_jsonb(v::{sql_type})::text order by i) "  # noqa: S608  (the type's name comes from format_type)
            "from unnest($1::text[]) with ordinality u(v, i)"
        )
        try:
            written = await connection.fetchval(query, texts)
        except asyncpg.PostgresError as error:
            if is_outage(error):
                raise
            # A type whose text does not read back, or that was dropped meanwhile: show the text.
            written = [encode_basestring(text) for text in texts]
        for text, json_text in zip(texts, written, strict=True):
            self._batch[type_oid, text] = json_text
            if len(text) <= _CACHED_BYTES:
                self._known[type_oid, text] = json_text
