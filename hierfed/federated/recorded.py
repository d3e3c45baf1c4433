"""The order in which nodes answered, as a ledger tells it: what a run needs to repeat asynchronous rounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RecordedStep:
    """A step of the server; each node that it names is given the model after it.

    answered: the names of the nodes in the step, in the order of their answers. refused: those whose answer was not
    used, or who were away when all were asked: no sum of theirs is kept, and they begin anew, without a private state.
    summed: False for a round that was abandoned, after which all nodes do so, from the model as it is.
    """

    answered: tuple[str, ...]
    refused: tuple[str, ...] = ()
    summed: bool = True
