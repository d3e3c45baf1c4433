"""Lists of items: how they were judged, and some of them."""

from __future__ import annotations

from hierfed.results.record import UNDEFINED, Number, Record


class SampleList(Record):
    """What a made-up person is recommended who has rated one item, as high as can be.

    loved: the title of that item. titles: the list, the best first. expected: the rating that each is expected to get.
    """

    loved: str
    titles: list[str]
    expected: list[Number]


class RankingRecord(Record):
    """Lists of unseen items from the full catalogue, means over users with a held-out item: NDCG@10, Recall@20, HR@10.

    model: `ease`, `implicit`, `rating` (expected ratings), `popularity`, the baseline, or `blend` of these.
    sampled_ndcg_at_10, sampled_hr_at_10: of lists of the held-out item and 99 sampled ones; NaN but under protocol loo.
    users: whose lists were judged; 0 in results of versions that did not tell.
    """

    model: str
    ndcg_at_10: Number
    recall_at_20: Number
    hr_at_10: Number
    users: int = 0
    sampled_ndcg_at_10: Number = UNDEFINED
    sampled_hr_at_10: Number = UNDEFINED
