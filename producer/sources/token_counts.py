"""Numbers of tokens in texts, by the tokenizer of a text tower or by an estimate."""

import re
from collections.abc import Callable
from pathlib import Path

from unigeo.schemas.errors import ObservationsError

TokenCounter = Callable[[str], int]
"""Returns the number of tokens of a text."""


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens without a tokenizer, rather too high than too low.

    Four letters count as one token, a digit or sign as one, and start and end of the text too.
    """
    pieces = re.findall(r"[^\W\d_]+|\d|[^\w\s]", text)
    return 2 + sum(max(1, -(-len(piece) // 4)) for piece in pieces)


def token_counter(folder: Path) -> TokenCounter:
    """Return a function that counts the tokens of a text as a text tower does.

    Args:
        folder: folder of a model, or of a checkpoint of `transformers`.

    Raises:
        ObservationsError: the folder has no tokenizer.
    """
    from tokenizers import Tokenizer

    from unigeo.producer.encoders.pretrained import load_pretrained_tokenizer

    try:
        if (folder / "tokenizer_config.json").is_file():
            tokenizer, _ = load_pretrained_tokenizer(str(folder))
        else:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises plain Exception
        raise ObservationsError(
            f"table [text]: no tokenizer in {folder} ({error}); it is a folder with tokenizer.json."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text.lower()).ids)  # as `encoders.text.tokenize`
