"""What is not there yet: each call is refused with 501 and a reason a person can read."""

from __future__ import annotations

import importlib
from typing import Any

from e2e.e2b.runners.harness import AbsentError, Run, check, go
from e2e.e2b.runners.surface import find


@check("Sandbox.create", later=True)
async def create_with_header_rules(run: Run) -> None:
    rules = {"example.com": [{"transform": {"headers": {"X-Test": "1"}}}]}
    network = {"rules": rules, "allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"]}
    if find(run.flavour, "E2B") is None and not hasattr(run.e2b, "SandboxNetworkRule"):
        raise AbsentError("this release has no network rules")
    await run.create(network=network)


@check("Sandbox.create", later=True)
async def create_with_an_egress_proxy(run: Run) -> None:
    options = importlib.import_module("e2b.sandbox.sandbox_api").SandboxNetworkOpts
    if "egress_proxy" not in options.__annotations__:
        raise AbsentError("this release has no egress proxy")
    await run.create(network={"egress_proxy": {"address": "127.0.0.1:1080"}})


@check("Sandbox.create", later=True)
async def create_with_a_volume(run: Run) -> None:
    run.takes(run.Sandbox.create, "volume_mounts")
    await run.create(volume_mounts={"/mnt/data": "some-volume"})


@check("Sandbox.create", later=True)
async def create_with_identity_tokens(run: Run) -> None:
    run.takes(run.Sandbox.create, "iam")
    await run.create(iam={"tokens": {"aws": {"audience": "sts", "token_type": "JWT-SVID"}}})


@check("Volume.create", later=True)
async def volume_create(run: Run) -> None:
    await go(run.named("Volume").create("data"))


@check("Volume.connect", later=True)
async def volume_connect(run: Run) -> None:
    await go(run.named("Volume").connect("vol"))


@check("Volume.list", later=True)
async def volume_list(run: Run) -> None:
    await go(run.named("Volume").list())


@check("Volume.get_info", later=True)
async def volume_get_info(run: Run) -> None:
    await go(run.named("Volume").get_info("vol"))


@check("Volume.destroy", later=True)
async def volume_destroy(run: Run) -> None:
    await go(run.named("Volume").destroy("vol"))


def volume(run: Run) -> Any:
    return run.named("Volume")(volume_id="vol", name="data", token="token")


@check("Volume.make_dir", later=True)
async def volume_make_dir(run: Run) -> None:
    await go(volume(run).make_dir("/a"))


@check("Volume.exists", later=True)
async def volume_exists(run: Run) -> None:
    await go(volume(run).exists("/a"))


@check("Volume.read_file", later=True)
async def volume_read_file(run: Run) -> None:
    await go(volume(run).read_file("/a"))


@check("Volume.write_file", later=True)
async def volume_write_file(run: Run) -> None:
    await go(volume(run).write_file("/a", "x"))


@check("Volume.remove", later=True)
async def volume_remove(run: Run) -> None:
    await go(volume(run).remove("/a"))


@check("Volume.update_metadata", later=True)
async def volume_update_metadata(run: Run) -> None:
    await go(volume(run).update_metadata("/a", mode=0o600))


@check("Secret.create", later=True)
async def secret_create(run: Run) -> None:
    await go(run.named("Secret").create("name", "value"))


@check("Secret.update", later=True)
async def secret_update(run: Run) -> None:
    await go(run.named("Secret").update("name", "value"))


@check("Secret.get_info", later=True)
async def secret_get_info(run: Run) -> None:
    await go(run.named("Secret").get_info("name"))


@check("Secret.list", later=True)
async def secret_list(run: Run) -> None:
    await go(run.named("Secret").list().next_items())


@check("Secret.exists", later=True)
async def secret_exists(run: Run) -> None:
    await go(run.named("Secret").exists("name"))


@check("Secret.destroy", later=True)
async def secret_destroy(run: Run) -> None:
    await go(run.named("Secret").destroy("name"))


@check("Secret.fill", "Secret.iam_token")
async def placeholders(run: Run) -> None:
    secret = run.named("Secret")
    assert secret.fill("name") == "${e2b.secrets.name}"
    assert secret.iam_token(audience="sts", token_type="JWT-SVID")["audience"] == "sts"
