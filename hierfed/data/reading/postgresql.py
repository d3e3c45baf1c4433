"""Ratings from a PostgreSQL server: a query's rows, as Arrow columns through ADBC."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import polars as pl

from hierfed.data.reading.checks import FLOAT_IDS
from hierfed.data.reading.columns import find_columns
from hierfed.data.reading.queries import Selected, one_line, quoted, statement
from hierfed.errors import DataError

SCHEMES = ("postgresql://", "postgres://")
_PATIENCE = 0.2  # seconds
_SECRETS = {"password", "sslpassword"}
_PLACES = ("host", "hostaddr", "port", "dbname", "service")
_EXPECTED = {
    "user": "whole numbers, text or uuid",
    "item": "whole numbers, text or uuid",
    "rating": "numbers",
    "time": "dates, timestamps or seconds since 1970",
}
_INTEGERS = {"smallint", "integer", "bigint"}
_FLOATS = {"real", "double precision"}
_NUMBERS = {"numeric", *_FLOATS}
_TIMES_OF_DAY = {"time without time zone", "time with time zone"}
_CONNECTION_HINTS = (
    ("password", "check the user's name, and the password in ~/.pgpass or PGPASSWORD"),
    ("role ", "check the user's name in the address"),
    ("database ", "check the database's name in the address"),
    ("translate host name", "check the host's name in the address"),
    ("refused", "check that the server runs there, and the port"),
    ("No such file", "check that the server runs here, and the folder of its socket"),
    ("service", "check the service's name and PGSERVICEFILE"),
)
_STATE_HINTS = {
    "42601": "expected one SELECT with user, item, rating and perhaps time",
    "42501": "ask for the right to SELECT from it, or connect as another user",
}
_DRIVER_WORDS = re.compile(r"^.*?\[libpq\] [^:]*: (could not begin COPY: )?((ERROR|FATAL): +)?")
_LOST = ("terminating connection", "closed the connection", "could not receive", "closed unexpectedly")


def read_postgresql(source: str, query: str, mapping: Mapping[str, str] | None) -> Selected:
    """The rows of `query` from the server at `source` (`postgresql://user@host/database`).

    They are read in one read-only transaction with one snapshot, and stream as Arrow batches into columns. The server
    converts ids to bigint or text, ratings to float8 and times to seconds.

    mapping: role to column, as for `find_columns`.
    Raises DataError, in one line and without secrets, for a password in the address, no query, no driver, no
    connection, any error of the server, and columns of unusable types.
    """
    name = address_shown(source)
    select = statement(query)
    if not select:
        raise DataError(f"{name}: PostgreSQL needs a query: --query 'SELECT user_id, item_id, rating FROM ...'")
    try:
        from adbc_driver_postgresql import dbapi  # noqa: PLC0415 - an extra, which few need
    except ImportError as error:
        raise DataError(f"{name}: PostgreSQL needs a driver: pip install 'hierfed[postgresql]'") from error
    with _connected(dbapi, source, name) as connection, connection.cursor() as cursor, _one_line_errors(dbapi, name):
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # A row of nulls gives names and types, and the server plans the query but does not run it.
        unread = f"(SELECT asked.* FROM (VALUES (1)) AS one LEFT JOIN (\n{select}\n) AS asked ON false) AS unread"
        names = _names(_fetch(cursor, f"SELECT row_to_json(unread)::text FROM {unread}").item())
        columns = find_columns(names, mapping, f"{name}, query")
        types = ", ".join(f"({n}, pg_typeof(unread.{quoted(column)}))" for n, column in enumerate(columns.values()))
        found = _fetch(
            cursor,
            "SELECT coalesce(nullif(typbasetype, 0), pg_type.oid)::regtype::text, typcategory::text "
            f"FROM {unread}, LATERAL (VALUES {types}) AS types (number, type) "
            "JOIN pg_type ON pg_type.oid = types.type ORDER BY number",
        )
        casts = [
            f"{_cast(role, column, kind, category, name)} AS {quoted(role)}"
            for (role, column), (kind, category) in zip(columns.items(), found.iter_rows(), strict=True)
        ]
        frame = _fetch(cursor, f"SELECT {', '.join(casts)} FROM (\n{select}\n) AS asked")
    if frame.is_empty():
        raise DataError(f"{name}: the query gives no rows")
    return Selected(name, f"{name}, query", frame, columns)


def address_shown(source: str) -> str:
    """The address for messages and provenance: hosts, database and service, without the user's name.

    Raises DataError, without the address, if it holds a password or could hold one.
    """
    rest = source.partition("://")[2]
    # As in libpq: a user's name and password end at the first @, if it comes before any slash.
    user, at, _ = rest.partition("/")[0].partition("@")
    place, _, parameters = (rest[len(user) + 1 :] if at else rest).partition("?")
    given = parse_qsl(parameters)
    if (at and user.partition(":")[2]) or any(key in _SECRETS for key, _ in given):
        raise DataError(
            "the PostgreSQL address holds a password, which others could see on the command line and in the settings "
            "beside a run: take it out, and put it into ~/.pgpass, PGPASSWORD or a service file"
        )
    hosts, _, database = place.partition("/")
    ports = [re.sub(r"^(\[[^]]*\]|[^:]*)", "", host).removeprefix(":") for host in hosts.split(",")]
    if "@" in place or not all(port == "" or port.isdecimal() for port in ports):
        raise DataError(
            "the PostgreSQL address cannot be read: expected postgresql://user@host:port/database, with @ : / in names "
            "written as %40 %3A %2F, and no password"
        )
    shown = "&".join(f"{key}={value}" for key, value in given if key in _PLACES)
    return f"postgresql://{hosts}/{database}" + (f"?{shown}" if shown else "")


def _names(row: str) -> list[str]:
    return json.loads(row, object_pairs_hook=lambda pairs: [key for key, _ in pairs])  # type: ignore[no-any-return]


def _cast(role: str, column: str, kind: str, category: str, name: str) -> str:
    """SQL for one column as bigint, float8 or text.

    category: PostgreSQL's letter for kinds of types (N, S, D...).
    """
    if role == "user" and kind == "name":
        raise DataError(
            f"{name}, column {column}: has the type name: to PostgreSQL, an unquoted user is the name of who asks; "
            f'write "user" in double quotes'
        )
    value, is_id = f"asked.{quoted(column)}", role in ("user", "item")
    if kind in _INTEGERS:
        return f"{value}::bigint"
    if is_id and kind in _FLOATS:
        raise DataError(f"{name}, column {column}: has the type {kind}, expected {FLOAT_IDS}")
    if kind in _NUMBERS:
        return f"trim_scale({value})::text" if is_id and kind == "numeric" else f"{value}::float8"
    if category == "S" or (is_id and (kind == "uuid" or category == "E")):
        return f"{value}::text"
    if role == "time" and category == "D" and kind not in _TIMES_OF_DAY:
        # As floats, so that a message can show infinity.
        return f"floor(date_part('epoch', {value}))::float8"
    raise DataError(f"{name}, column {column}: has the type {kind}, expected {_EXPECTED[role]}")


def _fetch(cursor: Any, sql: str) -> pl.DataFrame:
    def run() -> pl.DataFrame:
        cursor.execute(sql)
        return pl.DataFrame(cursor.fetch_arrow())

    # In the main thread the driver would turn an interrupt into an ordinary error of the server.
    with ThreadPoolExecutor(1) as executor:
        task = executor.submit(run)
        try:
            # polars' signal handler does not end a wait. Short waits let Python's own handler run between them.
            while not wait([task], timeout=_PATIENCE).done:
                pass
            return task.result()
        except KeyboardInterrupt:
            cursor.adbc_cancel()
            raise


@contextmanager
def _connected(dbapi: Any, source: str, name: str) -> Iterator[Any]:
    try:
        connection = dbapi.connect(source)
    except dbapi.Error as error:
        # One line per attempted address of a host; the last says most. libpq's own advice is indented.
        attempts = [line for line in str(error).splitlines() if line and not line[0].isspace()]
        reason = one_line(attempts[-1].removeprefix("IO: [libpq] Failed to connect: "))
        hint = next((hint for words, hint in _CONNECTION_HINTS if words in reason), "check the address")
        raise DataError(f"{name}: cannot connect: {reason}; {hint}") from error
    with connection:
        yield connection


@contextmanager
def _one_line_errors(dbapi: Any, name: str) -> Iterator[None]:
    try:
        yield
    except dbapi.Error as error:
        details = dict(error.details or ())
        primary = details.get("PG_DIAG_MESSAGE_PRIMARY") or details.get(b"PG_DIAG_MESSAGE_PRIMARY")
        reason = primary.decode(errors="replace") if primary else str(error).partition("\n")[0]
        raise _failed(name, reason, error.sqlstate or "") from error
    # Errors after the first rows come through the reader of Arrow streams.
    except pl.exceptions.PolarsError as error:
        raise _failed(name, str(error).partition("\n")[0], "") from error


def _failed(name: str, reason: str, state: str) -> DataError:
    said = one_line(_DRIVER_WORDS.sub("", reason))
    if any(words in said for words in _LOST):
        return DataError(f"{name}: the connection was lost while reading: {said}; run it again")
    hint = _STATE_HINTS.get(state)
    return DataError(f"{name}: the query failed: {said}" + (f"; {hint}" if hint else ""))
