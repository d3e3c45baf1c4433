"""Whatever bytes are damaged, a source loads with every row accounted for, or fails in one line of its own."""

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierfed.data.reading.sources import load
from hierfed.errors import DataError

FILES = ["ml/ratings.csv", "ml/movies.csv", "ml/links.csv", "kaggle/movies_metadata.csv"]
DAMAGE = st.tuples(
    st.floats(0, 1), st.integers(0, 3), st.sampled_from([b"", b"\n", b'"', b",", b"\xe9", b"x", b"\0", b"\r"])
)


def damaged(content: bytes, position: float, cut: int, inserted: bytes) -> bytes:
    start = int(position * len(content))
    return content[:start] + inserted + content[start + cut :]


def check(source: str, **options) -> None:
    try:
        dataset = load(source, **options)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert dataset.provenance.rows_in == len(dataset.ratings) + sum(dataset.provenance.dropped.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), damage=DAMAGE)
def test_a_damaged_folder(csv_folder, name, damage):
    path = csv_folder / name
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, *damage))
    try:
        check(str(csv_folder), unmatched="keep")
    finally:
        path.write_bytes(whole)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=DAMAGE)
def test_a_damaged_parquet_file(tmp_path, damage):
    path = tmp_path / "r.parquet"
    pl.DataFrame({"user": range(50), "item": range(50), "rating": [1.5] * 50}).write_parquet(path)
    path.write_bytes(damaged(path.read_bytes(), *damage))
    check(str(path))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80) | st.text(alphabet='uitm,\n"1.\r\t\ufeff', max_size=60).map(str.encode))
def test_any_bytes_at_all(tmp_path, content):
    path = tmp_path / "r.csv"
    path.write_bytes(b"user,item,rating\n" + content)
    check(str(path))


@pytest.mark.parametrize("cut", range(0, 100, 7))
def test_a_file_cut_anywhere(csv_folder, cut):
    path = csv_folder / "ml" / "ratings.csv"
    path.write_bytes(path.read_bytes()[:cut])
    check(str(csv_folder / "ml"))
