"""A server of Google Cloud Storage's XML API, as far as obstore speaks it, for `gs://` URLs.

    python tests/support/gcs_server.py      # prints its address, the token it asks for, a bucket

Objects, listings and multipart uploads are moto's, since that API is S3's. Google's own are bearer
tokens, generations (`x-goog-generation`) and writes on condition of one
(`x-goog-if-generation-match`), whose violation is 412. There is no emulator of it to install.

Source: https://docs.cloud.google.com/storage/docs/xml-api/overview
"""

import argparse
import asyncio
import itertools
import logging
from collections import defaultdict

import aiohttp
from aiohttp import web
from moto.server import ThreadedMotoServer

BUCKET = "fields"
TOKEN = "a token that somebody was given"
_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=0"
)
_HOP = {"host", "authorization", "content-length", "connection", "transfer-encoding"}


class GcsServer:
    """Translates between the two protocols, in the loop that starts it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1_700_000_000_000_000)
        self._generations: dict[str, int] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> str:
        """Serve; the address."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        self._target = "http://{}:{}".format(*self._moto.get_host_and_port())
        self._session = aiohttp.ClientSession(auto_decompress=False)
        async with self._session.put(f"{self._target}/{BUCKET}") as answer:
            answer.raise_for_status()
        runner = web.ServerRunner(web.Server(self._answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "AuthenticationRequired", "Authentication required.")
        key = request.path
        if request.method in ("GET", "HEAD"):
            return await self._forward(request)
        async with self._locks[key]:
            wanted = request.headers.get("x-goog-if-generation-match")
            if wanted is not None and int(wanted) != self._generations.get(key, 0):
                return _error(412, "PreconditionFailed", "At least one precondition did not hold.")
            answer = await self._forward(request)
            if answer.status < 300 and request.method == "DELETE":
                self._generations.pop(key, None)
            elif answer.status < 300 and not {"partNumber", "uploads"} & set(request.query):
                self._generations[key] = next(self._numbers)
                answer.headers["x-goog-generation"] = str(self._generations[key])
            return answer

    async def _forward(self, request: web.BaseRequest) -> web.Response:
        asked = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP and not name.lower().startswith("x-goog-")
        }
        asked["Authorization"] = _SIGNED
        async with self._session.request(
            request.method, f"{self._target}{request.raw_path}", headers=asked,
            data=await request.content.read(), allow_redirects=False,
        ) as answer:  # fmt: skip
            body = await answer.read()
            told = {k: v for k, v in answer.headers.items() if not k.lower().startswith("x-amz-")}
            response = web.Response(status=answer.status)
            for name, value in told.items():
                if name.lower() not in _HOP:
                    response.headers[name] = value
        if request.method == "HEAD":
            response.headers["Content-Length"] = told.get("Content-Length", "0")
        else:
            response.body = body
        if request.path in self._generations:
            response.headers["x-goog-generation"] = str(self._generations[request.path])
        return response


def _error(status: int, code: str, words: str) -> web.Response:
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code>"
    text += f"<Message>{words}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()

    async def serve() -> None:
        print(await GcsServer().start(), TOKEN, f"gs://{BUCKET}", sep="\n", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
