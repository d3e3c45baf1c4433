"""Commands called in the tests' own process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hierfed import cli


@dataclass(frozen=True)
class Finished:
    """How a command ended: its exit code, what it printed, and its error messages as lines."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


Hierfed = Callable[..., Finished]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hierfed:
    """Runs `hierfed` with these words, to its end."""

    def call(*words: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["hierfed", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Finished(int(ended.value.code or 0), printed.out, printed.err)

    return call
