"""The download of MovieLens ml-latest-small from GroupLens, checked and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from hierfed.errors import DataError

URL = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
# The edition of September 2018. When GroupLens publishes another, take the sha256 of the new zip
# (`sha256sum ml-latest-small.zip`) after comparing its md5 with the .md5 that GroupLens puts beside it.
SHA256 = "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"
MEMBERS = ("README.txt", "links.csv", "movies.csv", "ratings.csv", "tags.csv")
_FOLDER = "ml-latest-small"
_CHUNK = 1 << 16
_LARGEST = 50_000_000

Progress = Callable[[int, int | None], None]
Opener = Callable[[str], IO[bytes]]


def open_url(url: str) -> IO[bytes]:
    """The bytes behind a URL, with a timeout of 30 seconds."""
    response: IO[bytes] = urllib.request.urlopen(url, timeout=30)
    return response


def fetch_movielens_small(
    *,
    progress: Progress | None = None,
    cache: Path | None = None,
    url: str = URL,
    sha256: str = SHA256,
    opener: Opener = open_url,
) -> Path:
    """The folder of ml-latest-small, downloaded once and then taken from the cache.

    progress: called with the bytes so far and the total (None if the server does not give it).
    cache: the folder to keep it in; by default the user's cache folder.
    Raises DataError if the download fails or its sha256 differs.
    """
    cache = _user_cache() if cache is None else cache
    folder = cache / f"{_FOLDER}-{sha256[:12]}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            archive = Path(scratch) / "archive.zip"
            found = _download(url, archive, progress, opener)
            if found != sha256:
                raise DataError(f"{url}: sha256 is {found}, expected {sha256}; {_ELSEWHERE}")
            unpacked = Path(scratch) / _FOLDER
            _unpack(archive, unpacked, url)
            _move(unpacked, folder)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or repr(error)
        raise DataError(f"{url} cannot be downloaded ({reason}); {_ELSEWHERE}") from error
    return folder


_ELSEWHERE = "use --data DIR with a folder of MovieLens files, or --data embedded"


def _user_cache() -> Path:
    import platformdirs  # noqa: PLC0415 - most runs download nothing

    return Path(platformdirs.user_cache_dir("hierfed"))


def _download(url: str, target: Path, progress: Progress | None, opener: Opener) -> str:
    """Write the bytes behind `url` to `target`; returns their sha256."""
    digest, done = hashlib.sha256(), 0
    with opener(url) as response, target.open("wb") as file:
        headers = getattr(response, "headers", None)
        length = headers.get("Content-Length") if headers is not None else None
        total = int(length) if length and length.isdigit() else None
        while chunk := response.read(_CHUNK):
            done += len(chunk)
            if done > _LARGEST:
                raise DataError(f"{url}: more than {_LARGEST} bytes, expected about 1 MB; {_ELSEWHERE}")
            digest.update(chunk)
            file.write(chunk)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path, url: str) -> None:
    """Unpack the expected members only, by name, so that nothing in the archive can name a path."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in MEMBERS:
                with packed.open(f"{_FOLDER}/{name}") as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{url}: not the expected archive of {', '.join(MEMBERS)}; {_ELSEWHERE}") from error


def _move(unpacked: Path, folder: Path) -> None:
    """Put the whole folder in place at once, so that no reader ever sees half of it."""
    try:
        os.rename(unpacked, folder)  # noqa: PTH104 - Path.rename is the same call
    except OSError:
        # Another process was first; its folder is the same.
        if not folder.is_dir():
            raise
