"""A TCP forwarder that breaks its connections when told to: a network, or a daemon, that goes away in the middle."""

from __future__ import annotations

import socket
import threading


class Cutter:
    """Forwards `url` to `port` on loopback. `cut_after` bytes towards the client all connections break, once each."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._sent = 0
        self.cuts: list[int] = []
        self.cuts_made = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            broken, self._open = self._open, set()
        for one in broken:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            threading.Thread(target=self._copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(4096):
                target.sendall(data)
                if counted and self._is_time(len(data)):
                    self.cut()
        except OSError:
            pass
        finally:
            for one in (source, target):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                one.close()
                with self._lock:
                    self._open.discard(one)

    def _is_time(self, size: int) -> bool:
        with self._lock:
            self._sent += size
            if not self.cuts or self._sent < self.cuts[0]:
                return False
            self.cuts.pop(0)
            self._sent = 0
            self.cuts_made += 1
            return True
