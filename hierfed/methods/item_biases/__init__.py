"""Item biases from sums, and a private bias for each user: the smallest method, as an example of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierfed.methods.item_biases import messages
from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.results import MethodWords

if TYPE_CHECKING:
    from hierfed.settings import Settings


class ItemBiasesKind(MethodKind):
    """Declares item biases. It protects no unit of differential privacy, so it is refused under all units."""

    sums = messages.SUMS
    models = messages.MODELS

    def rounds(self, settings: Settings) -> int:
        """One, since another round would give the same biases; see MethodKind."""
        return 1

    def opening_rounds(self, settings: Settings) -> int:
        """One, which counts raters; see MethodKind."""
        return 1

    def words(self) -> MethodWords:
        """See MethodKind."""
        return MethodWords(personal="Federated, with user biases", personal_short="With user biases")

    def prepare(self, case: Case) -> Prepared:
        """See MethodKind."""
        from hierfed.methods.item_biases.item_biases import ItemBiases  # noqa: PLC0415 - torch takes seconds to load

        method = ItemBiases(len(case.catalogue), case.settings.factors.min_raters, case.limits)
        return Prepared(method, (), ())
