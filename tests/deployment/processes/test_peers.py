"""Real peers: four processes over TLS and no server. A stranger is refused; the others finish without a killed one."""

import grpc
import pytest
from safetensors.torch import load_file

from hierfed.data.federation import Node
from hierfed.data.reading.catalogue_file import read_catalogue
from hierfed.data.reading.own import own_ratings
from hierfed.data.reading.sources import read_ratings
from hierfed.deployment.keys import new_key, read_key, read_public_key
from hierfed.deployment.plan import Plan
from hierfed.deployment.signing import NodeSigner
from hierfed.engines.exchange import Request
from hierfed.engines.in_process import run_rounds
from hierfed.engines.peers.grpc_post import GrpcPost, certificate_at, channel_to, key_of
from hierfed.ledger.shared import FILE, audit_shared, read_shared
from hierfed.models.threads import one_torch_thread
from hierfed.settings import load_settings, parse_assignments, parse_value
from tests.deployment.processes.conftest import Process
from tests.deployment.processes.federations import SETTINGS, free_port, read_until

PEERS, ROUNDS = 4, 3
# Lists follow the model of ratings: time to kill a peer that has that.
OPTIONS = ("--set", f"rounds={ROUNDS}", "--set", "scale=[0.5,5]", *SETTINGS, "--set", "rank_items=true")


@pytest.fixture(scope="module")
def quarters(tables, tmp_path_factory):
    """Four peers' tables: the users of the three nodes, dealt out."""
    import polars as pl

    folder = tmp_path_factory.mktemp("quarters")
    rows = pl.concat([pl.read_parquet(tables / f"{number}.parquet") for number in (1, 2, 3)])
    dealt = rows.with_columns(part=pl.col("user").rank("dense") % PEERS)
    for number in range(PEERS):
        dealt.filter(pl.col("part") == number).drop("part").write_parquet(folder / f"{number}.parquet")
    return folder


@pytest.fixture
def keys(tmp_path):
    for number in range(PEERS):
        new_key(tmp_path / f"{number}.key")
    return tmp_path


def begin(start, tables, quarters, keys, ports, number) -> Process:
    others = [other for other in range(PEERS) if other != number]
    options = ["--data", quarters / f"{number}.parquet", "--catalogue", tables / "items.csv", "--name", f"p{number}"]
    options += ["--listen", f"127.0.0.1:{ports[number]}", "--key", keys / f"{number}.key", "--state", f"state-{number}"]
    options += [word for other in others for word in ("--peer", f"127.0.0.1:{ports[other]}")]
    options += [word for other in others for word in ("--allow-key", keys / f"{other}.key.pub")]
    options += ["--test-share", 0, "--least-raters", 1, "--patience", 2]
    return start("peer", *OPTIONS, *options, afresh=number == 1)


def star(tables, quarters):
    """The model of the same nodes under a server, in one process."""
    given = {key: parse_value(text) for key, text in parse_assignments(OPTIONS[1::2]).items()}
    settings = load_settings("hierarchical", given)
    catalogue = read_catalogue(tables / "items.csv")
    own = [own_ratings(read_ratings(str(quarters / f"{number}.parquet")), catalogue) for number in range(PEERS)]
    nodes = [Node(number, f"p{number}", each.train, each.test) for number, each in enumerate(own)]
    plan = Plan("t", settings, catalogue, (0.5, 5.0), nodes=PEERS)
    models = {}
    with one_torch_thread():
        for stage in plan.stages():
            models[stage.name] = run_rounds(plan.trainer(stage.name, models), nodes, stage.rounds).shared
            if stage.name == "rating":
                break
    return models["rating"].arrays


def test_four_peers_have_the_servers_model_and_finish_without_one_that_is_killed(
    start, tables, quarters, keys, tmp_path
):
    ports = [free_port() for _ in range(PEERS)]
    first = begin(start, tables, quarters, keys, ports, 0)
    read_until(first, "waits for 3 peers")
    new_key(tmp_path / "stranger.key")
    stranger = read_key(tmp_path / "stranger.key")
    shown = certificate_at("127.0.0.1", ports[0])
    assert key_of(shown) == read_public_key(keys / "0.key.pub")
    post = GrpcPost(read_public_key(tmp_path / "stranger.key.pub"), NodeSigner(stranger))
    channel = channel_to("127.0.0.1", ports[0], shown)
    with pytest.raises(grpc.RpcError) as refused:
        post.ask(key_of(shown), channel, Request("hello"), 10)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    channel.close()
    others = [begin(start, tables, quarters, keys, ports, number) for number in range(1, PEERS)]
    read_until(others[2], f"rating, round {ROUNDS}:")
    others[2].kill()
    left = [first, *others[:2]]
    for process in left:
        lines = read_until(process, "digest ")
        assert any("goes on without p3" in line for line in lines)
        assert process.wait() == 0
    wanted = star(tables, quarters)
    for number in range(len(left)):
        found = load_file(tmp_path / f"state-{number}" / "rating.shared.safetensors")
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            largest = max(float(array.abs().max()), 1e-300)
            assert float((found[name] - array).abs().max()) <= 1e-9 * largest, name
    ledgers = [read_shared(tmp_path / f"state-{number}" / FILE).lines for number in range(len(left))]
    assert all(lines == ledgers[0] for lines in ledgers)
    assert audit_shared(tmp_path / "state-0" / FILE).sealed
