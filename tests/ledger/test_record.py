"""Which simulations keep a ledger."""

from __future__ import annotations

import importlib.util

import pytest

from hierfed.errors import SettingsError
from hierfed.ledger.record import keeps_ledger
from hierfed.privacy.settings import PrivacySettings


def test_a_ledger_is_kept_where_it_can_be_and_asking_for_one_that_cannot_is_one_clear_line(monkeypatch):
    assert keeps_ledger(PrivacySettings(), 256)
    assert not keeps_ledger(PrivacySettings(), 257)
    assert keeps_ledger(PrivacySettings(ledger="keep"), 257)
    assert not keeps_ledger(PrivacySettings(ledger="none"), 1)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not keeps_ledger(PrivacySettings(), 1)
    with pytest.raises(SettingsError, match=r"^privacy\.ledger = 'keep' .* pip install 'hierfed\[privacy\]'$"):
        keeps_ledger(PrivacySettings(ledger="keep"), 1)
