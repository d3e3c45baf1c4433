"""Small data sets in each of the published formats, written into a temporary folder, and a PostgreSQL server."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hierfed.data.reading.sources import load
from hierfed.errors import DataError

REAL = Path(os.environ.get("HIERFED_DATA", Path(__file__).parents[3] / "shared" / "data"))

RATINGS = (
    "userId,movieId,rating,timestamp\n"
    "7,10,4.5,1000000000\n7,20,3.0,1000000001\n3,10,0.5,1000000002\n3,40,5.0,1000000003\n"
)
MOVIES = (
    'movieId,title,genres\n10,Heat (1995),Action|Crime\n20,"American President, The (1995)",Comedy\n'
    "30,Unrated (1990),Drama\n40,Amélie (2001),(no genres listed)\n"
)
README = (
    "This dataset (ml-latest-small) describes 5-star rating and free-text tagging activity from MovieLens.\n"
    "Neither the University of Minnesota nor any of the researchers involved can guarantee the data's correctness.\n"
)
LINKS = "movieId,imdbId,tmdbId\n10,0113277,949\n20,0112346,9087\n30,0000001,5\n40,0211915,\n"
METADATA = (
    "id,imdb_id,title,release_date,genres,popularity,runtime,vote_average,vote_count,revenue\n"
    "949,tt0113277,Heat,1995-12-15,\"[{'id': 28, 'name': 'Action'}, {'id': 80, 'name': 'Crime'}]\","
    "17.9,170.0,7.7,1886.0,187436818.0\n"
    "9087,tt0112346,The American President,1995-11-17,\"[{'id': 35, 'name': 'Comedy'}]\","
    "6.3,106.0,6.5,199.0,107879496.0\n"
    "10,tt0000010,Wrong Film,1960-01-01,\"[{'id': 18, 'name': 'Drama'}]\",1.0,,5.0,10.0,0.0\n"
    "10,tt0000010,Wrong Film,1960-01-01,\"[{'id': 18, 'name': 'Drama'}]\",1.0,90.0,5.0,10.0,0.0\n"
    "1997-08-20,,,1,\"[{'id': 0, 'name': 'Carousel Productions'}]\",,,,,\n"
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Write a file below the temporary folder; text in UTF-8. Returns its path."""

    def write_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


@pytest.fixture
def csv_folder(tmp_path: Path, write: Callable[[str, str | bytes], str]) -> Path:
    """A folder as GroupLens publishes it since 20m, and Kaggle's metadata, each one level down."""
    for name, content in (
        ("ratings.csv", RATINGS),
        ("movies.csv", MOVIES),
        ("links.csv", LINKS),
        ("README.txt", README),
    ):
        write(f"ml/{name}", content)
    write("kaggle/movies_metadata.csv", METADATA)
    return tmp_path


@pytest.fixture
def real_data() -> str:
    """The folder with the real files; skips where there is none."""
    if not (REAL / "the-movies-dataset" / "movies_metadata.csv").is_file():
        pytest.skip(f"no real data at {REAL}; set HIERFED_DATA to the folder")
    return str(REAL)


@dataclass(frozen=True)
class PostgreSQL:
    """A server of the tests' own. folder: of its socket. port: on 127.0.0.1, or what names the socket."""

    folder: Path
    port: int

    def url(self, database: str = "postgres", user: str = "owner") -> str:
        """Its address over the socket, where everybody is trusted."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def execute(self, *statements: str) -> None:
        """Run and commit statements as the owner."""
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(self.url(), autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def number(self, query: str) -> int:
        """The one number that a query gives."""
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(self.url()) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return int(pl.DataFrame(cursor.fetch_arrow()).item())


# The shell outlives the tests whatever ends them: its input closes then, and it stops the server and clears up.
SERVE = """
set -e
trap 'exit 1' INT TERM
trap '"$0/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$1"' EXIT
"$0/initdb" -D "$1/data" -U owner --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C --no-sync >&2
"$0/pg_ctl" -D "$1/data" -w -l "$1/log" -o "-k '$1' -p $2 -c listen_addresses='$3' -c fsync=off" start >&2
echo ready
cat >/dev/null
"""


@contextmanager
def served(listen: str, port: int) -> Iterator[PostgreSQL]:
    """A PostgreSQL server in a temporary folder until the end of the block; skips where none is installed."""
    pytest.importorskip("adbc_driver_postgresql", reason="no driver: pip install 'hierfed[postgresql]'")
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="hierfed-postgresql-"))
    other_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # as root, PostgreSQL refuses to run
        owner = next(name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})
        group = pwd.getpwnam(owner).pw_gid
        os.chown(folder, pwd.getpwnam(owner).pw_uid, group)
        other_user = {"user": owner, "group": group, "extra_groups": []}
    process = subprocess.Popen(
        ["/bin/sh", "-c", SERVE, str(binaries), str(folder), str(port), listen],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,
        **other_user,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        try:
            if process.stdout.readline() != "ready\n":
                pytest.fail(f"PostgreSQL did not start: {process.stderr.read()}")
            yield PostgreSQL(folder, port)
        finally:
            process.stdin.close()
            process.wait(timeout=60)
    assert not folder.exists()


def server_binaries() -> Path | None:
    """The folder of initdb, pg_ctl and postgres: that of the PATH, else the newest of Debian's."""
    found = shutil.which("initdb")
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    places = [Path(found).resolve().parent, *versions] if found else versions
    needed = ("initdb", "pg_ctl", "postgres")
    return next((place for place in places if all((place / name).is_file() for name in needed)), None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server on a socket only."""
    with served("", 5432) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_with_passwords() -> Iterator[PostgreSQL]:
    """A server that listens on 127.0.0.1 too, and asks for passwords there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served("127.0.0.1", port) as server:
        yield server


@pytest.fixture
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's own environment, password file or services reaches the connection."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))


@pytest.fixture
def failure() -> Callable[..., str]:
    """The one line with which a source fails."""

    def fail(source: str, query: str = "SELECT 1 AS user_id, 2 AS item_id, 3 AS rating", **options: Any) -> str:
        with pytest.raises(DataError) as caught:
            load(source, query=query, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert caught.value.exit_code == 2
        return message

    return fail


@pytest.fixture(scope="session")
def ratings(postgresql: PostgreSQL) -> str:
    """The address of a server with four ratings in the table `ratings`."""
    postgresql.execute(
        "CREATE TABLE ratings (user_id bigint, item_id integer, rating numeric(2, 1), time timestamptz)",
        "INSERT INTO ratings VALUES (7, 20, 3.0, to_timestamp(1000000001)), (7, 10, 4.5, to_timestamp(1000000000)), "
        "(3, 40, 5.0, to_timestamp(1000000003)), (3, 10, 0.5, to_timestamp(1000000002.9))",
    )
    return postgresql.url()
