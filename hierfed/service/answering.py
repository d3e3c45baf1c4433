"""The routes that answer: lists, predictions, reasons, items alike, and the search for titles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query

from hierfed.service.current import Answering, Current
from hierfed.service.people import Id, MaybeId, Who, person
from hierfed.service.sessions import Sessions
from hierfed.serving.answers import Answer, Reason
from hierfed.serving.recommender import Alike

LONGEST_LIST = 1000
Count = Annotated[int, Query(ge=1, le=LONGEST_LIST)]
Ids = Annotated[tuple[str, ...], Query(max_length=200)]
Items = Annotated[list[str], Query(min_length=1, max_length=200)]
Year = Annotated[int | None, Query(ge=0, le=9999)]


def add_answers(app: FastAPI, current: Current, sessions: Sessions) -> None:
    """Add the routes. Answers to users of the run are kept; those to sessions are not."""

    def answer(key: tuple[Any, ...], someone: dict[str, Any], make: Callable[[Answering], Any]) -> Any:
        here = current.answering
        return here.kept(key, lambda: make(here)) if "user" in someone else make(here)

    @app.get("/recommendations")
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
    ) -> Answer:
        """The best items for a user of the run, or for a session; with `why` each item has its reasons."""
        someone = person(who, sessions, user, session)
        years = None if first_year is None and last_year is None else (first_year or 0, last_year or 9999)
        how = (k, exclude, genre, years, include_seen, order, why)

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

        found: Answer = answer(("list", user, *how), someone, make)
        return found

    @app.get("/predict")
    def predict(who: Who, item: Items, user: MaybeId = None, session: MaybeId = None) -> list[dict[str, Any]]:
        """Expected ratings with intervals, item by item."""
        someone = person(who, sessions, user, session)
        ratings = someone.get("ratings")

        def make(here: Answering) -> list[dict[str, Any]]:
            if ratings is not None:
                return here.model.predict(ratings=ratings, items=item).to_dicts()
            return here.model.predict({"user": [user] * len(item), "item": item}).drop("user").to_dicts()

        found: list[dict[str, Any]] = answer(("predict", user, *item), someone, make)
        return found

    @app.get("/explain")
    def explain(who: Who, item: Id, user: MaybeId = None, session: MaybeId = None) -> list[Reason]:
        """The own ratings that moved an item's expected rating most."""
        someone = person(who, sessions, user, session)

        def make(here: Answering) -> tuple[Reason, ...]:
            return here.model.explain(user if "user" in someone else None, item, ratings=someone.get("ratings"))

        return list(answer(("explain", user, item), someone, make))

    @app.get("/similar")
    def similar(item: Id, k: Count = 10) -> list[Alike]:
        """The items that users judge most like this one."""
        here = current.answering
        found: list[Alike] = here.kept(("similar", item, k), lambda: here.model.similar(item, k))
        return found

    @app.get("/items")
    def items(search: Annotated[str, Query(min_length=1, max_length=100)], k: Count = 20) -> list[dict[str, Any]]:
        """The items whose titles hold these words."""
        return current.answering.model.find(search, k)
