"""What the pages of E2B's documentation for templates show, page by page, in examples of our own: the same calls with
arguments of the same form. js/examples.mjs has their twins. What templates.py tries is not here again."""

from __future__ import annotations

import contextlib
import io
import os
from functools import partial
from typing import Any

from e2e.e2b.runners.harness import AbsentError, Run, check, go
from e2e.e2b.runners.kitchen import ACCOUNT_FILE, CLERKS_DOCKERFILE, WHEEL
from e2e.e2b.runners.templates import BUILD_LIMIT_S, answer, built, context, name, template

PORT = 4010
SMALL = {"cpu_count": 1, "memory_mb": 512}


async def build(run: Run, what: str, made: Any, **more: Any) -> list[str]:
    """Build `made` under `name(what)`; returns its log."""
    return await built(run, what, lambda _: made, **SMALL | more)


async def told(run: Run, template_name: str, script: str) -> list[str]:
    """The lines that `script` says in a sandbox of the template."""
    return await answer(await run.create(template=template_name), script)


@check("Template.build", "Sandbox.create", only="sync", limit_s=BUILD_LIMIT_S)
async def quickstart(run: Run) -> None:
    made = template(run).from_base_image().set_envs({"SHOP": "green grocer's"})
    made = made.set_start_cmd('echo "$SHOP" > /tmp/opened', run.e2b.wait_for_timeout(1_000))
    # The name as older pages give it, and the logger that prints.
    logger = run.e2b.default_build_logger()
    info = await go(run.named("Template").build(made, alias=name("quick"), on_build_logs=logger, **SMALL))
    assert info.alias == name("quick") and info.template_id and info.build_id, info
    # The start command had ended before the sandbox was made, and what it wrote is there.
    assert await told(run, name("quick"), 'cat /tmp/opened; echo "$SHOP"') == ["green grocer's"] * 2


@check("TemplateBuilder", "Template.build", only="sync", limit_s=BUILD_LIMIT_S)
async def defining_a_template(run: Run) -> None:
    made = (
        template(run)
        .from_base_image()
        .copy(WHEEL, "/opt/")
        .copy("module", "/opt/module")
        .set_workdir("/srv/till")
        .copy(["hello.txt", "run.sh"], "/srv/till/last-of-both")
        .run_cmd(["git init --quiet -b trunk /tmp/books", "cd /tmp/books", "git config user.email a@example.org"])
        .run_cmd("cd /tmp/books; for n in 1 2; do git -c user.name=a commit --quiet --allow-empty -m $n; done")
        .git_clone("file:///tmp/books")
        .git_clone("file:///tmp/books", "/srv/till/shallow", branch="trunk", depth=1)
        .pip_install(f"/opt/{WHEEL}", g=False)
        .npm_install("/opt/module")
        .run_cmd("whoami > by-root.txt && chmod 640 by-root.txt", user="root")
        .set_user("1000:1000")
        .run_cmd("id -u > by-number.txt")
    )
    await build(run, "defined", made)
    sandbox = await run.create(template=name("defined"))
    assert await answer(sandbox, "pwd; id -u; cat last-of-both by-number.txt; stat -c '%a %U' by-root.txt") == [
        "/srv/till", "1000", "#!/bin/sh", "echo ran", "1000", "640 root",
    ]  # fmt: skip
    assert await answer(sandbox, "for at in books shallow; do git -C $at log --format=%s; done") == ["2", "1", "2"]
    found = await answer(sandbox, "python3 -c 'import tiny; print(tiny.__file__)'; node -p 'require(\"tiny-module\")'")
    assert found[0].startswith("/home/user/.local/lib/") and found[1] == "tiny", found


@check("Template.build", "Sandbox.create", only="sync", limit_s=BUILD_LIMIT_S)
async def user_and_workdir(run: Run) -> None:
    script = "id -un; pwd"
    made = template(run).from_base_image().run_cmd(f"({script}) > /tmp/first")
    # A user that is not there yet, with a home of its own.
    made = made.set_user("cashier").run_cmd(f"({script}) > second")
    await build(run, "user", made)
    assert await told(run, name("user"), f"{script}; cat /tmp/first second") == [
        "cashier", "/home/cashier", "user", "/home/user", "cashier", "/home/cashier",
    ]  # fmt: skip


@check("Template.build", "TemplateBuilder", only="sync", limit_s=BUILD_LIMIT_S)
async def start_and_ready_commands(run: Run) -> None:
    ready = [run.e2b.wait_for_process("python3"), run.e2b.wait_for_url(f"http://localhost:{PORT}")]
    # A command of one's own: all that the helpers would ask, one after the other.
    made = template(run).from_base_image().set_start_cmd(
        f"sleep 1; exec python3 -m http.server {PORT}", " && ".join(one.get_cmd() for one in ready)
    )  # fmt: skip
    await build(run, "started", made)
    assert await told(run, name("started"), f"curl -so /dev/null -w '%{{http_code}}\\n' localhost:{PORT}") == ["200"]
    only_ready = template(run).from_base_image().run_cmd("touch ~/stocked")
    only_ready = only_ready.set_ready_cmd(run.e2b.wait_for_file("/home/user/stocked"))
    said = await build(run, "only-ready", only_ready)
    assert any("waiting until" in line for line in said), said
    assert await told(run, name("only-ready"), "ls") == ["stocked"]


@check("Template.build", "TemplateBuilder", only="sync", limit_s=BUILD_LIMIT_S)
async def caching(run: Run) -> None:
    stamp = "head -c 9 /dev/urandom | base64 > {}"

    def dated() -> Any:
        made = template(run).from_base_image().run_cmd(stamp.format(f"before-{name('x')}"))
        return made.skip_cache().run_cmd(stamp.format("after"))

    async def stamps(what: str, **more: Any) -> list[str]:
        await build(run, what, dated(), **more)
        return await told(run, name(what), "cat before-* after")

    small = await stamps("variant-small")
    # Another size: the steps before `skip_cache` are shared, those after it are done again.
    large = await stamps("variant-large", memory_mb=768)
    assert small[0] == large[0] and small[1] != large[1], (small, large)
    anew = await stamps("variant-small", skip_cache=True)
    assert anew[0] != small[0], (anew, small)

    def copied(**more: Any) -> Any:
        return template(run).from_base_image().copy("notes/a.txt", "/tmp/a.txt", **more)

    await build(run, "copied", copied())
    said = await build(run, "copied", copied(), skip_cache=True)
    assert any("already cached" in line for line in said), said
    said = await build(run, "copied", copied(force_upload=True))
    assert any("Uploaded" in line for line in said), said


@check("Template.build", only="sync", limit_s=BUILD_LIMIT_S)
async def logging(run: Run) -> None:
    entries: list[Any] = []
    made = template(run).from_base_image().skip_cache().run_cmd("echo sold; echo out of stock >&2")
    await go(run.named("Template").build(made, name("logged"), on_build_logs=entries.append, **SMALL))
    assert isinstance(entries[0], run.e2b.LogEntryStart) and isinstance(entries[-1], run.e2b.LogEntryEnd), entries
    messages = {entry.message: entry for entry in entries}
    assert {"sold", "out of stock"} <= set(messages), messages.keys()
    sold = messages["sold"]
    assert sold.level == "info" and sold.timestamp.isoformat() in str(sold) and "sold" in str(sold), str(sold)
    failing = template(run).from_base_image().run_cmd("echo sold; exit 9")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        quiet = run.e2b.default_build_logger(min_level="error")
        await run.raises(
            "BuildException",
            lambda: run.named("Template").build(failing, name("unlogged"), on_build_logs=quiet, **SMALL),
            "exit code 9",
        )
    assert "ERROR" in printed.getvalue() and "INFO" not in printed.getvalue(), printed.getvalue()


@check("Template.build", "Template.build_in_background", only="sync")
async def error_handling(run: Run) -> None:
    made, stranger = template(run).from_base_image(), "e2b_" + "0" * 40
    for call in ("build", "build_in_background"):
        await run.raises(
            "AuthenticationException",
            partial(getattr(run.named("Template"), call), made, name("never"), api_key=stranger),
        )
    assert await go(run.named("Template").exists(name("never"))) is False


@check("Template.assign_tags", "Sandbox.create", only="sync", limit_s=BUILD_LIMIT_S)
async def tags_and_versioning(run: Run) -> None:
    class_, stall = run.named("Template"), name("stall")

    async def release(number: int, *names: str, **more: Any) -> str:
        made = template(run).from_base_image().run_cmd(f"echo {number} > ~/version")
        return str((await go(class_.build(made, *names, **SMALL, **more))).build_id)

    first = await release(1, f"{stall}:v1.0.0")
    await release(2, stall, tags=["v2.0.0", "latest"])
    await release(3, stall)
    await go(class_.assign_tags(f"{stall}:v1.0.0", "production"))
    # By its tag, by the default one with and without its name, and by the build itself.
    for asked, version in {"v1.0.0": "1", "latest": "2", "default": "3", "production": "1", first: "1"}.items():
        assert await told(run, f"{stall}:{asked}", "cat version") == [version], asked
    assert await told(run, stall, "cat version") == ["3"]
    # Promoted, and back again.
    for source, version in (("latest", "2"), ("v1.0.0", "1")):
        await go(class_.assign_tags(f"{stall}:{source}", "production"))
        assert await told(run, f"{stall}:production", "cat version") == [version]


@check("Template.build", only="sync", limit_s=BUILD_LIMIT_S)
async def private_registries(run: Run) -> None:
    if not (image := os.environ.get("E2B_TEST_IMAGE")):
        raise AbsentError("there is no registry on this machine to pull an image from")
    # One that no other check pulls, with an account's key as Google's registries take it: a file, or what is in it.
    image = image.replace("/small:", "/account:")
    # What a project has pulled is not asked for again, so the wrong key asks for another one.
    never_pulled = image.replace("/account:", f"/{name('account')}:")
    other = template(run).from_gcp_registry(never_pulled, service_account_json={"project_id": "another"})
    refused = partial(run.named("Template").build, other, name("wrong-account"), **SMALL)
    await run.raises("BuildException", refused, "with these credentials")
    by_file = template(run).from_gcp_registry(image, service_account_json=f"./{ACCOUNT_FILE}")
    await build(run, "by-account", by_file.run_cmd("cat /image-marker > /tmp/seen"))
    assert await told(run, name("by-account"), "cat /tmp/seen") == ["from the image"]


@check("Template.build", only="sync", limit_s=BUILD_LIMIT_S)
async def migrating_a_dockerfile(run: Run) -> None:
    made = template(run).from_dockerfile(CLERKS_DOCKERFILE)
    await build(run, "clerk", made.set_start_cmd("echo $SHELVES > opened", run.e2b.wait_for_timeout(1_000)))
    assert await told(run, name("clerk"), "id -un; pwd; echo $SHELVES $TILLS; cat by main.py opened") == [
        "clerk", "/srv/clerk", "2 3", "root", "print('main')", "2",
    ]  # fmt: skip
    # From a file, as from its text.
    same = run.named("Template").to_json(template(run).from_dockerfile(str(context() / "clerk.Dockerfile")))
    assert same == run.named("Template").to_json(template(run).from_dockerfile(CLERKS_DOCKERFILE))
