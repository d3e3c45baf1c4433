"""Asynchronous rounds of real nodes, one of which is slow: the ledger's order, repeated in one process, gives them."""

import json
import signal

import pytest

from hierfed.data.federation import Node
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.engines.asynchronous import run_asynchronous
from hierfed.engines.rounds import round_of
from hierfed.engines.stages import after_earlier_stages
from hierfed.ledger.book import read_chain
from hierfed.ledger.entries import RoundEntry
from hierfed.ledger.replay import Replay
from hierfed.methods import Case, prepare
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings
from tests.deployment.processes.federations import SCALE, free_port, join, read_until

pytestmark = pytest.mark.slow

# A node that stops as it is asked for a round of ratings from this one on, once.
STOPS = """
import os, signal
from hierfed.cli import main
from hierfed.deployment.node import NodeSide

answer, stopped = NodeSide.answer, []


def answer_or_stop(node, request):
    if request.kind == "round" and request.facts["stage"] == "rating" and request.facts["round"] >= {} and not stopped:
        stopped.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)
    return answer(node, request)


NodeSide.answer = answer_or_stop
main()
"""
ROUNDS = 9
# The slow node's second round: the first of the hierarchical model is everybody's.
FIRST = 2
SETTINGS = {
    "mode": "async",
    "answers": 1,
    "rounds": ROUNDS,
    "min_raters": 2,
    "embedding_rank": 4,
    "embedding_rounds": 1,
    "rank": 3,
    "rank_items": False,
}


def repeated(tables, ledger) -> str:
    """The digest of the same nodes in one process, in the order of a ledger, with which each round is compared."""
    settings, catalogue = load_settings("hierarchical", SETTINGS), read_catalogue(tables / "items.csv")
    own = [own_ratings(read_ratings(str(tables / f"{number}.parquet")), catalogue) for number in (1, 2, 3)]
    nodes = [Node(place, str(place + 1), each.train, each.test) for place, each in enumerate(own)]
    replay = Replay(ledger)
    with one_torch_thread():
        method = prepare(after_earlier_stages(Case(settings, catalogue, SCALE), nodes)).method
        how = round_of(settings).in_order(replay.recorded)
        return run_asynchronous(method, nodes, ROUNDS, how=how, observer=replay).shared.digest()


def test_rounds_go_on_without_a_slow_node_whose_old_answer_counts_later_and_one_process_repeats_them(
    start, tables, tmp_path
):
    """Node 3 stops with the model after the rounds of everybody, and answers to that six steps later."""
    port = free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--nodes", 3, "--quorum", 3, "--catalogue", tables / "items.csv"]
    sets = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    server = start("server", "hierarchical", *options, *sets, "--name", "trained")
    stops = {1: ROUNDS - 2, 2: ROUNDS - 2, 3: FIRST}
    nodes = {number: join(start, tables, port, number, code=STOPS.format(at)) for number, at in stops.items()}
    for node in nodes.values():
        node.wait_until_stopped()
    # Of nodes 1 and 2 each step gave one the new model, so that both have stopped after step ROUNDS - 2.
    nodes[3].send_signal(signal.SIGCONT)
    read_until(server, f"rating, round {ROUNDS - 1}:")
    for number in (1, 2):
        nodes[number].send_signal(signal.SIGCONT)
    read_until(server, "digest")
    assert [process.wait() for process in (server, *nodes.values())] == [0] * 4

    ledger = next(tmp_path.rglob("trained/ledger.jsonl"))
    entries = [entry for entry in read_chain(ledger.read_bytes(), ledger).entries if isinstance(entry, RoundEntry)]
    orders = {entry.round: entry.contributors for entry in entries if entry.stage == "rating"}
    assert all(order == ["1", "2", "3"] for number, order in orders.items() if number < FIRST)
    assert all(orders[number] in (["1"], ["2"]) for number in range(FIRST, ROUNDS - 1))
    assert orders[ROUNDS - 1] == ["3"]
    assert repeated(tables, ledger) == json.loads(ledger.with_name("result.json").read_text())["digest"]
