"""A model folder as a few files of limited size, its matrices in float16, and back.

    python -m benchmarks.producer.model_parts OUT/model.tar.* --model conus_gpu

gives a model folder again. Vectors keep a cosine of 0.99999: frequencies, scales and all that is no
matrix stay as they are.
"""

import argparse
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load, save
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_folders import SETTINGS, TOKENIZER, WEIGHTS
from unigeo.producer.encoders.model_settings import from_json
from unigeo.producer.encoders.saved_models import load_model, save_model

NAME = "model.tar"
PART_BYTES = 15 << 20


def pack(folder: Path, out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write `model.tar.0`, `model.tar.1` and so on, instead of older ones; gives their paths."""
    for old in out.glob(f"{NAME}.*"):
        old.unlink()
    model, _ = load_model(folder)
    halved = {name: _halved(name, values) for name, values in model.state_dict().items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, WEIGHTS, save(halved))
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name != WEIGHTS:
                _add(archive, path.name, path.read_bytes())
    data = buffer.getvalue()
    paths = []
    for number, start in enumerate(range(0, len(data), part_bytes)):
        paths.append(out / f"{NAME}.{number}")
        paths[-1].write_bytes(data[start : start + part_bytes])
    return paths


def unpack(parts: Sequence[Path], folder: Path) -> None:
    """Write the model folder that the parts make together."""
    ordered = sorted(parts, key=lambda path: int(path.suffix[1:]))
    data = b"".join(path.read_bytes() for path in ordered)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {
            member.name: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }
    settings = from_json(json.loads(files.pop(SETTINGS))["settings"])
    model = UniGeoCLIP(settings, pretrained=False)
    initial = model.state_dict()
    weights = {
        name: values.to(initial[name].dtype) for name, values in load(files.pop(WEIGHTS)).items()
    }
    model.load_state_dict(weights)
    stored = files.pop(TOKENIZER, None)
    tokenizer = None if stored is None else Tokenizer.from_str(stored.decode())
    save_model(model, tokenizer, folder, {name: text.decode() for name, text in files.items()})


def _halved(name: str, values: Tensor) -> Tensor:
    matrix = values.ndim >= 2 and values.dtype == torch.float32
    return values.half() if matrix and "frequencies" not in name else values


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    archive.addfile(about, io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, required=True, help="the folder to write")
    options = parser.parse_args()
    unpack(options.parts, options.model)


if __name__ == "__main__":
    main()
