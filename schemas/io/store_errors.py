"""Errors of stores: their classes, and sentences that say what the user can do."""

import re
from typing import Any

from unigeo.schemas.errors import StoreError

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""Classes that Zarr raises where a document is not JSON, or does not describe a group."""

_DENIED = ("PermissionError", "PermissionDeniedError", "UnauthenticatedError")
"""Classes of Python and obstore."""

IGNORES_RANGES = (
    "the server ignores ranges and sends the whole object where a part is asked for. Serve the "
    "store by one that answers range requests (nginx, Apache, Caddy or an object store do, "
    "`python -m http.server` does not), or copy it to this machine"
)


def range_ignored_error(key: str) -> StoreError:
    """Return the error for a server that sent more of an object than was requested."""
    return StoreError(f"cannot read {key}: {IGNORES_RANGES}")


def unreachable_errors() -> tuple[type[BaseException], ...]:
    """Return the classes that a store raises when it cannot be reached: OSError and obstore's."""
    from obstore.exceptions import BaseError

    return (OSError, BaseError)


def damage_errors() -> tuple[type[BaseException], ...]:
    """Return the classes that reading an array raises: of the store, and of codecs on bad data."""
    return (*unreachable_errors(), ValueError, RuntimeError)


def is_denied(error: BaseException) -> bool:
    """Return whether a store refuses access: to what it holds, or to all without credentials.

    A bucket that forbids listing answers so for an object that it lacks, too.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return not kinds.isdisjoint(_DENIED) or http_status(error) in (401, 403)


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries: of aiohttp, urllib, or requests."""
    status: Any = getattr(error, "status", None)
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def describe_error(error: BaseException) -> str:
    """Return an error's message on one line, and what to do where that is known."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.split(" Debug source:")[0].rstrip()  # obstore repeats the message there
    if "Range request not supported" in text:
        return IGNORES_RANGES
    if "<Code>NoSuchBucket</Code>" in text:
        name = re.search(r"<BucketName>(.*?)</BucketName>", text)
        bucket = f"bucket {name[1]}" if name else "such bucket"
        return f"there is no {bucket}; create it, or correct the address"
    if "error sending request" in text and "169.254.169.254" not in text:
        server = re.search(r"https?://[^/\s)]+", text)
        where = f" at {server[0]}" if server else ""
        return (
            f"no server answers{where}; correct the address or the endpoint, or mend the "
            f"connection ({text.partition(' - ')[0][:200]})"
        )
    document = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text)
    if document:  # a server's answer in XML
        text = f"{text.partition('<?xml')[0].partition('<Error>')[0]}{document[1]}: {document[2]}"
    # Without credentials obstore asks the metadata service of a cloud machine at this address.
    if "169.254.169.254" in text or "must be specified" in text:
        return (
            "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS or AZURE_STORAGE_ACCOUNT_NAME and its key, or for a "
            "public bucket AWS_SKIP_SIGNATURE=true, GOOGLE_SKIP_SIGNATURE=true or "
            f"AZURE_SKIP_SIGNATURE=true with the account's name ({text.partition(' - ')[0][:200]})"
        )
    if is_denied(error):
        return (
            f"{text}. Access is denied: give credentials by the usual environment variables, or "
            "ask the owner for the right. A bucket that does not allow listing answers so for "
            "what it lacks, too"
        )
    return text
