"""What goes over the wire about images."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr

from atolld.api.native.schemas import Request
from atolld.foundation.clock import rfc3339
from atolld.foundation.errors import InvalidArgument
from atolld.images.imagestore import Image
from atolld.images.pull import PullProgress
from atolld.images.registry import Credentials


class PullImage(Request):
    """An image to be pulled."""

    reference: str = Field(
        max_length=512, description="`debian:12`, `registry.example/owner/app@sha256:...`, `localhost:5000/box`."
    )
    username: str | None = Field(None, max_length=256, description="For a registry that wants one; never stored.")
    password: SecretStr | None = Field(None, max_length=16384, description="Or a token; never stored.")
    insecure: bool = Field(False, strict=True, description="Plain HTTP; a registry on the daemon's machine gets it.")

    def credentials(self) -> Credentials | None:
        """Raises InvalidArgument when one of the two is missing."""
        if (self.username is None) != (self.password is None):
            raise InvalidArgument("username and password belong together: give both, or neither")
        if self.username is None or self.password is None:
            return None
        return Credentials(self.username, self.password.get_secret_value())


class ImageView(BaseModel):
    """An image of the project. `digest`: of its manifest, or of its config when its archive had none. `layers`: their
    digests on this machine, the lowest first. `user`, `workdir`, `envs` hold for commands in sandboxes made from it;
    `entrypoint` and `cmd` are told, not run."""

    name: str
    digest: str
    platform: str
    pulled_at: str
    size_bytes: int
    layers: list[str]
    user: str
    workdir: str
    envs: dict[str, str]
    entrypoint: list[str]
    cmd: list[str]

    @staticmethod
    def of(image: Image) -> ImageView:
        """The view of `image`."""
        return ImageView(
            name=image.name,
            digest=image.digest,
            platform=image.platform,
            pulled_at=rfc3339(image.built_at),
            size_bytes=image.size_bytes,
            layers=[path.parent.name for path in image.layers],
            user=image.run.user,
            workdir=image.run.workdir,
            envs=dict(image.run.env),
            entrypoint=list(image.run.entrypoint),
            cmd=list(image.run.cmd),
        )


class PullStepView(BaseModel):
    """A step of a pull, or at last its `image`.

    `phase`: `resolve`, `wait` (for a prune), `download`, `unpack`, `present` (was here already), `done`. `layer`: the
    digest of its blob; `bytes` of its `total_bytes` have come.
    """

    phase: str | None = None
    layer: str | None = None
    bytes: int | None = None
    total_bytes: int | None = None
    image: ImageView | None = None

    @staticmethod
    def of(step: PullProgress) -> PullStepView:
        """The view of `step`."""
        if not step.layer:
            return PullStepView(phase=step.phase)
        return PullStepView(phase=step.phase, layer=step.layer, bytes=step.bytes, total_bytes=step.total_bytes)


class Pruned(BaseModel):
    """The digests of the layers that were removed."""

    layers: list[str]
