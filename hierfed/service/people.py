"""Who is meant by a request, and the ratings of those whom the run does not know."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, HTTPException, Query, Request

from hierfed.service.current import Current
from hierfed.service.guard import Asking
from hierfed.service.sessions import MOST_RATINGS, Sessions

LONGEST_ID = 200
Id = Annotated[str, Query(min_length=1, max_length=LONGEST_ID)]
MaybeId = Annotated[str | None, Query(min_length=1, max_length=LONGEST_ID)]


def asking(request: Request) -> Asking:
    """The one who asks; see Guard."""
    found: Asking = request.state.asking
    return found


Who = Annotated[Asking, Depends(asking)]


def person(who: Asking, sessions: Sessions, user: str | None, session: str | None) -> dict[str, Any]:
    """The user or the session that is asked for, as the library names it; an HTTPException where it may not be."""
    if (user is None) == (session is None):
        raise HTTPException(422, "name a user or a session: one of the two")
    if session is not None:
        ratings = sessions.ratings(session, who.user)
        if ratings is None:
            raise HTTPException(404, "no such session: it was forgotten, or is another's")
        return {"ratings": ratings}
    if user is None or not who.allows(user):
        raise HTTPException(403, "this token is not that user's")
    return {"user": user}


def add_sessions(app: FastAPI, current: Current, sessions: Sessions) -> None:
    """Add what keeps and forgets ratings."""

    @app.post("/ratings", status_code=201)
    def rate_items(
        who: Who,
        ratings: Annotated[dict[str, float], Body(min_length=1, max_length=MOST_RATINGS)],
        session: Annotated[str | None, Body(max_length=LONGEST_ID)] = None,
    ) -> dict[str, Any]:
        """Ratings of a session: a new one, or more for one that there is. They stay in memory, for an hour."""
        current.answering.model.check(ratings)
        kept = sessions.put(ratings, who.user, session)
        if kept is None:
            raise HTTPException(404, f"no such session, or it would hold more than {MOST_RATINGS} ratings")
        return {"session": kept[0], "ratings": kept[1]}

    @app.delete("/ratings", status_code=204)
    def forget(who: Who, session: Id) -> None:
        """Forget a session and its ratings."""
        if not sessions.forget(session, who.user):
            raise HTTPException(404, "no such session")
