"""Bodies that E2B's clients send to build templates. What is not known is let pass, as E2B does."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from atolld.api.e2b.requests import Body

Amount = Annotated[int, Field(ge=0, lt=2**31)]


class RequestBuild(Body):
    """A build that is asked for, in the second and third form. `name`: with or without a tag; `alias`: its older name.
    `minFreeDiskMb`: what is to be free on the disk of a sandbox."""

    name: str | None = Field(default=None, max_length=512)
    alias: str | None = Field(default=None, max_length=512)
    tags: list[str] | None = Field(default=None, max_length=64)
    cpuCount: Amount | None = None
    memoryMB: Amount | None = None
    minFreeDiskMb: Amount | None = None


class BuildStep(Body):
    """One step. `filesHash`: what the files of a COPY were uploaded under."""

    type: str = Field(max_length=64)
    args: list[str] = Field(default_factory=list)
    filesHash: str | None = None
    force: bool | None = None


class StartBuild(Body):
    """What is built. Exactly one of `fromImage` and `fromTemplate` is given."""

    fromImage: str | None = None
    fromTemplate: str | None = None
    fromImageRegistry: dict[str, Any] | None = None
    force: bool | None = None
    steps: list[BuildStep] | None = None
    startCmd: str | None = None
    readyCmd: str | None = None


class UpdateTemplate(Body):
    """What of a template is changed."""

    public: bool | None = None


class AssignTags(Body):
    """`tags` are to mean the build that `target` (`name:tag`) means."""

    target: str = Field(max_length=512)
    tags: list[str] = Field(max_length=64)


class RemoveTags(Body):
    """`tags` of the template `name` are to mean nothing any more."""

    name: str = Field(max_length=512)
    tags: list[str] = Field(max_length=64)
