"""What a build does in its sandbox, done by the agent there."""

from __future__ import annotations

from collections.abc import Mapping

from atolld.control.builds.sandbox import OnOutput, Stdin
from atolld.guest.commands import run_command
from atolld.guest.files import put_file, remove_path


class AgentGuest:
    """Implements `atolld.control.builds.sandbox.Guest`."""

    async def run(
        self,
        address: str,
        token: str,
        argv: tuple[str, ...],
        *,
        user: str,
        cwd: str | None,
        envs: Mapping[str, str],
        stdin: Stdin,
        on_output: OnOutput,
    ) -> int:
        """See `run_command`."""
        return await run_command(address, token, argv, user=user, cwd=cwd, envs=envs, stdin=stdin, on_output=on_output)

    async def write(self, address: str, token: str, path: str, contents: bytes, user: str) -> None:
        """See `put_file`."""
        await put_file(address, token, path, contents, user=user)

    async def remove(self, address: str, token: str, path: str) -> None:
        """See `remove_path`."""
        await remove_path(address, token, path)
