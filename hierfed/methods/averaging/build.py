"""Federated averaging as the settings ask for it."""

from __future__ import annotations

import numpy as np
import torch

from hierfed.data.features import Features, prepare_features
from hierfed.errors import HierfedError, SettingsError
from hierfed.federated.stage import Stage
from hierfed.federated.tables import SERVER_OPTIMIZERS
from hierfed.methods.averaging.averaging import FederatedAveraging
from hierfed.methods.averaging.corrections import corrected
from hierfed.methods.averaging.deep_averaging import deepened
from hierfed.methods.averaging.devices import DEVICE_STACK, DeviceTrainer
from hierfed.methods.averaging.experts import with_experts
from hierfed.methods.averaging.feature_fitting import FeatureFitting, feature_fitting
from hierfed.methods.averaging.network import ModuleNetwork, Network, Predictor
from hierfed.methods.averaging.node_level import NodePersonalisation
from hierfed.methods.averaging.own_models import with_own_models
from hierfed.methods.averaging.parts import partial_averaging
from hierfed.methods.averaging.pooled_averaging import pooled
from hierfed.methods.averaging.stacked import train_stacked
from hierfed.methods.averaging.threads import STACK, ThreadedTrainer
from hierfed.methods.averaging.training import LocalTraining, Trainer
from hierfed.methods.averaging.user_kriging import UserKriging
from hierfed.methods.averaging.user_level import UserPersonalisation
from hierfed.methods.content import public_content
from hierfed.methods.kind import Case, ModuleMaker, Prepared
from hierfed.methods.messages import FEATURES
from hierfed.methods.packages import check_privacy_packages
from hierfed.models.devices import CPU, device_of
from hierfed.models.scale import RatingScale, scale_of
from hierfed.randomness import stream_keys
from hierfed.settings import Settings


def build(case: Case) -> Prepared:
    """The settings' network.

    Under differential privacy its features are fitted on the catalogue, with one row an item.
    """
    settings, catalogue = case.settings, case.catalogue
    private = settings.privacy.privacy_unit != "none"
    features = prepare_features(catalogue, np.ones(len(catalogue))) if private else _fitted(case)
    kriging = None
    if settings.personalisation.user_level == "kriging":
        content = public_content(settings, catalogue).content
        kriging = UserKriging.of(content, case.limits, settings.training.threads)
    plain = make_averaging(settings, features, scale_of(case.limits), case.module, kriging)
    if not private:
        return Prepared(plain, features.names, features.missing)
    check_privacy_packages()
    from hierfed.methods.averaging.protection import protect_network  # noqa: PLC0415 - it is an extra

    protected = protect_network(plain, settings, case.streams)
    return Prepared(protected.method, features.names, features.missing, protected)


def features_stage(case: Case) -> Stage:
    """The training stage that fits the features on the nodes' ratings."""
    return Stage(FEATURES, 1, lambda models: _fitting(case), -1)


def _fitting(case: Case) -> FeatureFitting:
    return feature_fitting(case.catalogue, case.settings.factors.min_raters, case.limits)


def _fitted(case: Case) -> Features:
    """The features of the finished stage FEATURES.

    Raises HierfedError before the stage, and for a model that is none.
    """
    if FEATURES not in case.models:
        raise HierfedError("this training has not come to its network yet: its features are not fitted")
    try:
        return _fitting(case).features(case.models[FEATURES])
    except (KeyError, ValueError, IndexError) as error:
        raise HierfedError(f"the features of this training are not those of its catalogue: {error}") from error


def _own_network(make: ModuleMaker, inputs: int) -> ModuleNetwork:
    """The user's own module. Raises SettingsError in one line for one that cannot be trained."""
    if isinstance(make, torch.nn.Module) or not callable(make):
        raise SettingsError(
            "module: expected a function from the number of features to a torch.nn.Module, and found "
            f"{type(make).__name__}: write module=lambda features: ..."
        )
    made = make(inputs)
    if not isinstance(made, torch.nn.Module):
        raise SettingsError(f"module: the function gives {type(made).__name__}, expected a torch.nn.Module")
    try:
        network = ModuleNetwork(made)
        with torch.no_grad():
            network.predict(network.initial(0), torch.zeros(2, inputs))
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SettingsError(f"module: cannot be trained on {inputs} features: {reason}") from error
    return network


def make_averaging(
    settings: Settings,
    features: Features,
    scale: RatingScale,
    module: ModuleMaker | None = None,
    kriging: UserKriging | None = None,
) -> FederatedAveraging:
    """Federated averaging of the settings' network, or of the given module, with its two levels of personalisation.

    scale: the scale that networks learn on; a module's output is on it too. kriging: see UserPersonalisation.
    """
    model, training, personal = settings.model, settings.training, settings.personalisation
    inputs = features.matrix.shape[1]
    predictor: Predictor = Network(inputs, model.hidden, model.dropout)
    if module is not None and (model.deep or model.experts > 1):
        raise SettingsError("module: it takes the place of the usual network alone: leave model.experts and depth out")
    if module is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream_keys(settings.seed, 0, 0, "module")[0] >> np.uint64(1)))
            predictor = _own_network(module, inputs)
    device, stack = device_of(settings.training.device), STACK
    trainer: Trainer = train_stacked
    if device != CPU:
        trainer, stack = DeviceTrainer(trainer, device), DEVICE_STACK
    plain = FederatedAveraging(
        predictor=predictor,
        trainer=ThreadedTrainer(trainer, training.threads, stack),
        features=torch.from_numpy(features.matrix),
        training=LocalTraining(
            training.local_epochs,
            training.batch_size,
            training.learning_rate,
            training.proximal,
            scale=scale,
            optimizer=training.optimizer,
        ),
        node_level=NodePersonalisation(
            personal.node_level,
            LocalTraining(
                personal.tuning_epochs,
                personal.tuning_batch_size,
                personal.tuning_learning_rate,
                personal.tuning_proximal,
                scale=scale,
            ),
            personal.validation,
        ),
        user_level=UserPersonalisation(personal.user_level, personal.bias_shrinkage, personal.head_penalty, kriging),
        start_at_mean=model.output_bias == "train_mean",
        seed=settings.seed,
        optimizer=SERVER_OPTIMIZERS[settings.federation.server_optimizer](settings.federation),
    )
    formed = _of_other_form(plain, settings)
    if formed is not None:
        return formed
    if module is not None:
        # The module draws from torch's own generator, once for a whole stack, so all nodes must be in one stack.
        return plain
    return pooled(plain, trainer, training.threads, training.chunk_rows, stack)


def _of_other_form(plain: FederatedAveraging, settings: Settings) -> FederatedAveraging | None:
    """The same training with experts, vectors, own models, kept parts or corrections; None where none are asked for."""
    model, training, federation = settings.model, settings.training, settings.federation
    if model.experts > 1:
        return with_experts(plain, settings)
    if model.deep:
        return deepened(plain, settings)
    if training.own_model != "none":
        return with_own_models(plain, training)
    if training.kept != "none" or training.turns != ("all",):
        return partial_averaging(plain, training.kept, training.turns)
    if training.correction != "none":
        return corrected(plain, training.correction, federation.participation, federation.nodes)
    return None
