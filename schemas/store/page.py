"""The page that shows a store in a browser: `page.html`, built from `viewer/`, for one store.

It is one file. The store's address stands in its `<meta name="unigeo-store">`, absolute or relative
to the page, so that a folder with both can be served by any web server that answers range requests.
Where Python knows the store by another name, `<meta name="unigeo-source">` holds it.
"""

import html
from importlib.resources import files
from urllib.parse import quote

from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.addresses import folder_and_name

_BUILT = "page.html"
_META = '<meta name="unigeo-{}" content="{}" />'


def page_of(store_address: str, source: str = "") -> bytes:
    """Return the page of a store.

    Args:
        store_address: the store's address, absolute or relative to the page.
        source: name or address by which Python opens the store, if it is another.

    Raises:
        StoreError: if the built page is not the one that this version knows.
    """
    page = files("unigeo.schemas.store").joinpath(_BUILT).read_text(encoding="utf-8")
    for name, content in (("store", store_address), ("source", source)):
        before, found, after = page.partition(_META.format(name, ""))
        if not found:
            raise StoreError(f"{_BUILT} has no mark for the store's address; install unigeo anew")
        page = before + _META.format(name, html.escape(content, quote=True)) + after
    return page.encode()


def is_page(content: bytes) -> bool:
    """Return whether the content of a file is such a page, of this version or another."""
    return b'<meta name="unigeo-store"' in content


def page_name(store_url: str) -> str:
    """Return the name of the page beside a store.

    >>> page_name("s3://bucket/conus/conus.zarr")
    'conus.html'
    """
    _, name = folder_and_name(store_url)
    return f"{name.removesuffix('.zarr')}.html"


def address_beside(store_url: str) -> str:
    """Return the address of a store relative to a page in the same folder.

    >>> address_beside("/data/south east.zarr")
    'south%20east.zarr'
    """
    return quote(folder_and_name(store_url)[1])
