"""IPython's kernel, with the environment variables that come along with code."""

from __future__ import annotations

from typing import Any

from ipykernel.ipkernel import IPythonKernel

import atoll_envs


class AtollKernel(IPythonKernel):
    """Reads `atoll` in a request's metadata: `keep`, variables for good; `envs`, variables for this execution."""

    async def do_execute(
        self, code: Any, silent: Any, *rest: Any, cell_meta: Any = None, cell_id: Any = None, **options: Any
    ) -> Any:
        """As IPython's does."""
        given = (cell_meta or {}).get("atoll") or {}
        atoll_envs.keep(given.get("keep") or {})
        atoll_envs.push(given.get("envs") or {})
        try:
            return await super().do_execute(code, silent, *rest, cell_meta=cell_meta, cell_id=cell_id, **options)
        finally:
            atoll_envs.pop()
