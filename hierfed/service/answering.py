"""The routes that answer: lists, predictions, reasons, items alike, and the search for titles."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import TypeAdapter

from hierfed.errors import HierfedError
from hierfed.runs.private_files import files_by_user
from hierfed.service.current import Answering, Current
from hierfed.service.people import Id, MaybeId, Who, person
from hierfed.service.sessions import Sessions
from hierfed.serving.answers import Answer, Reason
from hierfed.serving.recommender import Alike

LOG = logging.getLogger(__name__)
LONGEST_LIST = 1000
# Of a user's kept list, which answers all shorter ones.
KEPT_LIST = 20
Count = Annotated[int, Query(ge=1, le=LONGEST_LIST)]
Ids = Annotated[tuple[str, ...], Query(max_length=200)]
Items = Annotated[list[str], Query(min_length=1, max_length=200)]
Year = Annotated[int | None, Query(ge=0, le=9999)]
ANSWER, ROWS, REASONS, ALIKE = (
    TypeAdapter[Any](kind) for kind in (Answer, list[dict[str, Any]], tuple[Reason, ...], list[Alike])
)


def kept_list(here: Answering, user: str, k: int) -> Answer:
    """The list of a user of the run, without reasons and conditions. k: its length, at most KEPT_LIST."""
    found: Answer = here.kept(("list", user), lambda: here.model.recommend(user, k=KEPT_LIST, why=False))
    return replace(found, items=found.items[:k])


def prepare_lists(here: Answering, users: int) -> None:
    """Make the lists of so many users: those with the largest files, since they take longest.

    Users whose files cannot be read are told and left out, since others can be served.
    """
    if not users:
        return
    began, ready = time.perf_counter(), 0
    try:
        paths = files_by_user(here.model.served.folder)
    except HierfedError as error:
        LOG.warning("no lists are made before they are asked for: %s", error)
        return

    def size(name: str) -> int:
        return sum(path.stat().st_size for path in paths[name])

    for name in heapq.nlargest(users, paths, key=size):
        try:
            kept_list(here, name, 1)
            ready += 1
        except HierfedError as error:
            LOG.warning("a user is left out: %s", error)
    LOG.info("lists of %d users of %d are ready, after %.1f s", ready, len(paths), time.perf_counter() - began)


def add_answers(app: FastAPI, current: Current, sessions: Sessions) -> None:
    """Add the routes. Answers to users of the run are kept; those to sessions are not."""

    def answer(key: tuple[Any, ...], keep: bool, kind: TypeAdapter[Any], make: Callable[[Answering], Any]) -> Response:
        here = current.answering

        def write() -> bytes:
            return kind.dump_json(make(here))

        return Response(here.kept(key, write) if keep else write(), media_type="application/json")

    @app.get("/recommendations", response_model=Answer)
    def recommendations(
        who: Who,
        user: MaybeId = None,
        session: MaybeId = None,
        k: Count = 10,
        exclude: Ids = (),
        genre: Ids = (),
        first_year: Year = None,
        last_year: Year = None,
        include_seen: bool = False,
        order: Annotated[str, Query(max_length=40)] = "",
        why: bool = False,
    ) -> Response:
        """The best items for a user of the run, or for a session; with `why` each item has its reasons."""
        someone = person(who, sessions, user, session)
        years = None if first_year is None and last_year is None else (first_year or 0, last_year or 9999)
        how = (k, exclude, genre, years, include_seen, order, why)
        if "user" in someone and k <= KEPT_LIST and not any(how[1:]):
            content = ANSWER.dump_json(kept_list(current.answering, someone["user"], k))
            return Response(content, media_type="application/json")

        def make(here: Answering) -> Answer:
            return here.model.recommend(
                someone.get("user"),
                ratings=someone.get("ratings"),
                k=k,
                exclude=exclude,
                genres=genre,
                years=years,
                include_seen=include_seen,
                order=order,
                why=why,
            )

        return answer(("list", user, *how), "user" in someone, ANSWER, make)

    @app.get("/predict", response_model=list[dict[str, Any]])
    def predict(who: Who, item: Items, user: MaybeId = None, session: MaybeId = None) -> Response:
        """Expected ratings with intervals, item by item."""
        someone = person(who, sessions, user, session)
        ratings = someone.get("ratings")

        def make(here: Answering) -> list[dict[str, Any]]:
            if ratings is not None:
                return here.model.predict(ratings=ratings, items=item).to_dicts()
            return here.model.predict({"user": [user] * len(item), "item": item}).drop("user").to_dicts()

        return answer(("predict", user, *item), "user" in someone, ROWS, make)

    @app.get("/explain", response_model=list[Reason])
    def explain(who: Who, item: Id, user: MaybeId = None, session: MaybeId = None) -> Response:
        """The own ratings that moved an item's expected rating most."""
        someone = person(who, sessions, user, session)

        def make(here: Answering) -> tuple[Reason, ...]:
            return here.model.explain(user if "user" in someone else None, item, ratings=someone.get("ratings"))

        return answer(("explain", user, item), "user" in someone, REASONS, make)

    @app.get("/similar", response_model=list[Alike])
    def similar(item: Id, k: Count = 10) -> Response:
        """The items that users judge most like this one."""
        return answer(("similar", item, k), True, ALIKE, lambda here: here.model.similar(item, k))

    @app.get("/items")
    def items(search: Annotated[str, Query(min_length=1, max_length=100)], k: Count = 20) -> list[dict[str, Any]]:
        """The items whose titles hold these words."""
        return current.answering.model.find(search, k)
