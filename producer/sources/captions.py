"""Captions of aerial images by a vision-language model of this machine."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unigeo.schemas.errors import ModelError

BATCH = 8
"""Images at a time, always: the last are filled up, so that a caption cannot depend on how many
others are asked for with it."""
PROMPT = "Describe this aerial photograph in one short sentence, without names of places."
"""Asked of models that converse."""


@dataclass(eq=False)
class Captioner:
    """A model of `transformers` that turns images into words, greedily."""

    model: Any
    processor: Any
    tokens: int
    """Of a caption, at most."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def captions(self, pictures: Sequence[UInt8[np.ndarray, "3 row col"]]) -> list[str]:
        """One sentence for each picture, without its full stop."""
        import torch

        said: list[str] = []
        images = [Image.fromarray(np.ascontiguousarray(np.moveaxis(p, 0, 2))) for p in pictures]
        for first in range(0, len(images), BATCH):
            batch = images[first : first + BATCH]
            full = batch + [batch[0]] * (BATCH - len(batch))
            with self._lock, torch.inference_mode():
                inputs = self._inputs(full).to(self.model.device)
                made = self.model.generate(
                    **inputs, max_new_tokens=self.tokens, do_sample=False, num_beams=1
                )
            if "input_ids" in inputs:  # a conversation begins with what was asked
                made = made[:, inputs["input_ids"].shape[1] :]
            words = self.processor.batch_decode(made, skip_special_tokens=True)
            said += [" ".join(one.split()).rstrip(". ") for one in words[: len(batch)]]
        return said

    def _inputs(self, images: list[Image.Image]) -> Any:
        if getattr(self.processor, "chat_template", None) is None:
            return self.processor.image_processor(images=images, return_tensors="pt")
        asked = [{"type": "image"}, {"type": "text", "text": PROMPT}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": asked}], add_generation_prompt=True
        )
        return self.processor(
            images=[[image] for image in images], text=[prompt] * len(images), return_tensors="pt",
            padding=True,
        )  # fmt: skip


def open_captioner(folder: str, tokens: int) -> Captioner:
    """Load a model and its processor from a folder: safetensors only, never code, no network.

    Args:
        folder: of BLIP, GIT, or a model that converses about images.
        tokens: of a caption, at most.

    Raises:
        ModelError: there is none.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

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
