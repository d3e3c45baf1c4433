"""The audit of a run's ledger: every link must hold, and the run's files must be those that it names."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hierfed.data.reading.catalogue_file import CATALOGUE, read_catalogue
from hierfed.errors import HierfedError, SettingsError, reason_of
from hierfed.ledger.audited import Audited, AuditedNode
from hierfed.ledger.entries import FILE, RoundEntry, Seal
from hierfed.ledger.files import file_digest
from hierfed.settings import digest_as_written, load_settings

if TYPE_CHECKING:
    from hierfed.ledger.chain import Chain

SETTINGS, RESULT = "settings.toml", "result.json"


def audit(folder: Path, server_key: str = "") -> Audited:
    """Verify the ledger of a run's folder, or of a node's state, from the first line to the last.

    server_key: the fingerprint that the server's key must have, or the file of its public half; "" accepts any key.
    Raises HierfedError, which names the first broken link, for a ledger with any change.
    """
    if importlib.util.find_spec("cryptography") is None:
        raise SettingsError("signatures need a package more: pip install 'hierfed[privacy]'")
    from hierfed.ledger.book import read_chain  # noqa: PLC0415 - it is an extra
    from hierfed.ledger.keys import fingerprint  # noqa: PLC0415

    path = folder / FILE
    wanted = _expected(server_key) if server_key else ""
    try:
        written = path.read_bytes()
    except OSError as error:
        raise HierfedError(
            f"{path}: no ledger can be read there: {reason_of(error)}; `--set ledger=keep` keeps one"
        ) from error
    chain = read_chain(written, path)
    if not chain.entries:
        raise HierfedError(f"{path}, line 1: the opening is missing")
    server = fingerprint(chain.opening.server)
    if wanted not in ("", server):
        raise HierfedError(f"{path}, line 1: the server's key is {server}, and {wanted} was expected")
    if not chain.ended and (folder / RESULT).is_file():
        raise HierfedError(
            f"{path}, line {len(chain.entries) + 1}: the end is missing, and the run is over, as {RESULT} says"
        )
    rounds = [entry for entry in chain.entries if isinstance(entry, RoundEntry)]
    return Audited(
        training=chain.opening.training,
        entries=len(chain.entries),
        rounds=dict(Counter(entry.stage for entry in rounds if entry.sum is not None)),
        abandoned=sum(entry.sum is None for entry in rounds),
        server=server,
        expected=wanted == server,
        simulated=chain.opening.simulated,
        nodes=[_audited_node(chain, rounds, name, fingerprint(key)) for name, key in chain.nodes.items()],
        epsilon=rounds[-1].epsilon if rounds else None,
        sealed=chain.ended,
        models=dict(chain.models),
        compared=_compared(folder, chain, path),
    )


def _expected(server_key: str) -> str:
    from hierfed.ledger.keys import PREFIX, fingerprint  # noqa: PLC0415 - it is an extra

    if server_key.startswith(PREFIX):
        return server_key
    try:
        return fingerprint(Path(server_key).read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"--server-key {server_key}: neither a fingerprint, {PREFIX}..., nor a file such as ledger.key.pub"
        ) from error


def _audited_node(chain: Chain, rounds: list[RoundEntry], name: str, fingerprint: str) -> AuditedNode:
    own = [entry.position for entry in rounds if name in entry.contributors]
    unsigned = [position + 1 for position in own if name not in chain.countersigners(position)]
    return AuditedNode(
        name=name,
        fingerprint=fingerprint,
        contributed=len(own),
        countersigned=len(own) - len(unsigned),
        unsigned=unsigned,
    )


def _compared(folder: Path, chain: Chain, path: Path) -> list[str]:
    """The files that were compared; raises HierfedError for a file that the ledger contradicts."""
    opening, compared = chain.opening, []
    if (folder / SETTINGS).is_file():
        compared.append(SETTINGS)
        # A version that knows more settings reads more than was signed.
        known = (load_settings(folder / SETTINGS).digest(), digest_as_written(folder / SETTINGS))
        if opening.settings not in known:
            raise HierfedError(f"{path}, line 1: the opening names other settings than {SETTINGS} holds")
    if (folder / CATALOGUE).is_file():
        compared.append(CATALOGUE)
        if read_catalogue(folder / CATALOGUE, as_written=True).digest() != opening.catalogue:
            raise HierfedError(f"{path}, line 1: the opening names another catalogue than {CATALOGUE} holds")
    for seal in (entry for entry in chain.entries if isinstance(entry, Seal)):
        where = f"{path}, line {seal.position + 1}: the seal"
        for name, digest in seal.files.items():
            if not (folder / name).is_file():
                raise HierfedError(f"{where} names {name}, which is missing")
            if file_digest(folder / name) != digest:
                raise HierfedError(f"{where} names another {name} than there is")
            compared.append(name)
        if (folder / RESULT).is_file() and _model_of_result(folder / RESULT) != seal.models.get("rating"):
            raise HierfedError(f"{where} names another model than {RESULT}")
        if (folder / RESULT).is_file() and RESULT not in seal.files:
            compared.append(f"the model in {RESULT}")
    return list(dict.fromkeys(compared))


def _model_of_result(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HierfedError(f"{path}: no result of a run can be read there: {error!r}") from error
