"""Calls the daemon itself makes on an agent: wait until it answers, initialise it, ask what it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from atolld.foundation.clock import rfc3339
from atolld.foundation.errors import GuestUnreachable
from atolld.guest.commands import run_command
from atolld.guest.http import AGENT_PORT, GuestResponse, dial, exchange

CALL_TIMEOUT_S = 10.0
# No login shell: a profile may do anything.
REHEARSAL = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash -c :")


@dataclass(frozen=True, slots=True)
class GuestInit:
    """What a sandbox is told once its agent answers, or again later: None, and a variable that is not among `envs`,
    stay as they are. `now`: Unix seconds, for the guest's clock."""

    access_token: str | None
    now: float
    sandbox_id: str | None = None
    template_id: str | None = None
    hostname: str | None = None
    default_user: str | None = "user"
    default_workdir: str | None = None
    envs: Mapping[str, str] = field(default_factory=dict)
    pids_max: int | None = None

    def to_json(self) -> bytes:
        """The body of `POST /init`."""
        body: dict[str, object] = {
            "accessToken": self.access_token,
            "timestamp": rfc3339(self.now),
            "sandboxId": self.sandbox_id,
            "templateId": self.template_id,
            "hostname": self.hostname,
            "defaultUser": self.default_user,
            "defaultWorkdir": self.default_workdir,
            "envVars": dict(self.envs),
            "pidsMax": self.pids_max,
        }
        return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


class GuestClient:
    """One agent at `address:port`; `token` is sent as X-Access-Token when not None."""

    def __init__(self, address: str, port: int = AGENT_PORT, token: str | None = None) -> None:
        self._address = address
        self._port = port
        self._token = token

    async def wait_ready(self, init: GuestInit, deadline_s: float) -> None:
        """Connect as soon as the agent listens and initialise it.

        Raises GuestUnreachable when it does not answer within `deadline_s` seconds or refuses.
        """
        try:
            async with asyncio.timeout(deadline_s):
                reader, writer = await dial(self._address, self._port)
                try:
                    headers = self._headers() | {"content-type": "application/json"}
                    answer = await exchange(reader, writer, "POST", "/init", headers, init.to_json())
                finally:
                    writer.close()
        except TimeoutError:
            raise GuestUnreachable(f"the sandbox's agent did not answer within {deadline_s:g} s") from None
        except OSError as error:
            raise GuestUnreachable(f"the connection to the sandbox's agent broke: {error}") from error
        if answer.status != 204:
            raise GuestUnreachable(f"the agent refused its initialisation with status {answer.status}")

    async def healthy(self, timeout_s: float) -> bool:
        """Whether the agent answers `GET /health` within `timeout_s` seconds."""
        try:
            return (await self._call("GET", "/health", timeout_s)).status == 204
        except GuestUnreachable:
            return False

    async def info(self) -> Mapping[str, object]:
        """The agent's `/atoll/v1/info`. Raises GuestUnreachable."""
        answer = await self._call("GET", "/atoll/v1/info", CALL_TIMEOUT_S)
        try:
            parsed = json.loads(answer.body)
        except ValueError as error:
            raise GuestUnreachable("the agent's info is not JSON") from error
        if answer.status != 200 or not isinstance(parsed, dict):
            raise GuestUnreachable(f"the agent answered its info with status {answer.status}")
        return parsed

    async def rehearse(self, timeout_s: float) -> None:
        """Run a command that does nothing, so that the next one finds the shell and the agent's own code in memory.

        Raises GuestUnreachable, InvalidArgument when there is no shell, FailedPrecondition.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await run_command(
                    self._address, self._token or "", REHEARSAL, user="root", cwd="/", on_output=lambda _, __: None
                )
        except TimeoutError:
            raise GuestUnreachable(f"a command did not end within {timeout_s:g} s") from None

    async def needs_address(self, timeout_s: float) -> bool:
        """Whether a socket in the guest needs the address that it has now, by `/atoll/v1/sockets`.

        True as well when the agent does not know that path (one of an earlier version). Raises GuestUnreachable.
        """
        answer = await self._call("GET", "/atoll/v1/sockets", timeout_s)
        try:
            parsed = json.loads(answer.body)
        except ValueError:
            return True
        return not (answer.status == 200 and isinstance(parsed, dict) and parsed.get("needAddress") is False)

    async def envs(self, timeout_s: float) -> dict[str, str]:
        """The variables that every process in the guest gets, by `GET /envs`. Raises GuestUnreachable."""
        answer = await self._call("GET", "/envs", timeout_s)
        try:
            parsed = json.loads(answer.body)
        except ValueError:
            parsed = None
        if answer.status != 200 or not isinstance(parsed, dict):
            raise GuestUnreachable(f"the agent answered for its variables with status {answer.status}")
        return {str(name): str(value) for name, value in parsed.items()}

    async def _call(self, method: str, path: str, timeout_s: float) -> GuestResponse:
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await dial(self._address, self._port)
                try:
                    return await exchange(reader, writer, method, path, self._headers())
                finally:
                    writer.close()
        except TimeoutError:
            raise GuestUnreachable(f"the sandbox's agent did not answer {path} within {timeout_s:g} s") from None
        except OSError as error:
            raise GuestUnreachable(f"the connection to the sandbox's agent broke: {error}") from error

    def _headers(self) -> dict[str, str]:
        return {"x-access-token": self._token} if self._token is not None else {}
