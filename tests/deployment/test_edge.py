"""Edges between a server and its nodes, in one process: the star's digest, who is named, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from hierfed.deployment.contents import EDGE_ASKED
from hierfed.deployment.edges import GROUP, EdgeIntroduction, introduce_edge, read_edge, write_group
from hierfed.deployment.protocol import Introduction
from hierfed.engines.exchange import Reply
from hierfed.engines.in_process import run_rounds
from hierfed.engines.rounds import Round
from hierfed.errors import HierfedError
from hierfed.federated.contract import Contribution
from hierfed.federated.exact_sum import EXACT_SUM
from hierfed.federated.tree import TreeSum
from hierfed.ledger.book import Book
from hierfed.ledger.entries import FILE, RoundEntry
from hierfed.ledger.keys import public_text
from tests.deployment.conftest import NAMES, Clock, Grid, Meddle, Stopped, Village, leave_alone

if TYPE_CHECKING:
    from flwr.app import Message

    from hierfed.deployment.edge import EdgeSide
    from hierfed.results import DeployedRound

GROUPS = {"north": ("node 1", "node 10"), "south": ("node 2",)}
EXACT = {"rule": "exact_sum", "rank_items": False}


def spoil(name: str, kind: str, facts: Mapping[str, Any], how: str) -> str:
    """The second round of ratings of node 1."""
    return how if (name, kind, facts.get("stage"), facts.get("round")) == ("node 1", "round", "rating", 2) else ""


class County:
    """A village whose nodes are behind edges; nodes that no edge names join the server themselves."""

    def __init__(self, village: Village):
        self.village, self.nodes = village, dict(village.sides)
        self.village.sides.clear()
        self.edges: dict[str, EdgeSide] = {}
        self.grids: dict[str, Grid] = {}
        self.told: list[str] = []

    def start(self, name: str, nodes: Iterable[str], quorum: int = 1, meddle: Meddle = leave_alone) -> EdgeSide:
        """Start an edge, anew where it runs."""
        from hierfed.deployment.admission import ServerObserver
        from hierfed.deployment.edge import EdgeSide
        from hierfed.deployment.edge_state import EdgeState
        from hierfed.deployment.server import Requirements
        from hierfed.engines.flower.federation import Federation
        from hierfed.engines.flower.patience import Patience

        county, clock, patience = self, Clock(), Patience(deadline=5.0)
        sides = [self.nodes[each] for each in nodes]

        class Noting(ServerObserver):
            def tell(self, event: str) -> None:
                county.told.append(event)

        if name in self.edges:
            self.edges[name].state.close()
        self.grids[name] = Grid({5 * place + 2: side for place, side in enumerate(sides)}, meddle, [])
        self.edges[name] = self.village.sides[name] = EdgeSide(  # type: ignore[assignment]
            EdgeState(self.village.place / name, name),
            None,
            Requirements(len(sides), quorum, patience),
            lambda admission: Federation(self.grids[name], admission, patience, clock.monotonic, clock.sleep),  # type: ignore[arg-type]
            Noting(),
        )
        return self.edges[name]

    def close(self) -> None:
        for each in [*self.edges.values(), *self.nodes.values()]:
            each.state.close()


@pytest.fixture
def county(village: Callable[..., Village], make_settings: Callable[..., Any]) -> Iterable[Callable[..., County]]:
    made: list[County] = []

    def make(preset: str = "hierarchical", **changes: Any) -> County:
        made.append(County(village(make_settings(preset, **EXACT | changes))))
        return made[-1]

    yield make
    for each in made:
        each.close()


def refused(county: County, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line with which a member ends whom the server turns away; the server then ends too."""
    from hierfed.deployment.admission import ServerObserver

    def failures() -> list[Exception]:
        return [side.__dict__["failure"] for side in county.village.sides.values() if "failure" in side.__dict__]

    def check(_: ServerObserver) -> None:
        if failures():
            raise Stopped

    monkeypatch.setattr(ServerObserver, "check", check)
    with pytest.raises(Stopped):
        county.village.serve(nodes=3)
    (line,) = map(str, failures())
    assert line.startswith("the server refuses this ")
    assert "\n" not in line
    return line


def die(record: DeployedRound) -> None:
    """The server's process ends after a round."""
    if (record.stage, record.round) == ("rating", 2):
        raise Stopped


def rounds_of(county: County) -> list[RoundEntry]:
    return [each for each in Book(county.village.server / FILE).chain.entries if isinstance(each, RoundEntry)]


@pytest.mark.parametrize("preset", ["hierarchical", "network", "item_biases"])
def test_the_digest_is_that_of_the_star_and_of_the_tree_in_one_process(county, reference, preset):
    here = county(preset)
    for name, nodes in GROUPS.items():
        here.start(name, nodes)
    found = here.village.serve(nodes=3, quorum=3)
    known = reference(preset)
    rounds = here.village.settings.training.rounds
    for rule in (EXACT_SUM, TreeSum(2)):
        assert run_rounds(known.method, known.nodes, rounds, how=Round(rule)).shared.digest() == found.digest
    assert found.federation is not None
    assert found.federation.nodes == list(NAMES)
    assert found.federation.gain.rmse_after == pytest.approx(known.rmse_after, abs=1e-6)


@pytest.mark.parametrize("steps", [["words8"], ["deflate"]])
def test_steps_are_undone_where_a_star_undoes_them(county, reference, steps):
    digests = []
    for groups in (GROUPS, {}):
        here = county(steps=steps)
        for name, nodes in groups.items():
            here.start(name, nodes)
        here.village.sides |= {} if groups else here.nodes
        digests.append(here.village.serve(nodes=3, quorum=3).digest)
    assert digests[0] == digests[1]


def test_the_step_eden1_of_a_network_is_undone_by_the_servers_numbers(county):
    digests = []
    for groups in (GROUPS, {}):
        here = county("network", steps=["eden1"])
        for name, nodes in groups.items():
            here.start(name, nodes)
        here.village.sides |= {} if groups else here.nodes
        digests.append(here.village.serve(nodes=3, quorum=3).digest)
    assert digests[0] == digests[1]


def test_the_ledger_names_and_hears_the_nodes_behind_edges_and_the_root_gets_less(county):
    here = county()
    here.start("north", GROUPS["north"])
    here.village.sides["node 2"] = here.nodes["node 2"]  # joins the server itself
    found = here.village.serve(nodes=3, quorum=3)
    book = Book(here.village.server / FILE)
    assert all(sorted(entry.contributors) == sorted(NAMES) for entry in rounds_of(here))
    for position in range(len(book.chain.entries) - 1):
        assert book.chain.countersigners(position) == sorted(NAMES)
    assert not any("does not countersign" in event for event in here.village.events)
    assert any("edge north has joined" in event for event in here.village.events)
    star = county()
    star.village.sides |= star.nodes
    sent = star.village.serve(nodes=3, quorum=3)
    # A number of an edge is 18 bytes in the place of 8 from each of its two nodes; node 2 sends what it sent.
    for mine, theirs in zip(found.federation.rounds, sent.federation.rounds, strict=True):
        assert mine.bytes_up * 24 == theirs.bytes_up * 26
    assert found.digest == sent.digest


@pytest.mark.parametrize("round_", [-1, 2, 4])
def test_an_edge_that_is_lost_in_a_round_and_begins_again_changes_nothing(county, reference, round_):
    here, lost = county(), []
    for name, nodes in GROUPS.items():
        here.start(name, nodes)

    def meddle(name: str, kind: str, facts: Mapping[str, Any]) -> str:
        if (name, kind, facts.get("round")) == ("north", "round", round_) and not lost:
            lost.append(name)
            grid = here.village.grid
            (old,) = [key for key, side in grid.sides.items() if side.name == name]
            del grid.sides[old]
            grid.sides[old + 1] = here.start(name, GROUPS[name])
            return "lost"
        return ""

    found = here.village.serve(meddle, nodes=3, quorum=3)
    assert lost == ["north"]
    known = reference("hierarchical")
    rounds = here.village.settings.training.rounds
    assert run_rounds(known.method, known.nodes, rounds, how=Round(EXACT_SUM)).shared.digest() == found.digest
    assert not any("does not countersign" in event for event in here.village.events)


def test_a_server_that_begins_again_meets_its_edges_again(county, reference):
    here = county()
    for name, nodes in GROUPS.items():
        here.start(name, nodes)

    with pytest.raises(Stopped):
        here.village.serve(on_round=die, nodes=3, quorum=3)
    found = here.village.serve(nodes=3, quorum=3)
    known = reference("hierarchical")
    rounds = here.village.settings.training.rounds
    assert run_rounds(known.method, known.nodes, rounds, how=Round(EXACT_SUM)).shared.digest() == found.digest


def test_a_node_that_is_lost_behind_an_edge_is_named_and_the_others_go_on(county):
    here = county()
    here.start("north", GROUPS["north"], meddle=lambda name, kind, facts: spoil(name, kind, facts, "lost"))
    here.start("south", GROUPS["south"])
    here.village.serve(nodes=3, quorum=2)
    (lacking,) = [each for each in rounds_of(here) if (each.stage, each.round) == ("rating", 2)]
    assert sorted(lacking.contributors) == ["node 10", "node 2"]
    assert [each.node for each in lacking.refused] == ["node 1"]
    assert not any("does not countersign" in event for event in here.village.events)


def test_an_edge_sends_no_sum_of_fewer_nodes_than_its_quorum(county):
    here = county()
    here.start("north", GROUPS["north"], quorum=2, meddle=lambda name, kind, facts: spoil(name, kind, facts, "lost"))
    here.start("south", GROUPS["south"])
    here.village.serve(nodes=3, quorum=1)
    (lacking,) = [each for each in rounds_of(here) if (each.stage, each.round) == ("rating", 2)]
    assert lacking.contributors == ["node 2"]
    reasons = {each.node: each.reason for each in lacking.refused}
    assert "1 of at least 2 nodes answered" in reasons["north"]
    # The node whose contribution is lost with the edge's sum is told so, and objects to nothing.
    assert reasons["node 10"] == "is behind 'north', whose sum is not in the total"
    assert not any("does not countersign" in event for event in here.village.events)


def test_an_edge_that_hides_a_contribution_is_found_by_its_node(county, monkeypatch):
    from hierfed.deployment import edge

    here = county()
    for name, nodes in GROUPS.items():
        here.start(name, nodes)
    honest = edge.accept

    def hiding(answers: Any, asked: Any, *rest: Any) -> Any:
        accepted, refused = honest(answers, asked, *rest)
        hides = (asked.stage, asked.number) == ("rating", 2)
        return {number: each for number, each in accepted.items() if not hides or number != 0}, refused

    monkeypatch.setattr(edge, "accept", hiding)
    here.village.serve(nodes=3, quorum=1)
    told = [event for event in here.village.events if "does not countersign" in event]
    assert told
    assert all("node node 1 " in event and "leaves out the contribution" in event for event in told)


def test_what_no_ratings_can_give_is_left_out_at_the_edge_with_the_node_named(county):
    class Spoilt(Grid):
        def on_reply(self, name: str, kind: str, reply: Message) -> Message:
            from flwr.app import Message as Flower

            from hierfed.engines.flower.records import read_reply, reply_records

            if kind != "round" or name != "node 1":
                return reply
            found = read_reply(reply)
            arrays = {array: values * float("nan") for array, values in found.contribution.arrays.items()}
            reply.content = reply_records(Reply(found.facts, Contribution(arrays)))
            assert isinstance(reply, Flower)
            return reply

    here = county()
    here.start("north", GROUPS["north"])
    here.start("south", GROUPS["south"])
    grid = here.grids["north"]
    here.grids["north"] = Spoilt(grid.sides, grid.meddle, [])
    here.village.serve(nodes=3, quorum=2)
    for entry in rounds_of(here):
        assert sorted(entry.contributors) == ["node 10", "node 2"]
        assert {each.node for each in entry.refused} == {"node 1"}
        assert all("not finite" in each.reason for each in entry.refused)


def test_a_number_that_is_too_large_for_an_exact_sum_abandons_the_round_in_one_line(county, monkeypatch):
    from hierfed.deployment import edge

    here = county()
    for name, nodes in GROUPS.items():
        here.start(name, nodes)
    honest = edge.accept

    def swollen(answers: Any, asked: Any, *rest: Any) -> Any:
        accepted, refused = honest(answers, asked, *rest)
        return {number: each * 1e60 for number, each in accepted.items()}, refused

    monkeypatch.setattr(edge, "accept", swollen)
    with pytest.raises(HierfedError, match=r"abandoned 5 times: .*not below 4e\+16"):
        here.village.serve(nodes=3, quorum=3)


def test_what_a_server_gets_wrong_ends_the_edge_in_one_line(county):
    here = county()
    for name, nodes in GROUPS.items():
        here.start(name, nodes)
    asked = []

    class Heard(Grid):
        def on_request(self, side: Any, message: Message) -> None:
            from hierfed.engines.flower.records import read_request

            asked.append((side.name, read_request(message)))

    here.village.make_grid = Heard
    with pytest.raises(Stopped):
        here.village.serve(on_round=die, nodes=3, quorum=3)
    first = {request.kind: request for name, request in reversed(asked) if name == "north"}

    def answers(kind: str, **facts: Any) -> str:
        side = here.start("north", GROUPS["north"])
        for before in ("hello", "setup", "round"):
            request = first[before]
            if before == kind:
                with pytest.raises(HierfedError) as error:
                    side.answer(replace(request, facts={**request.facts, **facts}))
                assert "\n" not in str(error.value)
                return str(error.value)
            side.answer(request)
        raise AssertionError

    assert "numbers of nodes cannot be read" in answers("setup", numbers=b"[1]")
    assert "numbers other nodes" in answers("setup", numbers=b'{"node 1": 0}')
    assert "or two alike" in answers("setup", numbers=b'{"node 1": 0, "node 10": 0}')
    assert "is for no edge: federation.rule 'sum'" in answers(
        "setup", settings=str(first["setup"].facts["settings"]).replace('"exact_sum"', '"sum"')
    )
    assert "holds what no message of its kind holds: 'more'" in answers("round", more=1)
    assert "of another training" in answers("round", training="0" * 16)
    side = here.start("north", GROUPS["north"])
    with pytest.raises(HierfedError, match="an edge must know"):
        side.answer(first["setup"])
    hello = first["hello"]
    assert "scale" in side.answer(replace(hello, facts={**hello.facts, "scale": "wide"})).facts["refusal"]
    assert "version" in side.answer(replace(hello, facts={**hello.facts, "version": 1})).facts["refusal"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rule": "sum"}, "start the server with --set rule=exact_sum"),
        ({"rule": "sum", "secure_sums": True, "scale": [0.5, 5.0]}, "an edge adds open sums alone"),
        ({"rule": "median"}, "federation.rule 'median'"),
    ],
)
def test_a_federation_that_an_edge_cannot_serve_refuses_it_in_one_line(county, changes, reason, monkeypatch):
    here = county("network", **changes)
    here.start("north", GROUPS["north"])

    assert reason in refused(here, monkeypatch)


def test_a_node_is_in_a_federation_once(county, monkeypatch):
    here = county()
    here.start("north", GROUPS["north"])
    here.start("south", ("node 1", "node 2"))
    assert "node 'node 1' is there already, behind '" in refused(here, monkeypatch)
    here.village.sides = {"node 1": here.nodes["node 1"], "north": here.start("north", GROUPS["north"])}
    assert "node 'node 1' is there already, " in refused(here, monkeypatch)


def test_an_edge_is_no_second_one_of_a_name_and_stands_behind_no_edge(county, monkeypatch):
    here = county()
    here.start("north", GROUPS["north"])
    here.village.sides["other"] = here.start("south", GROUPS["south"])
    here.edges["south"].name = "north"
    assert "already called 'north'" in refused(here, monkeypatch)


def greeted(county: County, name: str) -> Reply:
    """The answer of an edge that begins again to a new server's greeting."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from hierfed.deployment.protocol import hello, new_nonce

    public = public_text(Ed25519PrivateKey.generate())
    return county.start(name, GROUPS[name]).answer(hello(county.village.data.catalogue, new_nonce(), public))


def test_the_nodes_of_an_edge_are_settled_when_it_joins_and_no_edge_stands_behind_another(county):
    from hierfed.engines.flower.admission import AdmissionRefused

    here = county()
    for name, nodes in GROUPS.items():
        here.start(name, nodes)
    with pytest.raises(Stopped):
        here.village.serve(on_round=die, nodes=3, quorum=3)
    north, south = greeted(here, "north"), greeted(here, "south")
    assert set(north.facts) == set(south.facts) == EDGE_ASKED["hello"].reply.keys() - {"refusal"}
    admission = here.edges["north"]._admission
    assert admission is not None
    assert admission.against(here.edges["north"].state.group[0]) == ""
    late = here.edges["south"].state.group[0]
    assert admission.against(late) == "the nodes of this edge were settled before it came"
    nonce = admission.hello().facts["nonce"]
    with pytest.raises(AdmissionRefused, match="answers no greeting"):
        admission.admit(south)
    own = EdgeIntroduction("south", here.edges["south"].state.identity, "", here.edges["south"].state.group)
    with pytest.raises(AdmissionRefused, match="an edge joins a server, and no other edge"):
        admission.admit(introduce_edge(own, nonce, None))


def test_an_edges_group_is_signed_by_it(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from hierfed.deployment.keys import new_key, read_key, read_public_key

    public = read_public_key(new_key(tmp_path / "edge.key"))
    node = Introduction("a", "secret", "", public_text(Ed25519PrivateKey.generate()), "tag", (1.0, 5.0))
    edge = EdgeIntroduction("north", "other", public, (node,))
    reply = introduce_edge(edge, b"nonce", read_key(tmp_path / "edge.key"))
    assert read_edge(reply, b"nonce", frozenset({public})) == edge
    assert "no key that was given" in read_edge(reply, b"nonce", frozenset({"another"}))
    assert "does not sign" in read_edge(reply, b"later", None)
    for group, reason in [
        (write_group([replace(node, tag="changed")]), "does not sign"),
        (write_group([node, node]), "have one name"),
        (write_group([replace(node, name="north")]), "have one name"),
        (write_group([]), "no nodes"),
        (write_group([replace(node, limits=(5.0, 1.0))]), "ratings from"),
        (write_group([replace(node, limits=(1.0, float("nan")))]), "ratings from"),
        (write_group([replace(node, ledger="none")]), "no public key"),
        (b'[{"name": 3}]', "cannot be read"),
        (b"3", "cannot be read"),
    ]:
        found = read_edge(replace(reply, facts={**reply.facts, GROUP: group}), b"nonce", None)
        assert isinstance(found, str)
        assert reason in found
        assert "\n" not in found


def test_a_damaged_or_strange_state_is_refused_in_one_line(tmp_path):
    from hierfed.deployment.edge_state import EDGE, EdgeState

    EdgeState(tmp_path / "a", "north").close()
    with pytest.raises(HierfedError, match="belongs to edge 'north', not 'south'"):
        EdgeState(tmp_path / "a", "south")
    kept = (tmp_path / "a" / EDGE).read_text()
    (tmp_path / "a" / EDGE).write_text(kept.replace("north", "south"))
    with pytest.raises(HierfedError, match="its content is not what was written"):
        EdgeState(tmp_path / "a", "south")
    first = EdgeState(tmp_path / "b", "north")
    with pytest.raises(HierfedError, match="another process is using it"):
        EdgeState(tmp_path / "b", "north")
    first.close()
    again = EdgeState(tmp_path / "b", "north")
    assert again.identity == first.identity
    again.close()


def test_a_federation_with_edges_goes_on_from_its_finished_model_as_a_star_does(county):
    digests = []
    for groups in (GROUPS, {}):
        here = county(scale=[0.5, 5.0])
        for second in (False, True):
            former = here.village.finished(rounds=2) if second else None
            # Nodes that were sent away begin again.
            for side in here.nodes.values():
                side.state.close()
            here.village.sides.clear()
            here.village.start(*NAMES)
            here.nodes = dict(here.village.sides)
            for name, nodes in groups.items():
                here.start(name, nodes)
                for each in nodes:
                    del here.village.sides[each]
            digests.append(here.village.serve(former=former, nodes=3, quorum=3).digest)
            assert all(edge.state.group == () for edge in here.edges.values())
    assert digests[:2] == digests[2:]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("taken", [0.0, 1.0, 20.0])
def test_an_edge_gives_up_a_slow_node_before_its_server_gives_up_the_edge(taken):
    from hierfed.deployment.edge_hosting import Edging, patience_of
    from hierfed.deployment.hosting import Hosting, Joining
    from hierfed.engines.flower.patience import Patience

    edging = Edging(Joining("127.0.0.1:9092"), Hosting("127.0.0.1", 9093), nodes=3, quorum=2, deadline=300.0)
    assert taken + patience_of(edging).after(taken) < taken + Patience().after(taken)
    assert patience_of(edging).deadline < Patience().deadline
