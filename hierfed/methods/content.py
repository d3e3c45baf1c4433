"""Public features of the items, as the settings ask for them."""

from __future__ import annotations

from dataclasses import dataclass

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.content import Content, content_of
from hierfed.settings import Settings


@dataclass(frozen=True)
class PublicContent:
    """The public features of the items, their names, and the paper's features that the data lack."""

    content: Content
    names: tuple[str, ...]
    missing: tuple[str, ...]


def public_content(settings: Settings, catalogue: Catalogue) -> PublicContent:
    """The catalogue's features. Vote averages are left out if they may be newer than the train rows."""
    votes, later = settings.data.vote_average, settings.split.newest
    content = content_of(catalogue, vote_average=votes == "use" or (votes == "auto" and not later))
    genres = ("genres",) if content.genres.shape[1] else ()
    titles = ("title",) if content.titled else ()
    missing = tuple(name for name in NUMERIC_FEATURES if name not in catalogue.numeric_features)
    return PublicContent(content, (*content.names, *genres, *titles), missing)
