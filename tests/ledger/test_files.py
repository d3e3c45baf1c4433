"""What stands for a file is what is in it, and not in which order it was written."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from hierfed.errors import HierfedError
from hierfed.ledger.files import file_digest, file_digests


def stored(path, tensors, facts) -> str:
    path.write_bytes(save(tensors, facts))
    return file_digest(path)


def test_a_plain_file_s_is_sha256_of_its_bytes(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{}")
    assert file_digests(tmp_path, ("a.json", "b.json")) == {"a.json": hashlib.sha256(b"{}").hexdigest()}


def test_tensors_and_facts_count_in_any_order(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float64)}
    facts = {"one": "1", "two": "2", "three": "3"}
    expected = stored(tmp_path / "x.safetensors", tensors, facts)
    for _ in range(5):
        backwards = dict(reversed(tensors.items())), dict(reversed(facts.items()))
        assert stored(tmp_path / "y.safetensors", *backwards) == expected
    others = [
        ({**tensors, "a": tensors["a"] + 1e-6}, facts),
        ({**tensors, "a": tensors["a"].reshape(3, 2)}, facts),
        ({**tensors, "a": tensors["a"].view(torch.int32)}, facts),
        ({"a": tensors["b"], "b": tensors["a"]}, facts),
        ({"c": tensors["a"], "b": tensors["b"]}, facts),
        ({"b": tensors["b"]}, facts),
        (tensors, {**facts, "one": "2"}),
        (tensors, {"one": "1", "two": "2"}),
    ]
    digests = {stored(tmp_path / "y.safetensors", *other) for other in others}
    assert len(digests | {expected}) == len(others) + 1


@pytest.mark.parametrize("content", [b"", b"\x05", b"\x02\0\0\0\0\0\0\0[]", b"\x08\0\0\0\0\0\0\0" + b'{"a":{}}'])
def test_what_is_no_tensor_file_is_one_line(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(HierfedError, match=r"x\.safetensors: cannot be read: ") as caught:
        file_digest(path)
    assert "\n" not in str(caught.value)


def test_every_byte_of_a_tensor_file_s_values_counts(tmp_path):
    path = tmp_path / "x.safetensors"
    expected = stored(path, {"a": torch.arange(4.0)}, {"b": "c"})
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    assert json.loads(content[8:begin])["a"]["shape"] == [4]
    for place in range(begin, len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        assert file_digest(path) != expected
