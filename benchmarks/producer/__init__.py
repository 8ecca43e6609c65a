"""Timings and measurements of the producer, on a CPU and on a GPU.

Each module is a command, such as `python -m benchmarks.producer.loss`; `gpu_run` runs those that
need a GPU, one after the other.
"""
