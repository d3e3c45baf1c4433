"""Frozen dataclasses as bytes: each value has one encoding, and other bytes are refused."""

from __future__ import annotations

import struct
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from hierfed.privacy.secure_sum.refusals import Refused

MAGIC = b"HFSS"
VERSION = 1
_HEAD = struct.Struct("<4sBB")
_LONG = struct.Struct("<Q")
_COUNT = struct.Struct("<I")


def pack(message: Any, kind: int) -> bytes:
    """A message as bytes: magic, version, kind, then its fields in order.

    Fields are int (64 bits, little-endian), bytes (with their length in 32 bits), dataclasses of such, and tuples of
    any one of these (with their number in 32 bits).
    """
    parts = [_HEAD.pack(MAGIC, VERSION, kind)]
    _write(message, parts)
    return b"".join(parts)


def unpack(data: bytes, kinds: dict[int, type[Any]]) -> Any:
    """The message in these bytes.

    kinds: its class by its kind; the classes raise Refused for impossible fields.
    Raises Refused for any bytes that `pack` does not make.
    """
    reader = _Reader(data)
    magic, version, kind = _HEAD.unpack(reader.take(_HEAD.size))
    if magic != MAGIC:
        raise Refused("these bytes are no message of a secure sum")
    if version != VERSION:
        raise Refused(f"a message of version {version}; this program speaks version {VERSION}")
    if kind not in kinds:
        raise Refused(f"a message of kind {kind}, which there is not")
    message = reader.read(kinds[kind])
    if reader.rest:
        raise Refused(f"{reader.rest} bytes after the end of a message")
    return message


def _write(value: Any, parts: list[bytes]) -> None:
    if isinstance(value, int):
        parts.append(_LONG.pack(value))
    elif isinstance(value, bytes):
        parts += [_COUNT.pack(len(value)), value]
    elif isinstance(value, tuple):
        parts.append(_COUNT.pack(len(value)))
        for each in value:
            _write(each, parts)
    else:
        for field in fields(value):
            _write(getattr(value, field.name), parts)


@cache
def _field_kinds(kind: type[Any]) -> list[Any]:
    """The types of a dataclass's fields, in order; resolving them takes longer than reading them."""
    kinds = get_type_hints(kind)
    return [kinds[field.name] for field in fields(kind)]


class _Reader:
    """Reads values off the front of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if self.rest < count:
            raise Refused(f"a message ends {count - self.rest} bytes too soon")
        self._at += count
        return self._data[self._at - count : self._at]

    def read(self, kind: Any) -> Any:
        if kind is int:
            return _LONG.unpack(self.take(_LONG.size))[0]
        if kind is bytes:
            return self.take(self._count())
        if get_origin(kind) is tuple:
            return tuple(self.read(get_args(kind)[0]) for _ in range(self._count()))
        return kind(*(self.read(of) for of in _field_kinds(kind)))

    def _count(self) -> int:
        return int(_COUNT.unpack(self.take(_COUNT.size))[0])
