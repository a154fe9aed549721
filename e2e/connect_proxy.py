"""An HTTP proxy for clients that cannot be told an endpoint: whatever host they ask for, they reach one port."""

import asyncio
import contextlib
import threading


class ConnectProxy:
    """Answers CONNECT on loopback and joins every connection to `port`."""

    def __init__(self, port):
        self.port, self.asked = port, set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        started = asyncio.start_server(self.serve, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(started, self.loop).result()
        self.url = "http://127.0.0.1:{}".format(server.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        assert method == b"CONNECT", head
        self.asked.add(target.decode())
        inner, outer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(pump(reader, outer), pump(inner, writer))


async def pump(reader, writer):
    """Passes bytes on until one side ends."""
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()
