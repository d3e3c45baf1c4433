"""Keys are made once, stay with their owner, and are shown as ssh-keygen shows them."""

from __future__ import annotations

import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hierfed.errors import HierfedError
from hierfed.ledger.keys import KEY, fingerprint, is_public, is_signed, kept_key, public_text


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    first, second = (public_text(kept_key(tmp_path)) for _ in range(2))
    assert first == second
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600
    assert (tmp_path / f"{KEY}.pub").read_text() == f"{first}\n"


def test_a_signature_is_of_one_key_and_one_text():
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signature = key.sign(b"text").hex()
    assert is_signed(public_text(key), signature, b"text")
    assert not is_signed(public_text(key), signature, b"texts")
    assert not is_signed(public_text(other), signature, b"text")
    assert not is_signed("junk", signature, b"text")
    assert not is_signed(public_text(key), "no signature", b"text")
    assert not is_signed(public_text(key), signature[:-2], b"text")


def test_only_ed25519_keys_as_they_are_written_are_keys():
    text = public_text(Ed25519PrivateKey.generate())
    assert is_public(text)
    for other in (f"{text} a comment", f" {text}", text[:-4], "", f"{text}\n", "ssh-ed25519 " + "A" * 68):
        assert not is_public(other)
        with pytest.raises(ValueError, match="no public key"):
            fingerprint(other)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
def test_the_fingerprint_is_ssh_keygen_s(tmp_path):
    text = public_text(kept_key(tmp_path))
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / f"{KEY}.pub"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split()[1] == fingerprint(text)


def test_the_fingerprint_is_sha256_of_the_key_s_blob():
    text = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    # The public key of github.com, with the fingerprint that GitHub publishes.
    assert fingerprint(text) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


def test_a_file_without_such_a_key_is_one_line(tmp_path):
    path = tmp_path / KEY
    path.write_bytes(b"junk")
    with pytest.raises(HierfedError, match=r"ledger\.key: no private key of a ledger"):
        kept_key(tmp_path)
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with pytest.raises(HierfedError, match="not an Ed25519 key"):
        kept_key(tmp_path)
    with pytest.raises(HierfedError, match=r"nowhere.*cannot be written: No such file or directory"):
        kept_key(tmp_path / "nowhere")
