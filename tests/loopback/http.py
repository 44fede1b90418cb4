"""As much of HTTP/1.1 as clients need."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

from tests.loopback.server import DRIPS, HOST, Server
from tests.loopback.wire import Reply


async def serve(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, request after request."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ", 2)
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            reply = await server.answer(method, target, headers, body)
            await send(writer, reply, formatdate(server.clock.now(), usegmt=True))
            if reply.cut:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client is gone
    finally:
        writer.close()


async def send(writer: asyncio.StreamWriter, reply: Reply, date: str) -> None:
    lines = {
        "Content-Type": "application/json",
        "Content-Length": str(len(reply.body)),
        "Date": date,
        **reply.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {reply.status} -\r\n{head}\r\n".encode())
    size = len(reply.body)
    for at in range(DRIPS if reply.over else 0):
        writer.write(reply.body[at : at + 1])
        await asyncio.sleep(reply.over / DRIPS)
    writer.write(reply.body[DRIPS if reply.over else 0 : size // 2 if reply.cut else size])
    await writer.drain()


async def run(server: Server, port: int) -> None:
    listener = await asyncio.start_server(
        lambda reader, writer: serve(server, reader, writer), HOST, port, limit=2**24
    )
    port = listener.sockets[0].getsockname()[1]
    print(f"http://{HOST}:{port}/v1", flush=True)
    async with listener:
        await listener.serve_forever()
