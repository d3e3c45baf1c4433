"""Damage to bytes: flipped bits, cuts, zeros, odd numbers, paths, escape sequences; nothing here knows hierfed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]
ODD_NUMBERS = (
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"-1",
    b"1e308",
    b"0x10",
    b"1_000",
    b"",
    b" ",
    b"99999999999999999999",
)
INJECTED = (
    b"<script>alert(1)</script>",
    b"\x1b[31mred",
    b"\x1b]0;title\x07",
    b"../../x",
    b"x" * 5000,
    b"\0",
    b"\xff\xfe",
)
ODD_VALUES = (None, -1, 1e308, "x" * 10_000, [], {}, "\x1b[31m../../x", True)
ODD_FACTS = ("", "nan", "-1", "999999999999", "{}", "[]", "null", "\x1b[31m", "x" * 10_000)


def flip(content: bytes, rng: random.Random) -> bytes:
    """One bit is another."""
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return content[: rng.randrange(len(content))]


def cut_out(content: bytes, rng: random.Random) -> bytes:
    """A part is missing."""
    first, last = sorted((rng.randrange(len(content)), rng.randrange(len(content))))
    return content[:first] + content[last:]


def append(content: bytes, rng: random.Random) -> bytes:
    """There is more than was written."""
    return content + rng.randbytes(rng.choice((1, 100, 10_000)))


def zero(content: bytes, rng: random.Random) -> bytes:
    """A sector is empty."""
    first = rng.randrange(len(content))
    last = min(len(content), first + rng.choice((8, 64, 512)))
    return content[:first] + bytes(last - first) + content[last:]


def overwrite(content: bytes, rng: random.Random) -> bytes:
    """A number that is none, somewhere."""
    first = rng.randrange(len(content))
    number = struct.pack("<d", rng.choice((float("nan"), float("inf"), 1e308, -1e308)))
    return content[:first] + number + content[first + 8 :]


def anything(content: bytes, rng: random.Random) -> bytes:
    """Other bytes altogether."""
    return rng.randbytes(rng.choice((0, 1, 7, 8, 1000)))


def head(content: bytes, rng: random.Random) -> bytes:
    """Another byte near the beginning, or another length there."""
    if rng.random() < 0.3:
        return struct.pack("<Q", rng.choice((2**63, 2**40, 10**8, 0, 1))) + content[8:]
    place = rng.randrange(min(len(content), 600))
    return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]


BINARY: tuple[Mutation, ...] = (flip, flip, cut, cut_out, append, zero, overwrite, anything, head)


def binary(content: bytes, rng: random.Random) -> bytes:
    """Any damage to any bytes."""
    return rng.choice(BINARY)(content, rng)


def text(content: bytes, rng: random.Random) -> bytes:
    """Damage to lines and fields."""
    if rng.random() < 0.4:
        return binary(content, rng)
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    fields = lines[place].split(b",")
    kind = rng.randrange(5)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(place, lines[place])
    elif kind == 2:
        rng.shuffle(lines)
    else:
        fields[rng.randrange(len(fields))] = rng.choice(ODD_NUMBERS if kind == 3 else INJECTED)
        lines[place] = b",".join(fields)
    return b"\n".join(lines)


def record(content: bytes, rng: random.Random) -> bytes:
    """Damage to values of JSON, or to its text."""
    if rng.random() < 0.4:
        return text(content, rng)
    found = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        for key in keys:
            places.append((value, key))
            walk(value[key])

    walk(found)
    holder, key = rng.choice(places)
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(ODD_VALUES)
    return json.dumps(found).encode()


def lines(content: bytes, rng: random.Random) -> bytes:
    """Damage to one line of several records of JSON, or to their text."""
    if rng.random() < 0.5:
        return text(content, rng)
    every = content.rstrip(b"\n").split(b"\n")
    place = rng.randrange(len(every))
    every[place] = record(every[place], rng)
    return b"\n".join(every) + b"\n"


def tensors(content: bytes, rng: random.Random) -> bytes:
    """Damage to a safetensors file that its own format allows: shapes, names, types, facts, values."""
    if rng.random() < 0.5:
        return binary(content, rng)
    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    names, facts = [name for name in header if name != "__metadata__"], header.get("__metadata__", {})
    kind = rng.randrange(8)
    if (kind < 2 and facts) or not names:
        fact = rng.choice(list(facts))
        if kind == 0:
            del facts[fact]
        else:
            facts[fact] = rng.choice(ODD_FACTS)
    else:
        entry = header[name := rng.choice(names)]
        first, last = entry["data_offsets"]
        if kind in (2, 3):
            entry["shape"] = entry["shape"][::-1] if kind == 2 else [1, *entry["shape"]]
        elif kind == 4:
            header[f"{name}x"] = header.pop(name)
        elif kind == 5:
            entry["dtype"] = rng.choice(("F32", "I64", "BF16", "BOOL", "U8"))
        elif kind == 6 and last - first >= 8:
            body[first : first + 8] = struct.pack("<d", rng.choice((float("nan"), 1e300, -5.0)))
        else:
            body[first:last] = rng.randbytes(last - first)
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    return struct.pack("<Q", len(written)) + written + bytes(body)
