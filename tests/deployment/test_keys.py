"""Keys and certificates that are made here work where they are needed, and those of others are refused in one line."""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from hierfed.deployment.keys import new_certificates, new_key, read_key, read_public_key
from hierfed.deployment.signing import public_text
from hierfed.errors import HierfedError


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def told(error: pytest.ExceptionInfo[HierfedError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_key_is_its_owner_s_alone_and_its_public_half_is_not(tmp_path):
    public = new_key(tmp_path / "hospital.key")
    assert public == tmp_path / "hospital.key.pub"
    assert mode_of(tmp_path / "hospital.key") == 0o600
    assert mode_of(public) & 0o044
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hospital.key", "hospital.key.pub"]
    assert public.read_text().endswith(" hospital\n")


def test_both_halves_are_read_as_the_same_key(tmp_path):
    public = new_key(tmp_path / "key")
    assert public_text(read_key(tmp_path / "key").public_key()) == read_public_key(public)
    assert public.read_text().startswith(read_public_key(public) + " ")


def test_two_keys_are_two(tmp_path):
    assert read_public_key(new_key(tmp_path / "a")) != read_public_key(new_key(tmp_path / "b"))


def test_flower_takes_the_key(tmp_path):
    """Flower knows elliptic curves alone, and of these the ones that OpenSSH makes."""
    public = load_ssh_public_key(new_key(tmp_path / "key").read_bytes())
    private = load_ssh_private_key((tmp_path / "key").read_bytes(), None)
    assert isinstance(private.curve, ec.SECP384R1)
    assert public_key_to_bytes(public) == public_key_to_bytes(private.public_key())


def ssh_keygen(*arguments: str | Path) -> str:
    return subprocess.run(
        ["ssh-keygen", *arguments], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    ).stdout


needs_openssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen")


@needs_openssh
def test_openssh_reads_the_key_and_its_keys_are_read(tmp_path):
    public = new_key(tmp_path / "key")
    assert ssh_keygen("-y", "-f", tmp_path / "key").split()[:2] == public.read_text().split()[:2]
    ssh_keygen("-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", tmp_path / "theirs")
    assert public_text(read_key(tmp_path / "theirs").public_key()) == read_public_key(tmp_path / "theirs.pub")


@needs_openssh
def test_a_key_with_a_passphrase_is_refused_in_one_line(tmp_path):
    ssh_keygen("-q", "-t", "ecdsa", "-b", "384", "-N", "secret", "-f", tmp_path / "locked")
    with pytest.raises(HierfedError, match=r"^--key .*passphrase") as error:
        read_key(tmp_path / "locked")
    told(error)


@pytest.mark.parametrize("there", ["key", "key.pub"])
def test_no_file_is_ever_overwritten(tmp_path, there):
    (tmp_path / there).write_text("precious")
    with pytest.raises(HierfedError, match="is there already") as error:
        new_key(tmp_path / "key")
    assert str(tmp_path / there) in told(error)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_key_for_a_folder_that_is_not_there_is_refused_in_one_line(tmp_path):
    with pytest.raises(HierfedError, match="nowhere") as error:
        new_key(tmp_path / "nowhere" / "key")
    told(error)


def openssh(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


UNUSABLE_PRIVATE = {
    "empty": b"",
    "text": b"no key at all\n",
    "broken": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    "another kind": openssh(ed25519.Ed25519PrivateKey.generate()),
    "another format": ec.generate_private_key(ec.SECP384R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ),
    "another label": openssh(ec.generate_private_key(ec.SECP384R1())).replace(b"OPENSSH", b"OTHER"),
}
UNUSABLE_PUBLIC = {
    "empty": b"",
    "text": b"no key at all\n",
    "bytes": bytes(range(256)),
    "broken": b"ecdsa-sha2-nistp384 AAAA\n",
    "another kind": rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "unheard of": b"ssh-dss AAAAB3NzaC1kc3M=\n",
    "private": openssh(ec.generate_private_key(ec.SECP384R1())),
}


@pytest.mark.parametrize("content", UNUSABLE_PRIVATE.values(), ids=UNUSABLE_PRIVATE.keys())
def test_what_is_no_private_key_is_refused_in_one_line_that_does_not_show_it(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(HierfedError, match=r"^--key .*`hierfed keys new` makes one$") as error:
        read_key(tmp_path / "key")
    assert str(tmp_path / "key") in told(error)
    assert content.decode()[40:80] not in told(error) or not content[40:]


@pytest.mark.parametrize("content", UNUSABLE_PUBLIC.values(), ids=UNUSABLE_PUBLIC.keys())
def test_what_is_no_public_key_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "key.pub").write_bytes(content)
    with pytest.raises(HierfedError, match=r"^--allow-key ") as error:
        read_public_key(tmp_path / "key.pub")
    assert str(tmp_path / "key.pub") in told(error)


@pytest.mark.parametrize("read", [read_key, read_public_key])
def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path, read):
    with pytest.raises(HierfedError, match="No such file") as error:
        read(tmp_path / "nowhere")
    told(error)


def shake_hands(made, name: str, ca: Path | None = None) -> None:
    """A TLS connection to a server with this certificate, by one who knows it as `name` and trusts `ca` alone."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(made.certificate, made.key)
    client = ssl.create_default_context(cafile=str(ca or made.ca))
    (to_server, from_client), (to_client, from_server) = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    assert from_client.pending == from_server.pending == 0
    done = set()
    for _ in range(10):
        for end in (here, there):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    assert done == {here, there}


LONG = "node." * 20 + "example.org"
HOSTS = (LONG, "example.org", "10.1.2.3", "fd00::1", "*.federation.test")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return new_certificates(tmp_path_factory.mktemp("keys") / "new", HOSTS)


@pytest.mark.parametrize(
    "name", ["example.org", "10.1.2.3", "fd00::1", "a.federation.test", LONG, "localhost", "127.0.0.1"]
)
def test_the_certificate_is_for_the_hosts_and_for_this_machine(made, name):
    shake_hands(made, name)


@pytest.mark.parametrize("name", ["example.com", "www.example.org", "10.1.2.4", "::1", "127.0.0.2", "federation.test"])
def test_and_for_no_other(made, name):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        shake_hands(made, name)


def test_another_authority_is_not_trusted(made, tmp_path):
    other = new_certificates(tmp_path, HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        shake_hands(made, "localhost", other.ca)


def test_one_that_has_expired_is_refused(tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(new_certificates(tmp_path, ["localhost"], days=-1), "localhost")


def test_it_lasts_for_as_long_as_it_is_asked_to(tmp_path):
    found = x509.load_pem_x509_certificate(new_certificates(tmp_path, [], days=30).certificate.read_bytes())
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=29, hours=23) < left <= datetime.timedelta(days=30)
    assert found.not_valid_before_utc < datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=23)


def test_only_the_key_is_private_and_the_authority_s_own_is_nowhere(made):
    folder = made.ca.parent
    assert {path.name for path in folder.iterdir()} == {"server.pem", "server.key", "ca.pem"}
    assert mode_of(folder) == 0o700
    assert mode_of(made.key) == 0o600
    assert all(mode_of(path) & 0o044 for path in (made.certificate, made.ca))
    authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
    server = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    assert authority.public_key() != server.public_key()
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_server_s_certificate_signs_no_others(made, tmp_path):
    """Whoever has the server's key cannot make certificates that nodes would trust."""
    assert made.certificate.read_text().count("BEGIN CERTIFICATE") == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(new_certificates(tmp_path, ["localhost"]), "localhost", made.certificate)


@pytest.mark.parametrize("there", ["server.pem", "server.key", "ca.pem"])
def test_no_certificate_is_ever_overwritten(tmp_path, there):
    (tmp_path / there).write_text("precious")
    with pytest.raises(HierfedError, match="is there already") as error:
        new_certificates(tmp_path, ["localhost"])
    told(error)
    assert [path.name for path in tmp_path.iterdir()] == [there]


@pytest.mark.parametrize("host", ["bücher.example", "", "a b", "https://a.example", "a.example:9092"])
def test_a_host_that_is_none_is_refused_in_one_line(tmp_path, host):
    with pytest.raises(HierfedError, match="host") as error:
        new_certificates(tmp_path / "keys", [host])
    told(error)
    assert not list(tmp_path.glob("**/*.*"))


def test_a_folder_that_cannot_be_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HierfedError, match="file") as error:
        new_certificates(tmp_path / "file", ["localhost"])
    told(error)


def test_hosts_may_be_this_machine_itself(tmp_path):
    shake_hands(new_certificates(tmp_path, ["localhost", "127.0.0.1", socket.gethostname()]), socket.gethostname())
