"""Small data sets in each of the published formats, written into a temporary folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REAL = Path(os.environ.get("HIERFED_DATA", Path(__file__).parents[3] / "shared" / "data"))

RATINGS = (
    "userId,movieId,rating,timestamp\n"
    "7,10,4.5,1000000000\n7,20,3.0,1000000001\n3,10,0.5,1000000002\n3,40,5.0,1000000003\n"
)
MOVIES = (
    'movieId,title,genres\n10,Heat (1995),Action|Crime\n20,"American President, The (1995)",Comedy\n'
    "30,Unrated (1990),Drama\n40,Amélie (2001),(no genres listed)\n"
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
    for name, content in (("ratings.csv", RATINGS), ("movies.csv", MOVIES), ("links.csv", LINKS)):
        write(f"ml/{name}", content)
    write("kaggle/movies_metadata.csv", METADATA)
    return tmp_path


@pytest.fixture
def real_data() -> str:
    """The folder with the real files; skips where there is none."""
    if not (REAL / "the-movies-dataset" / "movies_metadata.csv").is_file():
        pytest.skip(f"no real data at {REAL}; set HIERFED_DATA to the folder")
    return str(REAL)
