"""Public benchmarks: linear probes of frozen towers, on a user's copy of the data."""

from unigeo.producer.evaluation.downstream.result import Result
from unigeo.producer.evaluation.downstream.suites import DOWNSTREAM, Benchmark, run

__all__ = ["DOWNSTREAM", "Benchmark", "Result", "run"]
