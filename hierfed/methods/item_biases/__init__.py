"""Biases of items from sums, and a private bias for each user: the smallest method, to learn the contract from."""

from __future__ import annotations

from hierfed.methods.kind import Case, MethodKind, Prepared
from hierfed.results import MethodWords


class ItemBiasesKind(MethodKind):
    """Declares item biases. It protects no unit of differential privacy, and so is refused under all of them."""

    serves_users = True

    def words(self) -> MethodWords:
        """See MethodKind."""
        return MethodWords(personal="Federated, with user biases", personal_short="With user biases")

    def prepare(self, case: Case) -> Prepared:
        """See MethodKind."""
        from hierfed.methods.item_biases.item_biases import ItemBiases  # noqa: PLC0415 - torch takes seconds to load

        method = ItemBiases(len(case.catalogue), case.settings.factors.min_raters, case.limits)
        return Prepared(method, (), ())
