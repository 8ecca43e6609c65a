"""Evaluation of a trained model: retrieval, calibration, robustness, linear probes and maps.

Start with `evaluate.evaluate_model`, which draws hold-outs and writes one report. The sections are
built in `retrieval_sections` and `vector_sections`; `downstream` holds public benchmarks, and
`probe_metrics` the few numbers by which ablations compare models.
"""
