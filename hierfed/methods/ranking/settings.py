"""The settings of the ranking models."""

from __future__ import annotations

from hierfed.section import Count, Positive, Section


class RankingSettings(Section):
    """Recommendation lists besides those of the hierarchical model; see methods.ranking.

    rank_items: true trains the ranking models.
    least_raters: items with fewer are never counted together.
    ease_penalty: in raters.
    """

    rank_items: bool = True
    least_raters: Count = 5
    ease_penalty: Positive = 250.0
    implicit_rank: Count = 32
    implicit_rounds: Count = 8
