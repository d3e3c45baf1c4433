"""Somebody on the way between a node and its server, who listens."""

import selectors
import socket
import threading


class Proxy:
    """Hands bytes on between a node and its server, and keeps those that the node sends."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sent: list[bytes] = []
        self._closed = threading.Event()

    def forward_to(self, port: int) -> None:
        self._server_port = port
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> bytes:
        self._closed.set()
        self._listener.close()
        return b"".join(self._sent)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pump, args=(client,), daemon=True).start()

    def _pump(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        with client, server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    try:
                        content = key.fileobj.recv(1 << 16)
                        if key.fileobj is client:
                            self._sent.append(content)
                        key.data.sendall(content)
                    except OSError:
                        # One of the two was killed.
                        return
                    if not content:
                        return
