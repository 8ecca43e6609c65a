"""Public benchmarks: linear probes of frozen encoders on a user's copy of the data.

Start with `run`, which looks a benchmark up in `DOWNSTREAM`. `conus27`, `geobench_probes` and
`mdas` each read one data set; `linear` fits the probes, `confusion` scores them.
"""

from unigeo.producer.evaluation.downstream.benchmarks import DOWNSTREAM, Benchmark, run
from unigeo.producer.evaluation.downstream.result import BenchmarkResult

__all__ = ["DOWNSTREAM", "Benchmark", "BenchmarkResult", "run"]
