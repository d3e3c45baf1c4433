"""What is written of a run reads back, also where its figures are undefined."""

import math

from hierfed.results import RoundRecord


def test_a_round_that_diverged_reads_back():
    fields = dict.fromkeys(RoundRecord.model_fields, 1)
    written = RoundRecord(**(fields | {"train_loss": [float("nan")]})).model_dump_json()
    assert math.isnan(RoundRecord.model_validate_json(written).train_loss[0])
