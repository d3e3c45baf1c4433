"""Users' own files: one for each user, in a folder for each node, as they would lie on that node's own disk.

They are readable by their owner only. A file's name is a hash of the user's id, which is in its header: an id may be
longer than a name may be, and on some disks `A` and `a` are one name.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

import polars as pl
import torch
from torch import Tensor

from hierfed.atomic import write_atomically
from hierfed.data.federation import RowsByNode
from hierfed.errors import HierfedError
from hierfed.federated.private import PersonalModel
from hierfed.sealed import damaged, read_json, sealed_json
from hierfed.tensor_files import read_facts, read_tensors, tensor_bytes

PRIVATE = "private"
INDEX = f"{PRIVATE}/files.json"
FORMAT, FORMAT_BEFORE = "3", "2"
# What all users of a node share.
NODE = "node.safetensors"
# Where users lie whom no node knows, since all of their rows were held out.
NOWHERE = "held-out"
# Where users lie who came after the run.
LATER = "later"
# Of a name, so many bytes are allowed on every disk.
LONGEST_NAME = 255


@dataclass(frozen=True)
class UserFile:
    """A user's own file.

    tensors: what PersonalModel.tensors gave of the user and of the node's users together; none where nothing was
    learned of the user.
    seen: the numbers of the items that the user has rated besides.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    seen: Tensor


def private_format(method: str, version: str = FORMAT) -> str:
    """The format that the header of a private file names."""
    return f"hierfed private {method} {version}"


def save_private(
    folder: Path,
    kind: str,
    models: Mapping[str, PersonalModel],
    user_ids: pl.Series,
    held: RowsByNode,
    seen_alone: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> None:
    """Write a folder per node, and in it a file per user; models: by node's name.

    held: rows, user by user, that models may not have learned from; each user's own file keeps their items.
    seen_alone: the numbers of the items that users without any rating have seen, by the user's id.
    """
    place, unfinished = folder / PRIVATE, folder / f".{PRIVATE}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    told, missed = {"format": private_format(kind)}, _holders(held)
    for name, model in models.items():
        own = unfinished / name
        own.mkdir(mode=0o700)
        for user, tensors in model.tensors():
            if user is None:
                (own / NODE).write_bytes(tensor_bytes(tensors, told))
                continue
            missed.discard(user)
            _save_user(own, told, str(user_ids[user]), tensors | _seen(held, user, tensors.get("items")))
    if missed or seen_alone:
        (unfinished / NOWHERE).mkdir(mode=0o700, exist_ok=True)
        for user in sorted(missed):
            _save_user(unfinished / NOWHERE, told, str(user_ids[user]), _seen(held, user, None))
        for user_id, items in seen_alone.items():
            _save_user(unfinished / NOWHERE, told, user_id, {"seen": torch.tensor(items, dtype=torch.int64)})
    names = sorted(str(path.relative_to(unfinished)) for path in unfinished.glob("*/*"))
    write_atomically(unfinished / Path(INDEX).name, sealed_json({"files": names}), 0o600)
    if place.exists():
        shutil.rmtree(place)
    unfinished.rename(place)


def write_user(folder: Path, kind: str, user_id: str, tensors: Mapping[str, Tensor], former: Path | None) -> None:
    """Write one user's own file into a run; former: the one that it replaces, None for a user who came later.

    Call `list_files` after the last.
    """
    place = folder / PRIVATE / LATER if former is None else former.parent
    place.mkdir(mode=0o700, exist_ok=True)
    path = place / f"{user_file(user_id)}.safetensors"
    facts = {"format": private_format(kind), "user": user_id}
    write_atomically(path, tensor_bytes(tensors, facts), 0o600)
    if former is not None and former != path:
        former.unlink()


def read_node(folder: Path, node: str) -> Mapping[str, Tensor]:
    """The tensors that all users of a node of a run share; empty where there are none yet."""
    return node_tensors(folder / PRIVATE / node / NODE)


def write_node(folder: Path, kind: str, node: str, tensors: Mapping[str, Tensor]) -> None:
    """Write what all users of a node share into a run."""
    write_atomically(folder / PRIVATE / node / NODE, tensor_bytes(tensors, {"format": private_format(kind)}), 0o600)


def has_several(folder: Path, node: str) -> bool:
    """True for a node with more than one user; users who came later, or whom no node knows, share none."""
    place = folder / PRIVATE / node
    return node not in (LATER, NOWHERE) and len(list(place.glob("user-*.safetensors"))) > 1


def list_files(folder: Path) -> None:
    """Write the list of all users' files of a run, by which a lost one is found."""
    place = folder / PRIVATE
    names = sorted(str(path.relative_to(place)) for path in place.glob("*/*"))
    write_atomically(folder / INDEX, sealed_json({"files": names}), 0o600)


def user_file(user_id: str) -> str:
    """The name of a user's own file, without its ending."""
    return f"user-{hashlib.sha256(user_id.encode()).hexdigest()[:32]}"


def node_tensors(path: Path) -> Mapping[str, Tensor]:
    """The tensors that all users of a node share, from the node's file; none where there is no file."""
    return read_tensors(path)[1] if path.is_file() else {}


NodeFile = Callable[[Path], Mapping[str, Tensor]]


def read_private(folder: Path, kind: str, user_id: str, node_file: NodeFile = node_tensors) -> list[UserFile]:
    """A user's own files, one for each node that has one; personalisation nodes come first.

    node_file: reads the node's own file, or knows it.
    Raises HierfedError for a file that is damaged, or of another version than this one and the one before.
    """
    names = [user_file(user_id)]
    # As files of format 2 are called.
    if len(before := f"user-{quote(user_id, safe='')}") + len(".safetensors") <= LONGEST_NAME:
        names.append(before)
    nodes = sorted((folder / PRIVATE).glob("*/"), key=lambda path: (not path.name.startswith("node-"), path.name))
    paths = [node / f"{name}.safetensors" for node in nodes for name in names]
    found = read_files([path for path in paths if path.is_file()], kind, user_id, node_file)
    if not found:
        _refuse_lost(folder, names[0])
    return found


def read_files(paths: Sequence[Path], kind: str, user_id: str, node_file: NodeFile = node_tensors) -> list[UserFile]:
    """A user's own files at these paths; see read_private."""
    return [_read_user(path, kind, user_id, node_file) for path in paths]


def every_user_file(folder: Path, kind: str, users: Sequence[str] | None = None) -> Iterator[tuple[str, str, UserFile]]:
    """Node's name, user's id and file of all users, personalisation nodes first. users: only theirs; None for all."""
    if users is not None:
        for user in users:
            yield from ((file.path.parent.name, user, file) for file in read_private(folder, kind, user))
        return
    for path in sorted((folder / PRIVATE).glob("*/user-*.safetensors"), key=_place):
        user = _user_of(path)
        yield path.parent.name, user, _read_user(path, kind, user)


def _place(path: Path) -> tuple[bool, str, str]:
    return not path.parent.name.startswith("node-"), path.parent.name, path.name


def _user_of(path: Path) -> str:
    """The id of the user whose file it is; a file of format 2 is named by the id itself."""
    return read_facts(path).get("user", unquote(path.stem.removeprefix("user-")))


def _refuse_lost(folder: Path, name: str) -> None:
    """Raise DamagedError for a user who had a file; versions before this one kept no list of them."""
    index = folder / INDEX
    kept = read_json(index)["files"] if index.is_file() else []
    lost = [each for each in kept if Path(each).stem == name]
    if lost:
        raise damaged(folder / PRIVATE / lost[0], "it is missing")


def files_by_user(folder: Path) -> dict[str, list[Path]]:
    """The paths of all users' own files by the users' ids, which ascend; those of personalisation nodes come first.

    Raises DamagedError for a file that cannot be read.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((folder / PRIVATE).glob("*/user-*.safetensors"), key=_place):
        found.setdefault(_user_of(path), []).append(path)
    return dict(sorted(found.items()))


def all_users(folder: Path) -> list[str]:
    """The ids of all users who have a file of their own, ascending."""
    return list(files_by_user(folder))


def _save_user(place: Path, told: Mapping[str, str], user_id: str, tensors: dict[str, Tensor]) -> None:
    content = tensor_bytes(tensors, {**told, "user": user_id})
    (place / f"{user_file(user_id)}.safetensors").write_bytes(content)


def _read_user(path: Path, kind: str, user_id: str, node_file: NodeFile = node_tensors) -> UserFile:
    told, tensors = read_tensors(path)
    if told.get("format") not in (private_format(kind), private_format(kind, FORMAT_BEFORE)):
        raise HierfedError(f"{path}: holds '{told.get('format')}', and '{private_format(kind)}' was expected")
    if told.get("user", user_id) != user_id:
        raise damaged(path, "it is the file of another user")
    seen = tensors.pop("seen", torch.empty(0, dtype=torch.int64))
    if tensors:
        tensors |= node_file(path.parent / NODE)
    return UserFile(path, tensors, seen)


def _holders(held: RowsByNode) -> set[int]:
    counts = held.offsets[1:] - held.offsets[:-1]
    return set(counts.nonzero()[0].tolist())


def _seen(held: RowsByNode, user: int, learned: Tensor | None) -> dict[str, Tensor]:
    """The items of a user's held-out rows that the model did not learn from; nothing where there are none."""
    items = torch.from_numpy(held.of(user).item).long()
    left = items if learned is None else items[~torch.isin(items, learned)]
    return {"seen": left} if len(left) else {}
