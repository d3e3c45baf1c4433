"""Settings that would not do what they say are refused before any data are read, each with its reason and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import hierfed
from hierfed.cli import app
from hierfed.errors import SettingsError
from hierfed.methods import METHODS, MethodKind
from hierfed.settings import load_settings

REFUSED = [
    ("local", {"device": "cuda"}, "method 'local' computes on the CPU: leave it at 'cpu'"),
    ("private", {"device": "cuda"}, "method 'private_prior' computes on the CPU"),
    (
        "paper",
        {"device": "cuda", "privacy_unit": "example", "dropout": 0.0},
        "under differential privacy nodes compute on the CPU",
    ),
    ("local", {"privacy_unit": "example"}, "sends nothing.*leave it at 'none'"),
    ("local", {"privacy_unit": "user"}, "sends nothing"),
    ("hierarchical", {"privacy_unit": "user"}, "are not clipped.*use preset private"),
    ("hierarchical", {"privacy_unit": "node", "secure_sums": True}, "are not clipped"),
    ("paper", {"privacy_unit": "user"}, "counts by its rows.*unit 'example' or 'node', or preset private"),
    ("network", {"privacy_unit": "example"}, "sum of each node's ratings.*set output_bias to 'random'"),
    ("network", {"privacy_unit": "node", "secure_sums": True}, "sum of each node's ratings"),
    ("paper", {"privacy_unit": "example"}, "a row's place in the batch.*set dropout to 0"),
    ("paper", {"privacy_unit": "node"}, "hides it in the sum alone.*set secure_sums to true"),
    ("network", {"epsilon": 1.0}, "privacy.epsilon has no effect"),
    ("hierarchical", {"delta": 1e-6}, "privacy.delta has no effect"),
    ("local", {"clip_norm": 2.0}, "privacy.clip_norm has no effect"),
    ("local", {"secure_sums": True}, "secure_sums: method 'local' sends nothing"),
    ("paper", {"secure_sums": True, "nodes": 1}, "a sum over one node is its own contribution"),
    ("private", {"privacy_unit": "none"}, "hides whole users: set it to 'user'"),
    ("private", {"privacy_unit": "example"}, "hides whole users: set it to 'user'"),
    ("private", {"secure_sums": False}, "the server would see the node's own: set it to true"),
    ("private", {"partition": "rows"}, "on several nodes.*choose another partition"),
    ("private", {"clip_norm": 2.0}, "releases have norms of their own"),
    ("private", {"rounds": 10}, "makes 3 releases, one a round"),
    ("network", {"accountant": "pld"}, "privacy.accountant has no effect"),
    ("private", {"participation": 0.5}, "federation.participation: noise is measured out for all nodes"),
    ("paper", {"privacy_unit": "node", "secure_sums": True, "participation": 4}, "too little or too much"),
    ("paper", {"privacy_unit": "example", "dropout": 0.0, "participation": 0.9}, "leave it at 1"),
]
ALLOWED = [
    ("network", {"privacy_unit": "example", "output_bias": "random", "epsilon": 1.0, "clip_norm": 2.0}),
    ("paper", {"privacy_unit": "example", "dropout": 0.0}),
    ("paper", {"privacy_unit": "node", "secure_sums": True}),
    ("private", {"epsilon": 0.5, "delta": 1e-6}),
]


@pytest.mark.parametrize(("preset", "changes", "reason"), REFUSED)
def test_each_is_refused_with_its_reason(preset, changes, reason):
    with pytest.raises(SettingsError, match=reason) as refused:
        load_settings(preset, changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("preset", "changes"), ALLOWED)
def test_what_holds_is_allowed_and_reads_back(preset, changes, tmp_path: Path):
    found = load_settings(preset, changes)
    path = tmp_path / "settings.toml"
    path.write_text(found.to_toml(), encoding="utf-8")
    assert load_settings(path).privacy == found.privacy


@pytest.mark.parametrize("command", ["run", "server", "federation"])
def test_run_server_and_federation_refuse_alike_and_read_no_data(command):
    pytest.importorskip("flwr")
    told = CliRunner().invoke(app, [command, "hierarchical", "--set", "privacy_unit=user", "--data", "no such place"])
    assert isinstance(told.exception, SettingsError)
    assert "are not clipped" in str(told.exception)


def test_python_refuses_as_the_command_line_does():
    with pytest.raises(SettingsError, match="are not clipped"):
        hierfed.run("hierarchical", data="no such place", privacy_unit="user")


class Untold(MethodKind):
    """A method that does not say which privacy units it protects."""


@pytest.mark.parametrize("unit", ["example", "node", "user"])
@pytest.mark.parametrize("secure_sums", [False, True])
def test_a_method_that_does_not_say_what_it_protects_is_refused_every_privacy_unit(unit, secure_sums, monkeypatch):
    monkeypatch.setitem(METHODS, "untold", Untold())  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as refused:
        load_settings("network", {"method": "untold", "privacy_unit": unit, "secure_sums": secure_sums})
    assert str(refused.value) == (
        f"privacy.privacy_unit '{unit}': method 'untold' does not protect this unit (it protects: none): leave it at "
        "'none', or choose another method"
    )
    assert load_settings("network", {"method": "untold", "secure_sums": secure_sums}).method == "untold"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unit", ["example", "node", "user"])
def test_a_method_is_allowed_the_units_that_it_says_it_protects_and_no_other(method, unit):
    changes = {"method": method, "privacy_unit": unit, "secure_sums": True, "dropout": 0.0, "output_bias": "random"}
    protects = unit in METHODS[method].units
    try:
        load_settings("private" if method == "private_prior" else "network", changes)
        allowed = True
    except SettingsError:
        allowed = False
    assert allowed == protects


def test_a_method_that_does_not_say_so_computes_on_the_cpu_alone(monkeypatch):
    monkeypatch.setitem(METHODS, "untold", Untold())  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="method 'untold' computes on the CPU"):
        load_settings("network", {"method": "untold", "device": "cuda"})


UNKNOWN = [
    (
        {"method": "averagin"},
        "method: no method 'averagin', did you mean 'averaging'?; there are: averaging, hierarchical, item_biases, "
        "local, private_prior",
    ),
    (
        {"partition": "user"},
        "federation.partition: no partition 'user', did you mean 'users'?; there are: activity, catalogue, genre, "
        "popularity, rows, scale, sizes, time, users",
    ),
    (
        {"personal_partition": "tim"},
        "personalisation.personal_partition: no partition of whole users 'tim', did you mean 'time'?; "
        "there are: activity, genre, popularity, scale, sizes, time, users",
    ),
    (
        {"personal_partition": "rows"},
        "personalisation.personal_partition: no partition of whole users 'rows'; there are: activity, genre, "
        "popularity, scale, sizes, time, users",
    ),
    ({"privacy_unit": "everyone"}, "privacy.privacy_unit: "),
]


@pytest.mark.parametrize(("changes", "message"), UNKNOWN)
def test_an_unknown_name_is_an_error_that_names_the_nearest(changes, message):
    with pytest.raises(SettingsError) as refused:
        load_settings("network", changes)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
