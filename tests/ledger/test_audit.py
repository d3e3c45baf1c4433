"""`hierfed audit` on runs in one process: sound as they are, and no longer whatever is changed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cryptography")

from hierfed import cli
from hierfed.errors import HierfedError, SettingsError
from hierfed.experiment import run_experiment
from hierfed.federated.participation import Participation
from hierfed.ledger.audit import audit
from hierfed.ledger.entries import FILE, RoundEntry, Seal, read_line
from hierfed.observer import Observer
from hierfed.runs import reports
from hierfed.settings import Settings, load_settings

SMALL: dict[str, dict[str, Any]] = {
    "network": {"rounds": 2, "nodes": 3, "personal_nodes": 3, "hidden": [6, 4], "local_epochs": 1, "tuning_epochs": 1},
    "hierarchical": {
        "rounds": 2,
        "nodes": 3,
        "personal_nodes": 3,
        "protocol": "warm",
        "rank": 2,
        "embedding_rank": 3,
        "embedding_rounds": 1,
        "min_raters": 3,
        "select": False,
        "implicit_rank": 3,
        "implicit_rounds": 2,
        "least_raters": 3,
    },
    "local": {"nodes": 3, "personal_nodes": 3, "protocol": "warm"},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """360 ratings of 30 users on 40 films."""
    place, rng = tmp_path_factory.mktemp("ml"), np.random.default_rng(5)
    ratings, films = ["userId,movieId,rating,timestamp"], ["movieId,title,genres"]
    for user in range(30):
        for film in rng.choice(40, 12, replace=False).tolist():
            ratings.append(f"{user + 1},{film + 1},{rng.integers(1, 11) / 2},{10**9 + user}")
    films += [f"{film + 1},Film {film} ({1950 + film}),{('Action', 'Comedy', 'Drama')[film % 3]}" for film in range(40)]
    (place / "ratings.csv").write_text("\n".join(ratings) + "\n")
    (place / "movies.csv").write_text("\n".join(films) + "\n")
    return str(place)


def settings_of(source: str, preset: str, **changes: Any) -> Settings:
    return load_settings(preset, {**SMALL[preset], "data.source": source, **changes})


@pytest.fixture(scope="module")
def saved(source: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of a preset, made once; tests that change it must copy it."""
    known: dict[str, Path] = {}

    def find(preset: str) -> Path:
        if preset not in known:
            known[preset] = tmp_path_factory.mktemp(preset) / "run"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(reports, "save_figures", lambda result, folder: None)
                patch.setattr(reports, "write_page", lambda result, folder: folder)
                patch.setattr(os, "fsync", lambda descriptor: None)
                reports.save_run(run_experiment(settings_of(source, preset)), known[preset])
        return known[preset]

    return find


@pytest.fixture
def copy(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """The run of a network, to be changed."""
    return Path(shutil.copytree(saved("network"), tmp_path / "copy"))


def reason(folder: Path, *arguments: str) -> str:
    with pytest.raises(HierfedError) as caught:
        audit(folder, *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("preset", "rounds", "files"),
    [
        (
            "network",
            {"rating": 3},
            ["catalogue.parquet", "model.safetensors", "ranking.safetensors", "result.json", "settings.toml"],
        ),
        (
            "hierarchical",
            {"rating": 5, "ease": 2, "implicit": 3},
            ["catalogue.parquet", "model.safetensors", "ranking.safetensors", "result.json", "settings.toml"],
        ),
        ("local", {}, ["catalogue.parquet", "model.safetensors", "result.json", "settings.toml"]),
    ],
)
def test_a_run_leaves_a_ledger_that_holds(
    preset: str, rounds: dict[str, int], files: list[str], saved: Callable[[str], Path]
) -> None:
    folder = saved(preset)
    found = audit(folder)
    assert found.sealed
    assert found.simulated
    assert found.rounds == rounds
    assert sorted(found.compared) == files
    assert found.entries == sum(rounds.values()) + 3
    assert found.epsilon is None
    assert not found.expected
    count = sum(rounds.values())
    assert [(node.name, node.contributed, node.countersigned) for node in found.nodes] == [
        (name, count, count) for name in ("1", "2", "3")
    ]
    digest = json.loads((folder / "result.json").read_text())["digest"]
    assert found.models.get("rating", digest) == digest


def test_where_some_nodes_take_part_the_entries_name_those(source: str) -> None:
    outcome = run_experiment(settings_of(source, "network", participation=2, rounds=6))
    assert outcome.ledger is not None
    written = outcome.ledger.sealed(outcome.models, {})
    entries = [read_line(line).entry for line in written.splitlines()]
    rounds = [entry for entry in entries if isinstance(entry, RoundEntry)]
    draws = [Participation(2, outcome.settings.seed).places(entry.round, 3).tolist() for entry in rounds]
    assert [entry.contributors for entry in rounds] == [[str(place + 1) for place in places] for places in draws]
    assert len({tuple(places) for places in draws}) > 1
    assert all(len(entry.countersignatures) == 3 for entry in rounds)


def test_the_entries_are_of_the_run_s_own_sums_and_models(source: str, saved: Callable[[str], Path]) -> None:
    """The same run again, whose sums and models are looked at as they come."""
    seen: list[tuple[int, str, str]] = []
    settings = settings_of(source, "network", ledger="none")
    from hierfed.federated.contract import digest_of

    class Noting(Observer):
        def summed(self, stage: str, total: Any, shared: Any, numbers: Any) -> None:
            seen.append((shared.round, digest_of(total.arrays), shared.digest()))

    run_experiment(settings, observers=[Noting()])
    entries = [read_line(line).entry for line in (saved("network") / FILE).read_bytes().splitlines()]
    told = [(entry.round, entry.sum, entry.model) for entry in entries if isinstance(entry, RoundEntry)]
    assert told == seen
    assert len(told) == 3


def test_a_ledger_changes_no_number(source: str, saved: Callable[[str], Path]) -> None:
    without = run_experiment(settings_of(source, "network", ledger="none"))
    assert without.ledger is None
    result = json.loads((saved("network") / "result.json").read_text())
    assert result["digest"] == without.result.digest
    assert [each["global_rmse"] for each in result["rounds"]] == [each.global_rmse for each in without.result.rounds]


def test_epsilon_so_far_is_in_every_round(source: str) -> None:
    pytest.importorskip("dp_accounting")
    private = {"privacy_unit": "example", "epsilon": 4.0, "output_bias": "random", "join": "none", "secure_sums": False}
    outcome = run_experiment(settings_of(source, "network", **private))
    assert outcome.ledger is not None
    written = outcome.ledger.sealed(outcome.models, {})
    entries = [read_line(line).entry for line in written.splitlines()]
    spent = [entry.epsilon for entry in entries if isinstance(entry, RoundEntry)]
    assert outcome.result.privacy is not None
    assert spent[-1] == outcome.result.privacy.epsilon_spent
    assert 0 < spent[-2] < spent[-1] <= 4.0 + 1e-6


def test_sealing_twice_gives_the_same_bytes(source: str) -> None:
    outcome = run_experiment(settings_of(source, "local"))
    assert outcome.ledger is not None
    first, second = (outcome.ledger.sealed(outcome.models, {"a": "0" * 64}) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.safetensors", "line 5: the seal names another model.safetensors than there is"),
        ("result.json", "line 5: the seal names another result.json than there is"),
    ],
)
def test_a_file_in_which_a_byte_is_changed_is_found(name: str, words: str, copy: Path) -> None:
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1
    (copy / name).write_bytes(content)
    assert reason(copy) == f"{FILE}, {words}"


def test_settings_that_were_changed_are_found(copy: Path) -> None:
    text = (copy / "settings.toml").read_text()
    (copy / "settings.toml").write_text(text.replace("learning_rate = 0.003", "learning_rate = 0.004"))
    assert reason(copy) == f"{FILE}, line 1: the opening names other settings than settings.toml holds"
    (copy / "settings.toml").write_text(text + "\n")
    assert reason(copy) == f"{FILE}, line 5: the seal names another settings.toml than there is"
    (copy / "settings.toml").unlink()
    assert reason(copy) == f"{FILE}, line 5: the seal names settings.toml, which is missing"


def test_another_catalogue_is_found(saved: Callable[[str], Path], tmp_path: Path) -> None:
    import polars as pl

    folder = Path(shutil.copytree(saved("hierarchical"), tmp_path / "copy"))
    items = pl.read_parquet(folder / "catalogue.parquet")
    items.with_columns(title=pl.lit("The same")).write_parquet(folder / "catalogue.parquet")
    assert reason(folder) == f"{FILE}, line 1: the opening names another catalogue than catalogue.parquet holds"


def test_a_missing_end_is_found_where_the_run_is_over_and_told_where_it_is_not(copy: Path) -> None:
    lines = (copy / FILE).read_bytes().splitlines(keepends=True)
    (copy / FILE).write_bytes(b"".join(lines[:-1]))
    assert reason(copy) == f"{FILE}, line 6: the end is missing, and the run is over, as result.json says"
    (copy / FILE).write_bytes(b"".join(lines[:4]))
    (copy / "result.json").unlink()
    found = audit(copy)
    assert not found.sealed
    assert found.rounds == {"rating": 3}
    (copy / FILE).write_bytes(b"")
    assert reason(copy) == f"{FILE}, line 1: the opening is missing"
    (copy / FILE).unlink()
    assert reason(copy).startswith(f"{FILE}: no ledger can be read there: No such file or directory")


def test_a_ledger_written_anew_is_found_by_the_key_that_was_expected(
    copy: Path, source: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    expected = audit(copy).server
    outcome = run_experiment(settings_of(source, "network"))
    assert outcome.ledger is not None
    sealed = next(
        entry
        for entry in (read_line(line).entry for line in (copy / FILE).read_bytes().splitlines())
        if isinstance(entry, Seal)
    )
    (copy / FILE).write_bytes(outcome.ledger.sealed(outcome.models, sealed.files))
    other = audit(copy).server
    assert reason(copy, expected) == f"{FILE}, line 1: the server's key is {other}, and {expected} was expected"
    assert audit(copy, other).expected
    public = tmp_path / "server.pub"
    public.write_text(read_line((copy / FILE).read_bytes().splitlines()[0]).entry.server + "\n")  # type: ignore[union-attr]
    assert audit(copy, str(public)).expected
    public.write_text("ssh-rsa AAAA\n")
    for wrong in (str(public), str(tmp_path / "nowhere")):
        with pytest.raises(SettingsError, match="neither a fingerprint"):
            audit(copy, wrong)


def test_the_command_prints_words_or_json_and_its_code_says_whether_all_is_sound(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hierfed", "audit", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    code, out, err = call(str(copy))
    assert (code, err) == (0, "")
    for words in ("6 entries, each link of which holds", "A simulation", "--server-key", "no differential privacy"):
        assert words in " ".join(out.split())
    code, out, err = call(str(copy), "--json", "--server-key", audit(copy).server)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(audit(copy, audit(copy).server).model_dump_json())
    lines = (copy / FILE).read_bytes().splitlines(keepends=True)
    (copy / FILE).write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    code, out, err = call(str(copy))
    assert (code, out) == (1, "")
    assert err.startswith(
        f"error: {copy / FILE}, line 3, after round 0 of 'rating': the entry says that it is number 3"
    )
    assert err.count("\n") == 1
    (copy / "result.json").unlink()
    (copy / FILE).write_bytes(b"".join(lines[:3]))
    code, out, err = call(str(copy))
    assert code == 1
    assert "3 entries, each link of which holds" in " ".join(out.split())
    assert err.startswith(f"error: {copy}: valid up to entry 3, not sealed")
