# Generated from `src/atoll/_async/resume.py` by `scripts/unasync.py`: change that, not this.
"""`resume` of the class and of one sandbox, under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, overload

if TYPE_CHECKING:
    from atoll._sync.sandbox import Sandbox
    from atoll._config import Config


class ResumeById(Protocol):
    """`Sandbox.resume(id)`: find one and resume it."""

    def __call__(
        self, id: str, *, timeout_s: int | None = None, keep_memory: bool = True, config: Config | None = None
    ) -> Sandbox:
        """The sandbox with this id, running."""


class ResumeThis(Protocol):
    """`sandbox.resume()`: resume this one."""

    def __call__(self, *, timeout_s: int | None = None, keep_memory: bool = True) -> bool:
        """Whether it had to be resumed."""


class Resume:
    """Gives the class one function and its objects another."""

    @overload
    def __get__(self, sandbox: None, owner: type[Sandbox]) -> ResumeById: ...
    @overload
    def __get__(self, sandbox: Sandbox, owner: type[Sandbox]) -> ResumeThis: ...

    def __get__(self, sandbox: Sandbox | None, owner: type[Sandbox]) -> ResumeById | ResumeThis:
        return owner._resume_by_id if sandbox is None else sandbox._resume_this
