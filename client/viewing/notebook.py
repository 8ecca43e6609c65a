"""The page of a field in a notebook's frame."""

import html
from typing import Any

from unigeo.client.viewing.page_server import PageServer


class Exploration:
    """A served page; a notebook shows it in a frame, and elsewhere `url` is opened in a browser."""

    def __init__(self, store: Any, *, height: int, port: int) -> None:
        """Serve the page in a thread until `close`, or the end of the process.

        Args:
            store: as `PageServer` takes it.
            height: of the frame, in pixels.
            port: as of `PageServer`.
        """
        self._server = PageServer(store, port=port).__enter__()
        self.url = self._server.url
        self.height = int(height)

    def __repr__(self) -> str:
        return f"Exploration({self.url})"

    def _repr_html_(self) -> str:
        address = html.escape(self.url, quote=True)
        size = f'width="100%" height="{self.height}"'
        return f'<iframe src="{address}" {size} title="The field"></iframe>'

    def close(self) -> None:
        """Stop serving, and give the port back."""
        self._server.__exit__()
