"""Errors of stores: which classes they are, and what the user can do about them."""

from unigeo.schemas.errors import StoreError

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""What Zarr raises where a document is no JSON, or not that of a group."""

IGNORES_RANGES = (
    "the server ignores ranges and sends the whole object where a part is asked for. Serve the "
    "store by one that answers range requests (nginx, Apache, Caddy or an object store do, "
    "`python -m http.server` does not), or copy it to this machine"
)


def range_ignored_error(key: str) -> StoreError:
    """The error of a server that sent more of an object than was asked for."""
    return StoreError(f"cannot read {key}: {IGNORES_RANGES}")


def unreachable_errors() -> tuple[type[BaseException], ...]:
    """What a store raises when it cannot be reached; OSError, and obstore's own."""
    from obstore.exceptions import BaseError

    return (OSError, BaseError)


def damage_errors() -> tuple[type[BaseException], ...]:
    """What reading an array raises: a store out of reach, or, from the codecs, torn data."""
    return (*unreachable_errors(), ValueError, RuntimeError)


def describe_error(error: BaseException) -> str:
    """An error's own words on one line, and what to do where that is known."""
    words = " ".join(str(error).split()) or type(error).__name__
    words = words.split(" Debug source:")[0].rstrip()
    if "Range request not supported" in words:
        return IGNORES_RANGES
    if "169.254.169.254" in words or "must be specified" in words:
        return (
            f"{words}. No credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS or AZURE_STORAGE_ACCOUNT_NAME and its key, or for a "
            "public bucket AWS_SKIP_SIGNATURE=true, GOOGLE_SKIP_SIGNATURE=true or "
            "AZURE_SKIP_SIGNATURE=true with the account's name"
        )
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"PermissionError", "PermissionDeniedError", "UnauthenticatedError"}:
        return (
            f"{words}. Access is denied: give credentials by the usual environment variables, or "
            "ask the owner to allow reading. A bucket that does not allow listing answers so for "
            "what it lacks, too"
        )
    return words
