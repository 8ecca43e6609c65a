"""A proxy before an S3 server, which answers some requests as a bad day would have it."""

import asyncio
import random
from collections import Counter

import aiohttp
from aiohttp import web

from support.servers import Served

FAULTS = ("503", "cut", "lost answer", "stall")
EXPIRED = (
    "<?xml version='1.0' encoding='UTF-8'?><Error><Code>ExpiredToken</Code>"
    "<Message>The provided token has expired.</Message></Error>"
)


class FaultyProxy(Served):
    """Passes requests on, on 127.0.0.1, while its context lasts.

    Credentials may expire on the way: after `expires_after` requests every answer is 403.

    503: not passed on. cut: half of the answer's body, or of nothing. lost answer: the server acts
    and the client never hears of it. stall: no answer at all for `stall_s`.
    """

    def __init__(self, target: str, share: float, stall_s: float, seed: int = 0) -> None:
        self.target, self.share, self.stall_s = target, share, stall_s
        self.counts: Counter[str] = Counter()
        self.expires_after: int | None = None
        self._random = random.Random(seed)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await super().stop()
        await self._session.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        fault = self._random.choice(FAULTS) if self._random.random() < self.share else "none"
        if self.expires_after is not None and self.counts.total() >= self.expires_after:
            self.counts["expired"] += 1
            return web.Response(status=403, text=EXPIRED, content_type="application/xml")
        self.counts[fault] += 1
        if fault == "503":
            return web.Response(status=503, text="slow down")
        if fault == "stall":
            await asyncio.sleep(self.stall_s)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
        async with self._session.request(
            request.method,
            self.target + request.raw_path,
            headers=headers,
            data=body,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            dropped = ("transfer-encoding", "content-length", "connection")
            given = {k: v for k, v in answer.headers.items() if k.lower() not in dropped}
            status = answer.status
        if fault == "lost answer":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        length = len(content)
        if request.method == "HEAD":
            length = int(answer.headers.get("content-length", 0))
        response = web.StreamResponse(
            status=status, headers=given | {"Content-Length": str(length)}
        )
        await response.prepare(request)
        if fault == "cut":
            await response.write(content[: len(content) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(content)
        await response.write_eof()
        return response
