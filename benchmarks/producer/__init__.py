"""What training costs: `python -m benchmarks.producer.loss`."""
