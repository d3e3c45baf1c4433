"""The findings of a run: the schema of `result.json`, stable for scripts that read it."""

from __future__ import annotations

from hierfed.results.choices import ListChoice, ListTrial, Selection, Trial
from hierfed.results.data import DataSummary, JoinSummary, MethodWords
from hierfed.results.errors import (
    Baselines,
    Errors,
    IntervalGroup,
    Intervals,
    NewUserRecord,
    NodeRecord,
    RoundRecord,
    ThresholdRecord,
    UserSummary,
    Verdict,
)
from hierfed.results.federation import DeployedRound, FederationRecord, Gain, RefusedAnswer
from hierfed.results.lists import RankingRecord, SampleList
from hierfed.results.privacy import PrivacyRecord, ReleaseRecord
from hierfed.results.record import UNDEFINED, Number, Record, write_record
from hierfed.results.run import Result, Seconds, UpdateRecord
from hierfed.results.seeds import PairedDifference, Spread, Summary

__all__ = [
    "UNDEFINED",
    "Baselines",
    "DataSummary",
    "DeployedRound",
    "Errors",
    "FederationRecord",
    "Gain",
    "IntervalGroup",
    "Intervals",
    "JoinSummary",
    "ListChoice",
    "ListTrial",
    "MethodWords",
    "NewUserRecord",
    "NodeRecord",
    "Number",
    "PairedDifference",
    "PrivacyRecord",
    "RankingRecord",
    "Record",
    "RefusedAnswer",
    "ReleaseRecord",
    "Result",
    "RoundRecord",
    "SampleList",
    "Seconds",
    "Selection",
    "Spread",
    "Summary",
    "ThresholdRecord",
    "Trial",
    "UpdateRecord",
    "UserSummary",
    "Verdict",
    "write_record",
]
