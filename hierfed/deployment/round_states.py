"""A node's private states, a file a round: kept for the next round, for a repeated one and for the next start."""

from __future__ import annotations

from pathlib import Path

from hierfed.atomic import write_atomically
from hierfed.federated.private import PrivateState, StoredState
from hierfed.tensor_files import read_tensors, tensor_bytes

ROUNDS = "rounds"
REJOIN = "the next start of `hierfed node` gets it again from the server"


class RoundStates:
    """The folder of a node's private states; only its owner can read them.

    folder: of the node's state.
    """

    def __init__(self, folder: Path):
        self._folder = folder / ROUNDS

    def begin(self) -> None:
        """Make the folder, where it is not there."""
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def files(self) -> list[Path]:
        """The files of all stages and rounds."""
        return sorted(self._folder.glob("*.safetensors"))

    def keep(self, training: str, stage: str, number: int, rows: str, state: PrivateState) -> None:
        """Keep the state of a round; that of the node's last one before stays: a server may repeat a round.

        rows: the digest of the rows that the state was made of.
        """
        kept = state.kept()
        if not kept:
            return
        content = tensor_bytes(kept, {"training": training, "rows": rows})
        write_atomically(self._round(stage, number), content, 0o600)
        kept_before = self._rounds_before(stage, number)[-1:]
        for path in self._folder.glob(f"{stage}.*.safetensors"):
            if int(path.name.split(".")[1]) not in (*kept_before, number, number + 1):
                path.unlink()

    def recall(self, training: str, stage: str, number: int, rows: str) -> StoredState | None:
        """The state of this round, training and rows; None without one."""
        path = self._round(stage, number)
        if not path.is_file():
            return None
        facts, tensors = read_tensors(path, REJOIN, ("training", "rows"))
        return StoredState(tensors) if (facts["training"], facts["rows"]) == (training, rows) else None

    def recall_last(self, training: str, stage: str, number: int, rows: str) -> StoredState | None:
        """The state of this round or of the last one before it that is there, likewise."""
        last = self._rounds_before(stage, number + 1)[-1:]
        return self.recall(training, stage, last[0], rows) if last else None

    def forget(self, stage: str) -> None:
        """Delete the states of a stage."""
        for path in self._folder.glob(f"{stage}.*.safetensors"):
            path.unlink()

    def _rounds_before(self, stage: str, number: int) -> list[int]:
        """The numbers of the rounds before this one whose state is there, ascending."""
        found = (int(path.name.split(".")[1]) for path in self._folder.glob(f"{stage}.*.safetensors"))
        return sorted(each for each in found if each < number)

    def _round(self, stage: str, number: int) -> Path:
        return self._folder / f"{stage}.{number}.safetensors"
