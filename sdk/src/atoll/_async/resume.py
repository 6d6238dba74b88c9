"""`resume` of the class and of one sandbox, under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, overload

if TYPE_CHECKING:
    from atoll._async.sandbox import AsyncSandbox
    from atoll._config import Config


class AsyncResumeById(Protocol):
    """`Sandbox.resume(id)`: find one and resume it."""

    async def __call__(
        self, id: str, *, timeout_s: int | None = None, keep_memory: bool = True, config: Config | None = None
    ) -> AsyncSandbox:
        """The sandbox with this id, running."""


class AsyncResumeThis(Protocol):
    """`sandbox.resume()`: resume this one."""

    async def __call__(self, *, timeout_s: int | None = None, keep_memory: bool = True) -> bool:
        """Whether it had to be resumed."""


class AsyncResume:
    """Gives the class one function and its objects another."""

    @overload
    def __get__(self, sandbox: None, owner: type[AsyncSandbox]) -> AsyncResumeById: ...
    @overload
    def __get__(self, sandbox: AsyncSandbox, owner: type[AsyncSandbox]) -> AsyncResumeThis: ...

    def __get__(self, sandbox: AsyncSandbox | None, owner: type[AsyncSandbox]) -> AsyncResumeById | AsyncResumeThis:
        return owner._resume_by_id if sandbox is None else sandbox._resume_this
