"""Secure sums among real processes: the model of one process, masked on the way, and no node that cannot be lost."""

import json
import signal

import numpy as np
import polars as pl
import pytest
from leaks.wire import Listener

from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.federated.method import Method
from hierfed.models.threads import one_torch_thread
from hierfed.privacy.secure_sum.simulation import SecureSum
from tests.deployment.processes.federations import (
    ROUNDS,
    digest_of,
    free_port,
    in_process,
    join,
    overheard,
    read_until,
    serve,
)

pytestmark = pytest.mark.slow

SECURELY = ("--set", "secure_sums=true", "--set", "scale=[0.5,5]")
# Of the consents that a node gives.
FIFTH_ROUND = 5
# It has sent its masked vector when it is asked whose vectors came.
ENDS_AFTER_UPLOAD = f"""
import os, signal
from hierfed.cli import main
from hierfed.engines.secure_round import CONSENT, SecureNode

answer, asked = SecureNode.answer, []


def answer_or_end(node, request):
    asked.append(request.kind)
    if asked.count(CONSENT) == {FIFTH_ROUND}:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(node, request)


SecureNode.answer = answer_or_end
main()
"""


class WithoutTheThird:
    """From the round after the fifth sum on, the third node is lost."""

    def __init__(self, method: Method):
        self._last = method.start().round + FIFTH_ROUND

    def places(self, round_number: int, nodes: int) -> np.ndarray:
        return np.arange(nodes if round_number <= self._last else 2)


def test_a_node_is_killed_after_its_upload_and_the_model_is_that_of_one_process(start, tables, tmp_path):
    """It is in the sum, the others finish, and who listens to one hears no tally."""
    listener = Listener(port := free_port())
    server = serve(start, tables, port, *SECURELY, "--quorum", 2)
    nodes = [join(start, tables, listener.port, 1), join(start, tables, port, 2)]
    lost = join(start, tables, port, 3, code=ENDS_AFTER_UPLOAD)
    lines = read_until(server, "digest")
    assert server.wait() == 0
    assert lost.wait() == -signal.SIGKILL
    assert [node.wait() for node in nodes] == [0, 0]
    assert any("node 3 is gone" in line for line in lines)
    assert any("2 nodes" in line for line in lines)
    result = json.loads(next(tmp_path.rglob("trained/result.json")).read_text())
    rounds = [each["contributors"] for each in result["federation"]["rounds"]]
    assert rounds == [["1", "2", "3"]] * 5 + [["1", "2"]] * (len(rounds) - 5)
    assert result["federation"]["rounds"][-1]["round"] == ROUNDS

    method, everybody = in_process(tables)
    how = Round(SecureSum(), participation=WithoutTheThird(method))
    with one_torch_thread():
        assert digest_of(lines) == run_rounds(method, everybody, ROUNDS, how=how).shared.digest()
    counts = np.zeros(42)
    np.add.at(counts, pl.read_parquet(tables / "1.parquet")["item"].to_numpy() - 100, 1)
    sent, received = listener.close()
    assert counts.tobytes() not in b"".join([*sent, *received])
    told = overheard(tables, sent, received)
    assert (told.found, told.counts) == ([], 0)
    assert told.messages > ROUNDS
