"""A prior for users' own models, learned under user-level differential privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.methods.private_prior import messages
from hierfed.methods.private_prior.words import WORDS
from hierfed.results import MethodWords

if TYPE_CHECKING:
    from hierfed.settings import Settings

ROUNDS = 3


class PrivatePriorKind(MethodKind):
    """Declares the private prior. Its unit of privacy is the whole user, and no other."""

    sums = messages.SUMS
    models = messages.MODELS
    units = deployed_units = frozenset({"user"})

    def refusal(self, settings: Settings) -> str:
        """See MethodKind."""
        from hierfed.data.partitions import PARTITIONERS  # noqa: PLC0415 - NumPy

        privacy, partition = settings.privacy, settings.federation.partition
        if privacy.privacy_unit != "user":
            return "privacy.privacy_unit: this method hides whole users: set it to 'user'"
        if not privacy.secure_sums:
            return (
                "privacy.secure_sums: each node adds a share of the noise, which hides a user in the sum alone, and "
                "the server would see the node's own: set it to true"
            )
        if not PARTITIONERS[partition].keeps_users:
            return (
                f"federation.partition '{partition}' puts a user's ratings on several nodes, each of which would spend "
                "the user's budget: choose another partition"
            )
        if privacy.clip_norm != type(privacy)().clip_norm:
            return "privacy.clip_norm has no effect with this method, whose releases have norms of their own"
        if settings.training.rounds != ROUNDS:
            return f"training.rounds: this method makes {ROUNDS} releases, one a round: leave it at that"
        return ""

    def words(self) -> MethodWords:
        """See MethodKind."""
        return WORDS

    def prepare(self, case: Case) -> Prepared:
        """See MethodKind."""
        from hierfed.methods.content import public_content  # noqa: PLC0415 - torch takes seconds to load
        from hierfed.methods.packages import check_privacy_packages  # noqa: PLC0415

        check_privacy_packages()
        from hierfed.methods.private_prior.priors import protect_prior  # noqa: PLC0415 - it is an extra

        public = public_content(case.settings, case.catalogue)
        prior = protect_prior(public.content, case.limits, case.settings, case.streams, case.noise_nodes)
        return Prepared(prior.method, public.names, public.missing, prior)
