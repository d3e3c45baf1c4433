"""The service, asked in one process: answers are the library's, others' are refused, and nothing breaks it."""

from __future__ import annotations

import logging
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest

import hierfed
from hierfed.errors import HierfedError
from hierfed.runs.private_files import files_by_user

pytest.importorskip("fastapi", reason="fastapi is not here: pip install '.[serve]'")
pytest.importorskip("prometheus_client", reason="prometheus-client is not here: pip install '.[serve]'")

from fastapi.testclient import TestClient

from hierfed.service.access import EVERYONE, Rate, read_tokens
from hierfed.service.answering import prepare_lists
from hierfed.service.app import Limits, create_app
from hierfed.service.current import Current
from hierfed.service.sessions import Sessions

HOST = "http://127.0.0.1"
TOKENS = {"all": "a" * 24, "4": "f" * 24, "5": "5" * 24}


def client_of(folder: Path, tokens=None, **limits) -> TestClient:
    app = create_app(Current(folder, every=3600), tokens, Limits(**{"rate": 1e6, **limits}))
    return TestClient(app, base_url=HOST, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(model):
    with client_of(model.served.folder) as found:
        yield found


@pytest.fixture
def guarded(model, tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# tokens\n{TOKENS['all']} *\n{TOKENS['4']} 4\n{TOKENS['5']} 5\n")
    path.chmod(0o600)
    return client_of(model.served.folder, read_tokens(path))


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def test_answers_are_the_librarys(client, model):
    found = client.get("/recommendations", params={"user": "4", "k": 5}).json()
    expected = model.recommend("4", k=5)
    assert [each["item"] for each in found["items"]] == [each.item for each in expected.items]
    assert found["items"][0]["rating"] == pytest.approx(expected.items[0].rating, abs=1e-9)
    assert found == client.get("/recommendations", params={"user": "4", "k": 5}).json()
    noir = client.get("/recommendations", params={"user": "4", "genre": "Film-Noir", "last_year": 1960, "k": 50}).json()
    assert {int(each["item"]) % 3 for each in noir["items"]} == {1}
    predicted = client.get("/predict", params={"user": "4", "item": ["9", "3"]}).json()
    assert predicted == [
        {
            "item": each["item"],
            **{name: pytest.approx(each[name]) for name in ("rating", "lowest", "highest")},
            "known": True,
        }
        for each in model.predict({"user": ["4", "4"], "item": ["9", "3"]}).to_dicts()
    ]
    why = client.get("/explain", params={"user": "4", "item": "9"}).json()
    assert [each["item"] for each in why] == [each.item for each in model.explain("4", "9")]
    alike = client.get("/similar", params={"item": "9", "k": 2}).json()
    assert [each["item"] for each in alike] == [each.item for each in model.similar("9", 2)]
    assert client.get("/items", params={"search": "river 8"}).json() == model.find("river 8")
    assert client.get("/healthz").json()["method"] == "hierarchical"
    assert {"/recommendations", "/ratings", "/predict"} <= set(client.get("/openapi.json").json()["paths"])


def test_a_session_is_a_person_with_these_ratings_until_it_is_forgotten(client, model):
    made = client.post("/ratings", json={"ratings": {"3": 5, "7": 1.5}})
    assert (made.status_code, made.json()["ratings"]) == (201, 2)
    session = made.json()["session"]
    assert client.post("/ratings", json={"ratings": {"11": 4}, "session": session}).json()["ratings"] == 3
    found = client.get("/recommendations", params={"session": session, "k": 4}).json()
    expected = model.recommend(ratings={"3": 5, "7": 1.5, "11": 4}, k=4)
    assert [each["item"] for each in found["items"]] == [each.item for each in expected.items]
    assert client.delete("/ratings", params={"session": session}).status_code == 204
    assert client.get("/recommendations", params={"session": session}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "how", "status"),
    [
        ("GET", "/recommendations", {}, 422),
        ("GET", "/recommendations", {"params": {"user": "4", "session": "x"}}, 422),
        ("GET", "/recommendations", {"params": {"user": "4", "k": 0}}, 422),
        ("GET", "/recommendations", {"params": {"user": "4", "k": 10**9}}, 422),
        ("GET", "/recommendations", {"params": {"user": "4", "genre": "x"}}, 422),
        ("GET", "/recommendations", {"params": {"user": "4" * 201}}, 422),
        ("GET", "/recommendations", {"params": {"session": "guess"}}, 404),
        ("GET", "/predict", {"params": {"user": "4"}}, 422),
        ("GET", "/predict", {"params": {"user": "4", "item": "999"}}, 422),
        ("GET", "/similar", {"params": {"item": "../private"}}, 422),
        ("GET", "/page/../private", {}, 404),
        ("GET", "/page/private/node-1", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/ratings", {}, 405),
        ("POST", "/ratings", {"content": b"{"}, 422),
        ("POST", "/ratings", {"json": {"ratings": {}}}, 422),
        ("POST", "/ratings", {"json": {"ratings": {"9": 7}}}, 422),
        ("POST", "/ratings", {"json": {"ratings": {"9": "many"}}}, 422),
        ("POST", "/ratings", {"content": b'{"ratings": {"9": NaN}}'}, 422),
        ("POST", "/ratings", {"json": {"ratings": {"999": 3}}}, 422),
        ("POST", "/ratings", {"json": {"ratings": {"9": 3}, "session": "guess"}}, 404),
        ("POST", "/ratings", {"content": b" " * 70_000}, 413),
        ("POST", "/ratings", {"content": iter([b"{", b"}"])}, 411),
        ("POST", "/ratings", {"content": b"{}", "headers": {"Content-Length": "-1"}}, 411),
    ],
)
def test_what_cannot_be_answered_is_refused_and_the_service_lives(client, method, path, how, status):
    headers = {"Content-Type": "application/json", **how.get("headers", {})}
    answer = client.request(method, path, **{**how, "headers": headers})
    assert answer.status_code == status
    assert client.get("/healthz").status_code == 200


def test_a_token_opens_its_own_users_answers_alone(guarded):
    for path in ("/recommendations", "/explain", "/predict"):
        asked = {"user": "4", "item": "9"}
        assert guarded.get(path, params=asked).status_code == 401
        assert guarded.get(path, params=asked, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert guarded.get(path, params=asked, headers=bearer("5")).status_code == 403
        assert guarded.get(path, params=asked, headers=bearer("4")).status_code == 200
        assert guarded.get(path, params=asked, headers=bearer("all")).status_code == 200
    session = guarded.post("/ratings", json={"ratings": {"9": 3}}, headers=bearer("4")).json()["session"]
    for token, status in (("5", 404), ("all", 404), ("4", 200)):
        assert guarded.get("/recommendations", params={"session": session}, headers=bearer(token)).status_code == status
    assert guarded.delete("/ratings", params={"session": session}, headers=bearer("5")).status_code == 404
    assert guarded.get("/metrics", headers=bearer("4")).status_code == 403
    assert guarded.get("/metrics", headers=bearer("all")).status_code == 200
    assert guarded.get("/healthz").status_code == 200


def test_no_rating_and_no_user_is_in_a_log_or_a_measurement(client, caplog):
    caplog.set_level(logging.DEBUG)
    client.post("/ratings", json={"ratings": {"9": 3.5}})
    client.get("/recommendations", params={"user": "secret-user"})
    client.get("/items", params={"search": "secret-words"})
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("hierfed"))
    assert "POST /ratings 201" in own
    assert not any(word in own for word in ("secret", "3.5"))
    told = client.get("/metrics").text
    assert 'hierfed_requests_total{route="/ratings",status="201"}' in told
    assert "secret" not in told


def test_other_names_and_too_many_requests_are_refused(model):
    slow = client_of(model.served.folder, rate=2)
    assert slow.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
    found = [slow.get("/healthz").status_code for _ in range(6)]
    assert (found[:3], found[-1]) == ([200] * 3, 429)
    clock = [0.0]
    rate = Rate(2, now=lambda: clock[0])
    assert [rate.allows("a") for _ in range(5)] == [True] * 4 + [False]
    assert rate.allows("b")
    clock[0] = 0.5
    assert [rate.allows("a") for _ in range(2)] == [True, False]


def test_the_page_is_served_with_its_policy(client):
    answer = client.get("/page/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "Recommendations without handing over your ratings" in answer.text
    assert client.get("/page/data.js").headers["content-type"].startswith("text/javascript")


def test_prepared_lists_are_the_librarys_and_no_model_is_asked_again(model, monkeypatch):
    current = Current(model.served.folder, every=3600, prepare=partial(prepare_lists, users=30))
    expected = {user: model.recommend(user, k=5, why=False) for user in model.users}
    with TestClient(create_app(current, None, Limits(rate=1e6)), base_url=HOST) as client:
        asked = []
        monkeypatch.setattr(
            current.answering.model, "recommend", lambda user, **_: asked.append(user) or expected[user]
        )
        for user in model.users:
            found = client.get("/recommendations", params={"user": user, "k": 3}).json()
            assert [each["item"] for each in found["items"]] == [each.item for each in expected[user].items[:3]]
            assert found["items"][0]["rating"] == pytest.approx(expected[user].items[0].rating, abs=1e-9)
        sizes = {user: len(model.served.user(user).own) for user in model.users}
        assert len(asked) == len(set(asked)) == len(model.users) - 30
        assert max(sizes[user] for user in asked) <= min(sizes[user] for user in model.users if user not in asked)
        for condition in ({"genre": "Film-Noir"}, {"include_seen": True}, {"k": 21}, {"why": True}, {"exclude": "3"}):
            asked.clear()
            client.get("/recommendations", params={"user": model.users[0], **condition})
            assert asked == [model.users[0]], condition


@pytest.mark.parametrize("end", [-40, 20], ids=["its numbers", "its header"])
def test_a_damaged_file_of_a_user_stops_no_service(model, tmp_path, caplog, end):
    folder = tmp_path / "run"
    shutil.copytree(model.served.folder, folder)
    damaged = files_by_user(folder)["4"][0]
    damaged.write_bytes(damaged.read_bytes()[:end])
    with TestClient(create_app(Current(folder, every=3600, prepare=partial(prepare_lists, users=40)))) as client:
        client.base_url = HOST
        assert client.get("/recommendations", params={"user": "5", "k": 3}).status_code == 200
        assert client.get("/recommendations", params={"user": "4", "k": 3}).status_code == 422
    assert str(damaged) in caplog.text


def test_a_newer_model_takes_the_place_while_requests_go_on(model, films, tmp_path):
    """Requests run on four threads all the while; none fails, and the last ones are the new model's.

    The folder is a node's state, whose pairs of a model and its users' files change together.
    """
    newer = hierfed.fit(
        films, protocol="warm", rounds=1, nodes=2, rank=2, embedding_rank=0, select=False, rank_items=False
    )
    served = tmp_path / "served"
    for number, each in (("1", model), ("3", newer)):
        shutil.copytree(each.served.folder, served / number)
    (served / "2").mkdir()
    (tmp_path / "node.json").write_text("{}")
    (served / "current").write_text("1")
    prepared = []
    current = Current(tmp_path, every=3600, prepare=prepared.append)
    with TestClient(create_app(current, None, Limits(rate=1e6)), base_url=HOST) as client:
        statuses, stop = [], threading.Event()

        def ask(user: int) -> None:
            while not stop.is_set():
                user = user % 40 + 1
                statuses.append(client.get("/recommendations", params={"user": str(user), "k": 3}).status_code)

        threads = [threading.Thread(target=ask, args=(10 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        (served / "current").write_text("2 ")
        assert not current.refresh()
        (served / "current").write_text("3")
        assert current.refresh()
        assert not current.refresh()
        stop.set()
        for thread in threads:
            thread.join()
        assert (current.swaps, current.failures) == (1, 1)
        assert prepared[1:] == [current.answering]
        assert prepared[0] is not current.answering
        found = client.get("/recommendations", params={"user": "4", "k": 5}).json()
    assert set(statuses) == {200}
    assert [each["item"] for each in found["items"]] == [each.item for each in newer.recommend("4", k=5).items]


def test_sessions_end_and_are_bounded(monkeypatch):
    clock = [0.0]
    sessions = Sessions(lasts=10, now=lambda: clock[0])
    first, _ = sessions.put({"1": 2}, EVERYONE)
    assert sessions.ratings(first, "4") is None
    clock[0] = 9
    assert sessions.ratings(first, EVERYONE) == {"1": 2}
    clock[0] = 20
    assert sessions.ratings(first, EVERYONE) is None
    assert sessions.put({str(k): 1 for k in range(1001)}, EVERYONE) is None
    monkeypatch.setattr("hierfed.service.sessions.MOST_SESSIONS", 2)
    names = [sessions.put({"1": 2}, EVERYONE)[0] for _ in range(3)]
    assert [sessions.ratings(name, EVERYONE) is None for name in names] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("short 4\n", 0o600, "line 1: expected TOKEN USER"),
        ("a" * 24 + "\n", 0o600, "line 1: expected TOKEN USER"),
        ("\n", 0o600, "no token in it"),
        ("a" * 24 + " 4\n", 0o644, "others than its owner may read it"),
    ],
)
def test_a_file_of_tokens_that_is_none_is_refused(tmp_path, text, mode, told):
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(HierfedError, match=told):
        read_tokens(path)
