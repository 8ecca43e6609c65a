"""Captions of aerial images, by a vision-language model that is stored locally."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unigeo.schemas.errors import ModelError

BATCH = 8
"""Number of images in every batch."""
PROMPT = "Describe this aerial photograph in one short sentence, without names of places."
"""Prompt for conversational models."""


@dataclass(eq=False)
class Captioner:
    """A model of `transformers` that captions images, decoding greedily."""

    model: Any
    processor: Any
    tokens: int
    """Largest number of tokens in a caption."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def captions(self, images: Sequence[UInt8[np.ndarray, "3 row col"]]) -> list[str]:
        """Return one sentence for each image, without its full stop."""
        import torch

        captions: list[str] = []
        inputs = [Image.fromarray(np.ascontiguousarray(np.moveaxis(i, 0, 2))) for i in images]
        for first in range(0, len(inputs), BATCH):
            batch = inputs[first : first + BATCH]
            # The last batch is filled up: with another batch size BLAS may round differently, and
            # a caption would depend on how many images are captioned with it.
            filled = batch + [batch[0]] * (BATCH - len(batch))
            with self._lock, torch.inference_mode():
                prepared = self._prepare(filled).to(self.model.device)
                generated = self.model.generate(
                    **prepared, max_new_tokens=self.tokens, do_sample=False, num_beams=1
                )
            if "input_ids" in prepared:  # then the output begins with the prompt
                generated = generated[:, prepared["input_ids"].shape[1] :]
            texts = self.processor.batch_decode(generated, skip_special_tokens=True)
            captions += [" ".join(text.split()).rstrip(". ") for text in texts[: len(batch)]]
        return captions

    def _prepare(self, images: list[Image.Image]) -> Any:
        """Turn images, and the prompt of a conversational model, into the model's inputs."""
        if getattr(self.processor, "chat_template", None) is None:
            return self.processor.image_processor(images=images, return_tensors="pt")
        content = [{"type": "image"}, {"type": "text", "text": PROMPT}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return self.processor(
            images=[[image] for image in images], text=[prompt] * len(images), return_tensors="pt",
            padding=True,
        )  # fmt: skip


def open_captioner(folder: str, tokens: int) -> Captioner:
    """Load a model and its processor from a folder: safetensors only, without code or network.

    Args:
        folder: folder of BLIP, GIT, or a conversational model that takes images.
        tokens: largest number of tokens in a caption.

    Raises:
        ModelError: the folder holds no such model.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    # A folder may hold code and pickles, which could run anything: neither is loaded.
    safe = {"trust_remote_code": False, "local_files_only": True}
    try:
        processor = AutoProcessor.from_pretrained(folder, **safe)
        model = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True, **safe)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            f"table [text]: no model that describes images in {folder}: {error} Name a folder with "
            "its config.json, model.safetensors and processor."
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Captioner(model.eval().to(device), processor, tokens)
