"""What can be called on the port of Flower's server."""

from __future__ import annotations

from typing import Any


def calls() -> list[tuple[str, str]]:
    """Every route of Flower's own application, each with its methods: POST and a path, and so on."""
    from flwr.superlink.main import create_app
    from starlette.routing import Route

    app = create_app()
    found: list[tuple[str, str]] = []

    def walk(each: Any) -> None:
        for route in each:
            if hasattr(route, "routes") and route.routes:
                walk(route.routes)
            elif hasattr(route, "original_router"):
                walk(route.original_router.routes)
            elif isinstance(route, Route):
                found.extend((method, route.path) for method in sorted(route.methods or ()))

    walk(app.routes)
    return found


def routes() -> list[str]:
    """The paths alone."""
    return [path for _, path in calls()]
