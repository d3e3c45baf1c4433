"""Addresses that a process may listen at."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """True for a name or an address that only this machine reaches."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
