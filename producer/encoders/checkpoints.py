"""Whether a checkpoint that a model starts from is there, told before any work is begun."""

from pathlib import Path
from typing import Any

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import TextSettings
from unigeo.schemas.errors import ModelError

WAIT_S = 10.0
"""Longest wait for the hub, in seconds; it is asked once."""
_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"


def check_checkpoints(settings: ModelSettings) -> None:
    """Refuse checkpoints that cannot be loaded: folders that lack a file, names that the hub lacks.

    Raises:
        ModelError: naming the modality, the checkpoint, and what is not there.
    """
    answers: dict[str, str | None] = {}
    for modality, tower in settings.towers.items():
        name = getattr(tower, "pretrained", None)
        if name is None:
            continue
        folder = Path(name)
        if folder.is_dir():
            problem = _problem_of_folder(folder, isinstance(tower, TextSettings))
        else:
            if name not in answers:
                answers[name] = _problem_of_name(name)
            problem = answers[name]
        if problem:
            raise ModelError(
                f"the {modality} tower starts from {name!r}, {problem}. Name a folder that holds "
                "config.json, model.safetensors and tokenizer.json, or start from random weights: "
                f"--set model.{modality}.pretrained=none"
            )


def _problem_of_folder(folder: Path, is_text: bool) -> str | None:
    """Return what a folder lacks; None if it lacks nothing."""
    if not (folder / _CONFIG).is_file():
        return f"a folder without {_CONFIG}"
    if not any(folder.glob("model*.safetensors")):
        return "a folder without model.safetensors"
    if is_text and not (folder / _TOKENIZER).is_file():
        return f"a folder without a tokenizer ({_TOKENIZER})"
    return None


def _problem_of_name(name: str) -> str | None:
    """Return why a name of the hub cannot be used; None if it is stored here or the hub has it."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        stored: Any = hub.try_to_load_from_cache(name, _CONFIG)
        if isinstance(stored, str):
            return None
        hub.HfApi().model_info(name, timeout=WAIT_S)
    except errors.HFValidationError:
        return "which is neither a folder nor a name of the hub"
    except errors.GatedRepoError:
        return "which the hub gives to those alone who have accepted its terms (set HF_TOKEN)"
    except errors.RepositoryNotFoundError:
        return "which is no folder, and the hub has no model of that name"
    except Exception as error:  # offline, a proxy, a server's fault: each library has its classes
        why = " ".join(str(error).split())[:200] or type(error).__name__
        return f"which is no folder and not stored here, and the hub does not answer ({why})"
    return None
