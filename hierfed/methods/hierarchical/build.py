"""The hierarchical model as the settings ask for it."""

from __future__ import annotations

from hierfed.data.content import Content
from hierfed.methods.content import public_content
from hierfed.methods.hierarchical.beliefs import Strengths
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.models_of_nodes import KEPT_NODES
from hierfed.methods.kind import Case, Prepared
from hierfed.models.devices import device_of
from hierfed.models.kernel import KernelSettings
from hierfed.models.time_kernel import TimeKernel
from hierfed.settings import Settings


def build(case: Case) -> Prepared:
    """The settings' hierarchical model on the catalogue's features."""
    public = public_content(case.settings, case.catalogue)
    method = make_factors(case.settings, public.content, case.limits)
    return Prepared(method, (*public.names, "raters", "co-ratings"), public.missing)


def make_factors(settings: Settings, content: Content, limits: tuple[float, float]) -> HierarchicalFactors:
    """The hierarchical model of the settings.

    limits: the lowest and the highest possible rating.
    """
    factors, kriging = settings.factors, settings.kriging
    kernel = KernelSettings(
        content=kriging.content_amplitude,
        embedding=kriging.embedding_amplitude,
        year=kriging.year_amplitude,
        title=kriging.title_amplitude,
        noise_share=kriging.noise_share,
        time=TimeKernel(
            sitting=kriging.sitting_amplitude,
            day=kriging.day_amplitude,
            drift=kriging.drift_amplitude,
            items=kriging.item_sitting_share,
        ),
    )
    return HierarchicalFactors(
        content=content,
        rank=factors.rank,
        threshold=factors.min_raters,
        embedding_rank=factors.embedding_rank,
        embedding_rounds=factors.embedding_rounds,
        implicit_scale=factors.implicit_scale,
        strengths=Strengths(
            noise=factors.noise_strength,
            covariates=factors.covariate_strength,
            content=factors.content_strength,
            moments=factors.moment_strength,
        ),
        between_nodes=factors.between_nodes,
        kernel=kernel if kriging.krige else None,
        limits=limits,
        seed=settings.seed,
        threads=settings.training.threads,
        chunk_rows=settings.training.chunk_rows,
        everyone=settings.federation.participation == 1,
        momentum=factors.momentum,
        rare_at_node=factors.rare_at_node and settings.federation.nodes <= KEPT_NODES,
        device=device_of(settings.training.device),
        deviation_scale=settings.selection.deviation_scale,
        group_scales=settings.selection.group_scales,
    )
