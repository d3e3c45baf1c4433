"""Whatever goes wrong between a PostgreSQL server and us is one clear line, and no secret is ever in it."""

import os
import signal
import sys
import threading

import pytest

from hierfed.data.reading.sources import load

SECRET = "correct-horse"

pytestmark = pytest.mark.usefixtures("no_settings_of_the_machine")


@pytest.fixture
def failure(failure):
    """The one line with which a source fails; it holds no secret."""

    def fail(*words: str, **options) -> str:
        message = failure(*words, **options)
        assert SECRET not in message
        return message

    return fail


BAD_ROWS = [
    ("7, NULL, 1", "row 2, column item_id: found nothing, expected an id"),
    ("7, 2, NULL", "row 2, column rating: found nothing, expected a finite number"),
    ("7, 2, 'NaN'::numeric", "row 2, column rating: found nan, expected a finite number"),
    ("7, 1, 2", "row 2: user 7 rates item 1 again, first in "),
]


@pytest.mark.parametrize("row, expected", BAD_ROWS, ids=[row for row, _ in BAD_ROWS])
def test_a_bad_row_is_named(postgresql, failure, row, expected):
    query = f"SELECT * FROM (VALUES (7, 1, 5), ({row})) AS rows (user_id, item_id, rating)"
    message = failure(postgresql.url(), query)
    assert message.startswith(f"postgresql:///postgres?host={postgresql.folder}&port=5432, {expected}"), message


@pytest.mark.parametrize("sql", ["'infinity'::timestamptz", "'-infinity'::date", "date '1969-12-31'", "NULL::date"])
def test_a_time_that_is_none_is_named(postgresql, failure, sql):
    query = f"SELECT 7 AS user_id, 1 AS item_id, 1 AS rating, {sql} AS time"
    assert "row 1, column time: found " in failure(postgresql.url(), query)


@pytest.mark.parametrize(
    "user, rating, expected",
    [
        ("true", "1", "column user_id: has the type boolean, expected whole numbers, text or uuid"),
        ("'\\x00'::bytea", "1", "column user_id: has the type bytea"),
        ("ARRAY[1]", "1", "column user_id: has the type integer[]"),
        ("1", "true", "column rating: has the type boolean, expected numbers"),
        ("1", "'$1'::money", "column rating: has the type money, expected numbers"),
        ("1", "gen_random_uuid()", "column rating: has the type uuid, expected numbers"),
        ("user", "1", 'write "user" in double quotes'),
    ],
)
def test_a_type_that_does_not_fit_is_named(postgresql, failure, user, rating, expected):
    assert expected in failure(postgresql.url(), f"SELECT {user} AS user_id, 1 AS item_id, {rating} AS rating")


def test_a_time_of_day_is_no_time(postgresql, failure):
    query = "SELECT 1 AS user_id, 1 AS item_id, 1 AS rating, time '10:00' AS time"
    assert "column time: has the type time without time zone, expected dates, " in failure(postgresql.url(), query)


BAD_QUERIES = {
    "syntax": ("SELEC 1", 'the query failed: syntax error at or near "1"; expected one SELECT with user'),
    "two statements": ("SELECT 1; SELECT 2", 'syntax error at or near ";"; expected one SELECT'),
    "no table": ("SELECT * FROM nothing", 'the query failed: relation "nothing" does not exist'),
    "no column": ("SELECT stars FROM ratings", 'the query failed: column "stars" does not exist'),
    "roles missing": ("SELECT user_id, rating FROM ratings", "query: no column for the item"),
    "columns twice": ("SELECT *, user_id FROM ratings", "columns user_id and user_id could both be the user"),
    "no rows": ("SELECT * FROM ratings WHERE user_id = 0", "the query gives no rows"),
    "no select": ("SHOW server_version", "the query failed: syntax error"),
    "insert": ("INSERT INTO ratings VALUES (1, 1, 1) RETURNING *", "the query failed: syntax error"),
    "delete below": ("WITH gone AS (DELETE FROM ratings RETURNING *) SELECT * FROM gone", "must be at the top level"),
    "writes": ("SELECT forget(), * FROM ratings", "cannot execute DELETE in a read-only transaction"),
    "locks": ("SELECT * FROM ratings FOR UPDATE", "cannot execute SELECT FOR UPDATE in a read-only transaction"),
    "fails in the middle": (
        "SELECT n AS user_id, 1 AS item_id, 1 / (300000 - n) AS rating FROM generate_series(1, 500000) AS n",
        "the query failed: division by zero",
    ),
    "is lost in the middle": (
        "SELECT n AS user_id, 1 AS item_id, 1 AS rating, "
        "pg_terminate_backend(CASE n WHEN 300000 THEN pg_backend_pid() END)::text AS time "
        "FROM generate_series(1, 500000) AS n",
        "the connection was lost while reading: terminating connection due to administrator command; run it again",
    ),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_a_query_that_cannot_be_used_is_one_line_and_changes_nothing(ratings, postgresql, failure, case):
    query, expected = BAD_QUERIES[case]
    postgresql.execute(
        "CREATE OR REPLACE FUNCTION forget() RETURNS bigint LANGUAGE sql AS 'DELETE FROM ratings RETURNING user_id'"
    )
    message = failure(ratings, query)
    assert message.startswith(f"postgresql:///postgres?host={postgresql.folder}")
    assert expected in message
    assert len(load(ratings, query="SELECT * FROM ratings").ratings) == 4


def test_a_time_limit_of_the_server_is_one_line(postgresql, failure):
    source = postgresql.url() + "&options=-c%20statement_timeout%3D50"
    query = "SELECT 1 AS user_id, 1 AS item_id, 1 AS rating, pg_sleep(60)::text AS time"
    assert "canceling statement due to statement timeout" in failure(source, query)


def test_an_interrupt_stops_the_query_on_the_server(postgresql):
    running = (
        "SELECT count(*) AS n FROM pg_stat_activity "
        "WHERE query LIKE 'COPY%pg_sleep(600)%' AND pid <> pg_backend_pid() AND state = 'active'"
    )

    def interrupt_once_it_runs() -> None:
        while postgresql.number(running) == 0:
            pass
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt_once_it_runs, daemon=True)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        load(postgresql.url(), query="SELECT 1 AS user_id, 1 AS item_id, 1 AS rating, pg_sleep(600)::text AS time")
    other.join()
    assert postgresql.number(running) == 0


def test_a_role_without_rights_is_told_so(ratings, postgresql, failure):
    postgresql.execute("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    message = failure(postgresql.url(user="guest"), "SELECT * FROM ratings")
    assert "permission denied for table ratings; ask for the right to SELECT" in message


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"database": "nowhere"}, 'database "nowhere" does not exist; check the database\'s name'),
        ({"user": "nobody"}, 'role "nobody" does not exist; check the user\'s name'),
    ],
)
def test_unknown_names_are_one_line(postgresql, failure, changes, expected):
    assert expected in failure(postgresql.url(**changes))


@pytest.fixture
def over_tcp(postgresql_with_passwords):
    postgresql_with_passwords.execute(f"ALTER ROLE owner PASSWORD '{SECRET}'")
    return f"postgresql://owner@127.0.0.1:{postgresql_with_passwords.port}/postgres"


GOOD = "SELECT 1 AS user_id, 2 AS item_id, 3 AS rating"


def test_a_password_of_the_environment(over_tcp, monkeypatch, failure):
    assert "no password supplied; check the user's name, and the password in ~/.pgpass" in failure(over_tcp)
    monkeypatch.setenv("PGPASSWORD", f"{SECRET}-not")
    assert 'password authentication failed for user "owner"; check the user' in failure(over_tcp)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    assert len(load(over_tcp, query=GOOD).ratings) == 1


def test_a_password_of_a_file(over_tcp, tmp_path):
    (tmp_path / "pgpass").write_text(f"127.0.0.1:*:*:owner:{SECRET}\n")
    (tmp_path / "pgpass").chmod(0o600)
    assert len(load(over_tcp, query=GOOD).ratings) == 1


def test_a_password_of_a_service(over_tcp, tmp_path, postgresql_with_passwords):
    (tmp_path / "services").write_text(
        f"[shop]\nhost=127.0.0.1\nport={postgresql_with_passwords.port}\nuser=owner\npassword={SECRET}\n"
    )
    dataset = load("postgresql:///postgres?service=shop", query=GOOD)
    assert dataset.provenance.name == "postgresql:///postgres?service=shop, query"


def test_a_port_where_nobody_listens(over_tcp, postgresql_with_passwords, failure):
    with_nobody = over_tcp.replace(f":{postgresql_with_passwords.port}/", ":1/")
    assert "port 1 failed: Connection refused; check that the server runs there" in failure(with_nobody)


def test_a_socket_that_is_not_there(tmp_path, failure):
    pytest.importorskip("adbc_driver_postgresql")
    assert "No such file or directory; check that the server runs here" in failure(f"postgresql:///x?host={tmp_path}")


def test_a_host_and_a_service_that_nobody_knows(failure):
    pytest.importorskip("adbc_driver_postgresql")
    assert "check the host's name in the address" in failure("postgresql://no.such.host.invalid/x")
    assert "check the service's name" in failure("postgresql:///x?service=nothing")


@pytest.mark.parametrize(
    "source",
    [
        f"postgresql://owner:{SECRET}@localhost/shop",
        f"postgres://owner:{SECRET}@localhost/shop",
        f"postgresql://owner:{SECRET}@with/{SECRET}@localhost/shop",
        f"postgresql://owner:?{SECRET}@localhost/shop",
        f"postgresql://owner:#{SECRET}@localhost/shop",
        f"postgresql://localhost/shop?user=owner&password={SECRET}",
        f"postgresql://localhost/shop?user=owner&pass%77ord={SECRET}",
        f"postgresql://localhost/shop?sslpassword={SECRET}",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(failure, source):
    assert "holds a password" in failure(source)
    assert "~/.pgpass, PGPASSWORD or a service file" in failure(source)


@pytest.mark.parametrize(
    "source",
    [
        f"postgresql://owner:12/{SECRET}@localhost/shop",
        f"postgresql://owner:{SECRET}/x@localhost/shop",
        f"Postgresql://owner:{SECRET}@localhost/shop",
        f"postgresql+psycopg://owner:{SECRET}@localhost/shop",
        f"postgresql:/owner:{SECRET}@localhost/shop",
        f"host=localhost password={SECRET}",
    ],
)
def test_what_could_hold_a_password_is_not_repeated(failure, source):
    failure(source)
    failure(source, query="")


def test_a_server_needs_a_query(failure):
    message = failure("postgresql://db.example.org:5433/shop", query=" ; ")
    assert message.startswith("postgresql://db.example.org:5433/shop: PostgreSQL needs a query: --query ")


def test_a_server_has_no_test_rows(failure, write):
    source = write("train.csv", "user,item,rating\n1,1,1\n")
    assert "cannot be asked of a PostgreSQL server" in failure(source, query="", test="postgresql://localhost/shop")


def test_a_driver_that_is_not_installed(failure, monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    assert failure("postgresql:///shop").endswith("PostgreSQL needs a driver: pip install 'hierfed[postgresql]'")
