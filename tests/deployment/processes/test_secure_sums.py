"""Secure sums among real processes: the model of one process, masked on the way, and no node that cannot be lost."""

import json
import signal

import numpy as np
import polars as pl
import pytest

from hierfed.privacy.secure_sum.simulation import SecureSum
from tests.deployment.processes.federations import (
    ROUNDS,
    digest_of,
    free_port,
    in_process_digest,
    join,
    read_until,
    serve,
)
from tests.deployment.processes.proxy import Proxy

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


def test_the_model_is_that_of_one_process_and_who_listens_hears_no_tally(start, tables):
    port, proxy = free_port(), Proxy()
    server = serve(start, tables, port, *SECURELY)
    proxy.forward_to(port)
    nodes = [join(start, tables, proxy.port, 1), *(join(start, tables, port, number) for number in (2, 3))]
    lines = read_until(server, "digest")
    assert [server.wait(), *(node.wait() for node in nodes)] == [0, 0, 0, 0]
    assert digest_of(lines) == in_process_digest(tables, SecureSum())
    counts = np.zeros(40)
    np.add.at(counts, pl.read_parquet(tables / "1.parquet")["item"].to_numpy() - 100, 1)
    assert counts.tobytes() not in proxy.close()


def test_a_node_that_is_killed_after_its_upload_is_in_the_sum_and_the_others_finish(start, tables, tmp_path):
    port = free_port()
    server = serve(start, tables, port, *SECURELY, "--quorum", 2)
    nodes = [join(start, tables, port, number) for number in (1, 2)]
    lost = join(start, tables, port, 3, program=("-c", ENDS_AFTER_UPLOAD))
    lines = read_until(server, "digest")
    assert server.wait() == 0
    assert lost.wait() == -signal.SIGKILL
    assert [node.wait() for node in nodes] == [0, 0]
    assert any("node 3 is gone" in line for line in lines)
    result = json.loads(next(tmp_path.rglob("trained/result.json")).read_text())
    rounds = [each["contributors"] for each in result["federation"]["rounds"]]
    assert rounds == [["1", "2", "3"]] * 5 + [["1", "2"]] * (len(rounds) - 5)
    assert result["federation"]["rounds"][-1]["round"] == ROUNDS
