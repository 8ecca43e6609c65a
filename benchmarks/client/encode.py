"""Time the coordinate encoder in numpy, and beside it torch where that is installed.

    python benchmarks/client/encode.py --preset tiny --points 20000

Prints points per second (medians of five interleaved rounds) and the largest difference between
the two; the weights are random, which costs the same as trained ones.
"""

import argparse
import os
import statistics
import time

import numpy as np
import torch

from unigeo.client.encoding.coordinate_encoder import BATCH, Encoder
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import base, tiny
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.publishing.coordinate_encoder import coordinate_settings, coordinate_weights
from unigeo.schemas.store.encoder import EncoderSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=["tiny", "base"], default="tiny")
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=BATCH)
    options = parser.parse_args()
    settings = (
        tiny(default_forms({}))
        if options.preset == "tiny"
        else base(default_forms({}), pretrained=None)
    )
    model = UniGeoCLIP(settings, pretrained=False).eval()
    encoder = Encoder(
        EncoderSettings.model_validate(coordinate_settings(model)), coordinate_weights(model)
    )
    lonlat = np.random.default_rng(0).uniform((-125, 25), (-67, 49), (options.points, 2))

    def in_numpy() -> np.ndarray:
        return encoder.encode(lonlat, batch=options.batch)

    def in_torch() -> np.ndarray:
        parts = torch.from_numpy(lonlat).split(options.batch)
        with torch.inference_mode():
            return np.concatenate([model.encode("coordinate", part).numpy() for part in parts])

    difference = np.abs(in_numpy() - in_torch()).max()
    seconds: dict[str, list[float]] = {"numpy": [], "torch": []}
    for _ in range(5):
        for name, encode in (("numpy", in_numpy), ("torch", in_torch)):
            start = time.perf_counter()
            encode()
            seconds[name].append(time.perf_counter() - start)
    print(f"{options.preset}, batches of {options.batch}, {os.cpu_count()} cores")
    for name, times in seconds.items():
        print(f"{name} {options.points / statistics.median(times):10,.0f} points/s")
    print(f"largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
