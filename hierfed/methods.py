"""The method that the settings name, ready for its first round."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.content import Content, content_of
from hierfed.data.features import Features, prepare_features
from hierfed.data.federation import Node
from hierfed.engines.in_process import run_rounds
from hierfed.errors import SettingsError
from hierfed.federated.averaging import FederatedAveraging
from hierfed.federated.factors import HierarchicalFactors
from hierfed.federated.features import FeatureFitting, feature_fitting
from hierfed.federated.local import LocalOnly
from hierfed.federated.pooled_averaging import pooled
from hierfed.federated.summation import Summation, sum_openly
from hierfed.models.devices import CPU, DEVICE_STACK, DeviceTrainer
from hierfed.models.factors.beliefs import Strengths
from hierfed.models.loop import train_loop
from hierfed.models.network import ModuleNetwork, Network, Predictor
from hierfed.models.stacked import train_stacked
from hierfed.models.threads import STACK, ThreadedTrainer
from hierfed.models.training import LocalTraining, Trainer
from hierfed.personal.kernel import KernelSettings
from hierfed.personal.node_level import NodePersonalisation
from hierfed.personal.user_level import UserPersonalisation
from hierfed.privacy.private_prior import PrivatePrior
from hierfed.private_randomness import PrivateStreams
from hierfed.randomness import stream_keys
from hierfed.results import PrivacyRecord
from hierfed.settings import Settings

if TYPE_CHECKING:
    from hierfed.privacy.networks import ProtectedNetwork
    from hierfed.privacy.priors import ProtectedPrior

ModuleMaker = Callable[[int], torch.nn.Module]
AnyMethod = FederatedAveraging | HierarchicalFactors | LocalOnly | PrivatePrior


@dataclass(frozen=True)
class Prepared:
    """A method, the names of the item features that it uses, and those of the paper's features that the data lack.

    protected: the method with what it may release, where it is under differential privacy.
    """

    method: AnyMethod
    features: tuple[str, ...]
    missing_features: tuple[str, ...]
    protected: ProtectedNetwork | ProtectedPrior | None = None

    def privacy(self, nodes: Sequence[Node], rounds: int) -> PrivacyRecord | None:
        """What the first rounds of these nodes have released; None without differential privacy."""
        return None if self.protected is None else self.protected.record([len(node.train) for node in nodes], rounds)


def prepare(
    settings: Settings,
    catalogue: Catalogue,
    limits: tuple[float, float],
    features: Features | None = None,
    module: ModuleMaker | None = None,
    streams: PrivateStreams | None = None,
    sharers: int | None = None,
) -> Prepared:
    """The settings' method; limits: the lowest and the highest rating that there is.

    features: of networks, fitted as features_method says; None where it has none. Under differential privacy they are
    fitted on the catalogue, in which each item counts once. module: makes the network from the number of features, for
    averaging only. streams: where noise comes from; without them nodes cannot contribute under differential privacy.
    sharers: how many nodes at least share the noise of a sum; those that do not collude, of the settings' nodes, where
    not given.
    """
    if settings.method == "averaging":
        private = settings.privacy.privacy_unit != "none"
        if private:
            features = prepare_features(catalogue, np.ones(len(catalogue)))
        elif features is None:
            raise ValueError("the features of a network were not fitted")
        plain = make_averaging(settings, features, module)
        if not private:
            return Prepared(plain, features.names, features.missing)
        protected = _protect(plain, settings, streams)
        return Prepared(protected.method, features.names, features.missing, protected)
    if module is not None:
        raise SettingsError(f"method '{settings.method}' trains no network: a module goes with method 'averaging'")
    votes = settings.data.vote_average
    later = settings.split.protocol == "temporal"
    content = content_of(catalogue, vote_average=votes == "use" or (votes == "auto" and not later))
    names = (*content.names, *(("genres",) if content.genres.shape[1] else ()), *(("title",) if content.titled else ()))
    lacking = tuple(name for name in NUMERIC_FEATURES if name not in catalogue.numeric_features)
    if settings.method == "local":
        return Prepared(LocalOnly(content, limits, settings.training.threads), names, lacking)
    if settings.method == "private_prior":
        prior = _protect_prior(content, limits, settings, streams, sharers)
        return Prepared(prior.method, names, lacking, prior)
    return Prepared(make_factors(settings, content, limits), (*names, "raters", "co-ratings"), lacking)


def features_method(settings: Settings, catalogue: Catalogue) -> FeatureFitting | None:
    """What is trained before the model, to fit the features of a network on the nodes' ratings; None for other methods,
    which need none, and under differential privacy, where it would be a release without noise."""
    if settings.method != "averaging" or settings.privacy.privacy_unit != "none":
        return None
    return feature_fitting(catalogue, settings.factors.min_raters)


def fit_features(
    settings: Settings, catalogue: Catalogue, nodes: Sequence[Node], summation: Summation = sum_openly
) -> Features | None:
    """The features of a network, fitted in this process; see features_method."""
    method = features_method(settings, catalogue)
    return None if method is None else method.features(run_rounds(method, nodes, 1, summation=summation).shared)


def make_factors(settings: Settings, content: Content, limits: tuple[float, float]) -> HierarchicalFactors:
    """The hierarchical model of the settings; limits: the lowest and the highest rating that there is."""
    factors, kriging = settings.factors, settings.kriging
    kernel = KernelSettings(
        content=kriging.content_amplitude,
        embedding=kriging.embedding_amplitude,
        year=kriging.year_amplitude,
        title=kriging.title_amplitude,
        noise_share=kriging.noise_share,
    )
    return HierarchicalFactors(
        content=content,
        rank=factors.rank,
        threshold=factors.min_raters,
        embedding_rank=factors.embedding_rank,
        embedding_rounds=factors.embedding_rounds,
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
        device=_device(settings),
    )


def make_averaging(settings: Settings, features: Features, module: ModuleMaker | None = None) -> FederatedAveraging:
    """Federated averaging of the settings' network, or of the given module, with its two levels of personalisation."""
    model, training, personal = settings.model, settings.training, settings.personalisation
    inputs = features.matrix.shape[1]
    predictor: Predictor = Network(inputs, model.hidden, model.dropout)
    if module is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream_keys(settings.seed, 0, 0, "module")[0] >> np.uint64(1)))
            predictor = ModuleNetwork(module(inputs))
    trainer: Trainer = train_stacked if training.trainer == "stacked" else train_loop
    device, stack = _device(settings), STACK
    if device != CPU:
        trainer, stack = DeviceTrainer(trainer, device), DEVICE_STACK
    plain = FederatedAveraging(
        predictor=predictor,
        trainer=ThreadedTrainer(trainer, training.threads, stack),
        features=torch.from_numpy(features.matrix),
        training=LocalTraining(training.local_epochs, training.batch_size, training.learning_rate, training.proximal),
        node_level=NodePersonalisation(
            personal.node_level,
            LocalTraining(
                personal.tuning_epochs,
                personal.tuning_batch_size,
                personal.tuning_learning_rate,
                personal.tuning_proximal,
            ),
            personal.validation,
        ),
        user_level=UserPersonalisation(personal.user_level, personal.bias_shrinkage, personal.head_penalty),
        start_at_mean=model.output_bias == "train_mean",
        seed=settings.seed,
    )
    if module is not None:
        # Its own draws come from torch's generator for a whole stack, so that all nodes must be in one.
        return plain
    return pooled(plain, trainer, training.threads, training.chunk_rows, stack)


def _device(settings: Settings) -> torch.device:
    if settings.training.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("training.device 'cuda': torch finds no GPU that it can use here: set it to 'cpu'")
    return torch.device(settings.training.device)


def _protect_prior(
    content: Content,
    limits: tuple[float, float],
    settings: Settings,
    streams: PrivateStreams | None,
    sharers: int | None,
) -> ProtectedPrior:
    _check_privacy_packages()
    from hierfed.privacy.priors import protect_prior  # noqa: PLC0415 - it is an extra

    return protect_prior(content, limits, settings, streams, sharers)


def _protect(plain: FederatedAveraging, settings: Settings, streams: PrivateStreams | None) -> ProtectedNetwork:
    _check_privacy_packages()
    from hierfed.privacy.networks import protect_network  # noqa: PLC0415 - it is an extra

    return protect_network(plain, settings, streams)


def _check_privacy_packages() -> None:
    if importlib.util.find_spec("dp_accounting") is None or importlib.util.find_spec("cryptography") is None:
        raise SettingsError("privacy.privacy_unit needs packages more: pip install 'hierfed[privacy]'")
