"""What the server is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PORT = 49999
AGENT_PORT = 49983


@dataclass(frozen=True, slots=True)
class Settings:
    """`host`, `port`: where it listens. `kernel_dirs`: directories of kernel specifications, the first goes first.
    `user`: who kernels run as; None: as the server itself. `started`: languages whose default context starts with the
    server. `keepalive_s`: silence after which a line says that the execution goes on. `agent_url`: of the guest agent.
    `identity_dir`: where the agent writes whose sandbox it is. `home`: where contexts start that name no directory.
    `socket`: the descriptor of a socket that listens already.
    """

    host: str = "0.0.0.0"
    port: int = PORT
    kernel_dirs: tuple[str, ...] = (
        "/opt/atoll-interpreter/kernels",
        "/home/user/.local/share/jupyter/kernels",
        "/usr/local/share/jupyter/kernels",
        "/usr/share/jupyter/kernels",
    )
    user: str | None = "user"
    started: tuple[str, ...] = ("python", "javascript")
    keepalive_s: float = 5.0
    agent_url: str = f"http://127.0.0.1:{AGENT_PORT}"
    home: str = "/home/user"
    run_dir: Path = Path("/run/atoll-interpreter")
    identity_dir: Path = Path("/run/e2b")
    socket: int | None = None

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """From `ATOLL_INTERPRETER_PORT`, `_KERNELS`, `_STARTED`, `_SOCKET`, `_USER` and `_HOME`; without them, as it is
        in the template."""
        default = cls()
        kernels = environ.get("ATOLL_INTERPRETER_KERNELS")
        started = environ.get("ATOLL_INTERPRETER_STARTED")
        inherited = environ.get("ATOLL_INTERPRETER_SOCKET")
        return cls(
            port=int(environ.get("ATOLL_INTERPRETER_PORT", default.port)),
            kernel_dirs=tuple(kernels.split(":")) if kernels else default.kernel_dirs,
            user=environ.get("ATOLL_INTERPRETER_USER", default.user) or None,
            home=environ.get("ATOLL_INTERPRETER_HOME", default.home),
            started=default.started if started is None else tuple(name for name in started.split(",") if name),
            socket=int(inherited) if inherited else None,
        )
