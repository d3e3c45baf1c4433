"""Packed files: gzip, bzip2, xz, and a zip archive of one file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path

from hierfed.errors import DataError

_GZIP, _ZIP, _BZIP2, _XZ = b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\0"
_UNKNOWN = {b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
_MOST_NAMED = 5


def unpacked(raw: bytes, path: Path) -> bytes:
    """The content of a packed file, recognised by its first bytes; any other bytes as they are.

    Raises DataError for a damaged file, for an archive of several files, and for a packing that is not known.
    """
    other = next((name for start, name in _UNKNOWN.items() if raw.startswith(start)), None)
    if other is not None:
        raise DataError(
            f"{path}: is packed with {other}, expected a plain file, gzip, bzip2, xz or zip; unpack it first"
        )
    try:
        if raw.startswith(_GZIP):
            data = gzip.decompress(raw)
        elif raw.startswith(_BZIP2):
            data = bz2.decompress(raw)
        elif raw.startswith(_XZ):
            data = lzma.decompress(raw)
        elif raw.startswith(_ZIP):
            data = _only_file(raw, path)
        else:
            return raw
    # A password makes zipfile raise RuntimeError, a rare method NotImplementedError.
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{path}: cannot be unpacked, it is damaged, cut off or locked: {error}") from error
    if not data:
        raise DataError(f"{path}: the file in it is empty")
    return data


def _only_file(raw: bytes, path: Path) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = [
            name for name in archive.namelist() if not name.endswith("/") and not name.startswith(("__MACOSX/", "."))
        ]
        if len(names) != 1:
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            raise DataError(
                f"{path}: holds {len(names)} files ({', '.join(names[:_MOST_NAMED])}{more}), expected one; unpack it, "
                "and name the folder or the table in it"
            )
        return archive.read(names[0])
