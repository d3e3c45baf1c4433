"""Which addresses only the own machine reaches."""

from __future__ import annotations

import pytest

from hierfed.addresses import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_loopback_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org", ""])
def test_what_others_may_reach_is_not_loopback(host):
    assert not is_loopback(host)
