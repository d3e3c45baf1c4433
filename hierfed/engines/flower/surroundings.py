"""Flower's own surroundings: a home folder, no telemetry, no update checks, no proxy to itself, a log in a file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from hierfed.errors import storing

LOG = "flower.log"
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def surroundings(home: Path) -> dict[str, str]:
    """The environment variables for Flower's processes; home: a folder for its files."""
    return {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _without_proxy()),
    }


def _without_proxy() -> str:
    """The hosts that no proxy is asked for: those that the user names, and this machine itself."""
    named = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = [host.strip() for names in named for host in names.split(",")]
    return ",".join(dict.fromkeys([*filter(None, hosts), *_THIS_MACHINE]))


def settle(home: Path) -> None:
    """Prepare this process for Flower before it is first imported; its log goes to `home/flower.log`.

    Raises StorageError where the folder cannot be made.
    """
    with storing(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.update(surroundings(home))
    from flwr.supercore import logger  # noqa: PLC0415 - only once the variables are set

    kept = logging.FileHandler(home / LOG, encoding="utf-8", delay=True)
    kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.FLOWER_LOGGER.handlers = [kept]
    # httpx logs every request, several each second.
    logging.getLogger("httpx").setLevel(logging.WARNING)
