"""Hierarchical Bayesian factors, learned from sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hierfed.methods.hierarchical import messages
from hierfed.methods.hierarchical.words import WORDS
from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.results import MethodWords

if TYPE_CHECKING:
    from hierfed.federated.stage import Stage
    from hierfed.settings import Settings


class Hierarchical(MethodKind):
    """Declares the hierarchical model."""

    sums = messages.SUMS
    models = messages.MODELS
    devices = frozenset({"cpu", "cuda"})

    def opening_rounds(self, settings: Settings) -> int:
        """Counts, subspace iterations, and one round of implicit factorisation; see MethodKind."""
        factors = settings.factors
        return 1 + (factors.embedding_rounds + 1 if factors.embedding_rank else 0)

    def needs_times(self, settings: Settings) -> bool:
        """See MethodKind."""
        kriging = settings.kriging
        parts = kriging.sitting_amplitude, kriging.day_amplitude, kriging.drift_amplitude, kriging.item_sitting_share
        return kriging.krige and any(parts)

    def later_stages(self, case: Case) -> list[Stage]:
        """See MethodKind."""
        from hierfed.methods.content import public_content  # noqa: PLC0415 - torch takes seconds to load
        from hierfed.methods.ranking.stages import ranking_stages  # noqa: PLC0415

        settings, catalogue = case.settings, case.catalogue
        if not settings.ranking.rank_items:
            return []
        return ranking_stages(settings, lambda: public_content(settings, catalogue).content)

    def refusal(self, settings: Settings) -> str:
        """See MethodKind."""
        if settings.privacy.privacy_unit == "none":
            return ""
        return (
            f"privacy.privacy_unit '{settings.privacy.privacy_unit}': the sums of this method are not clipped, so no "
            "noise hides anyone in them: use preset private"
        )

    def former_settings(self, settings: Settings, described: Mapping[str, Any]) -> Settings:
        """See MethodKind."""
        kernel, strengths = described["kernel"], described["strengths"]
        factors = {
            "rank": described["rank"],
            "min_raters": described["threshold"],
            "embedding_rank": described["embedding_rank"],
            "embedding_rounds": described["embedding_rounds"],
            "between_nodes": described["between_nodes"],
            "noise_strength": strengths["noise"],
            "covariate_strength": strengths["covariates"],
            "content_strength": strengths["content"],
            "moment_strength": strengths["moments"],
        }
        kriging: dict[str, Any] = {"krige": kernel is not None}
        if kernel is not None:
            kriging |= {f"{name}_amplitude": kernel[name] for name in ("content", "embedding", "year", "title")}
            kriging["noise_share"] = kernel["noise_share"]
        votes = "use" if described["vote_average"] else "leave_out"
        return settings.model_copy(
            update={
                "seed": described["seed"],
                "data": settings.data.model_copy(update={"vote_average": votes}),
                "factors": settings.factors.model_copy(update=factors),
                "kriging": settings.kriging.model_copy(update=kriging),
                "selection": settings.selection.model_copy(update={"deviation_scale": described["deviation_scale"]}),
            }
        )

    def words(self) -> MethodWords:
        """See MethodKind."""
        return WORDS

    def prepare(self, case: Case) -> Prepared:
        """See MethodKind."""
        from hierfed.methods.hierarchical.build import build  # noqa: PLC0415 - torch takes seconds to load

        return build(case)
