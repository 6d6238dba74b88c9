"""Templates: built with every helper, in the background, with a start command; their logs, tags and faults."""

from __future__ import annotations

import importlib
import os
import tempfile
import traceback
import uuid
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from e2e.e2b.runners.harness import AbsentError, Run, check, go
from e2e.e2b.runners.kitchen import DOCKERFILE, WHEEL, lay_out

BUILD_LIMIT_S = 150
MARK = uuid.uuid4().hex[:10]


FILES = tempfile.TemporaryDirectory(prefix="e2b-templates-")


@lru_cache
def context() -> Path:
    """The directory that files are copied from."""
    lay_out(Path(FILES.name))
    return Path(FILES.name)


def name(what: str) -> str:
    """The name of a template of this run."""
    return f"suite-{what}-{MARK}"


def template(run: Run, **more: Any) -> Any:
    return run.named("Template")(file_context_path=str(context()), **more)


def everything(run: Run) -> Any:
    """A template with every helper that works without a network. js/templates.mjs builds the same."""
    return (
        template(run)
        .from_base_image()
        .set_envs({"STAGE": "build", "PLACE": "${HOME}/of-$STAGE"})
        .copy("app", "/opt/app")
        .copy("notes/*.txt", "notes")
        .copy(["hello.txt", "run.sh"], "/opt/bin/", user="root", mode=0o755)
        .copy_items([{"src": "hello.txt", "dest": "/opt/renamed.txt", "user": "root:root", "mode": 0o640}])
        .copy("hello-link", "/opt/bin/hello-link", user="root")
        .copy(WHEEL, "/opt/")
        .copy("module", "/opt/module")
        .set_workdir("/opt/work")
        .run_cmd(["echo $STAGE > stage.txt", "id -un > who.txt", "pwd > where.txt"])
        .run_cmd("id -un > by-root.txt", user="root")
        .make_dir(["one", "two"], mode=0o750)
        .make_symlink("stage.txt", "stage.link")
        .rename("who.txt", "renamed-who.txt")
        .remove(["where.txt", "one"], recursive=True, force=True)
        .pip_install(f"/opt/{WHEEL}")
        .npm_install("/opt/module", g=True)
    )


async def built(run: Run, what: str, make: Callable[[Run], Any], **more: Any) -> list[str]:
    """Build it under `name(what)`; returns its log."""
    said: list[str] = []
    await go(
        run.named("Template").build(make(run), name(what), on_build_logs=lambda line: said.append(line.message), **more)
    )
    return said


async def answer(sandbox: Any, script: str, **more: Any) -> list[str]:
    return list((await go(sandbox.commands.run(script, **more))).stdout.split("\n")[:-1])


@check("Template.build", "TemplateBuilder", limit_s=BUILD_LIMIT_S)
async def build_with_every_helper(run: Run) -> None:
    said = await built(run, "all", everything, cpu_count=1, memory_mb=512)
    assert any("FROM e2bdev/base" in line for line in said), said
    assert any("[builder 14/18] RUN ln -s" in line for line in said), said
    sandbox = await run.create(template=name("all"))
    assert await answer(sandbox, "pwd; id -un; cat stage.link renamed-who.txt by-root.txt") == [
        "/opt/work", "user", "build", "user", "root",
    ]  # fmt: skip
    assert await answer(sandbox, "ls") == ["by-root.txt", "renamed-who.txt", "stage.link", "stage.txt", "two"]
    listed = await answer(sandbox, "cd /opt; stat -c '%n %a %U:%G' work/two bin/* renamed.txt app/main.py")
    assert listed == [
        "work/two 750 user:user",
        "bin/hello-link 777 root:root",
        "bin/hello.txt 755 root:root",
        "bin/run.sh 755 root:root",
        "renamed.txt 640 root:root",
        "app/main.py 644 user:user",
    ], listed
    assert await answer(sandbox, "cd /opt/app; find . -type f | sort; cat ../bin/hello-link; ../bin/run.sh") == [
        "./data/one.txt", "./main.py", "hello", "ran",
    ]  # fmt: skip
    assert await answer(sandbox, "ls ~/notes; stat -c %U ~/notes/a.txt") == ["a.txt", "b.txt", "user"]
    assert await answer(sandbox, "python3 -c 'import tiny; print(tiny.SIZE)'") == ["tiny"]
    assert await answer(sandbox, "NODE_PATH=$(npm root -g) node -p 'require(\"tiny-module\")'") == ["tiny"]
    # As with E2B, users may install where only root could before, and are root when they want.
    assert await answer(sandbox, "touch /usr/local/bin/x /code/x && sudo -n id -un") == ["root"]
    info = await go(sandbox.get_info())
    assert info.name == name("all") and (info.cpu_count, info.memory_mb) == (1, 512), info


@check("Template.build", limit_s=BUILD_LIMIT_S)
async def build_again_from_the_cache(run: Run) -> None:
    said = await built(run, "all", everything, cpu_count=1, memory_mb=512)
    assert any("CACHED [builder 14/18] RUN ln -s" in line for line in said), said
    assert any("already cached" in line for line in said), said


@check("Template.build", "Sandbox.create", limit_s=BUILD_LIMIT_S)
async def start_command_is_live(run: Run) -> None:
    ready = run.e2b.wait_for_port(8765)

    def serving(run: Run) -> Any:
        started = template(run).from_template(name("all"))
        return started.set_start_cmd("echo $STAGE > served && python3 -m http.server 8765", ready)

    said = await built(run, "serving", serving, cpu_count=1, memory_mb=512)
    assert any("8765" in line for line in said), said
    for _ in range(2):
        sandbox = await run.create(template=name("serving"))
        assert await answer(sandbox, "curl -s localhost:8765/served; pgrep -c -f http.server") == ["build", "1"]


@check("Template.build", limit_s=BUILD_LIMIT_S)
async def build_from_a_dockerfile(run: Run) -> None:
    await built(run, "docker", lambda run: template(run).from_dockerfile(DOCKERFILE), cpu_count=1, memory_mb=512)
    sandbox = await run.create(template=name("docker"))
    listed = ["hello-from-dockerfile", "a.txt", "b.txt", "c.md", "user", "/srv/docker"]
    assert await answer(sandbox, "cat says.txt listed.txt; id -un; pwd") == listed


@check("Template.build", "TemplateBuilder", limit_s=BUILD_LIMIT_S)
async def build_from_an_image(run: Run) -> None:
    image = os.environ.get("E2B_TEST_IMAGE")
    if not image:
        raise AbsentError("there is no registry on this machine to pull an image from")

    def over_an_image(run: Run) -> Any:
        made = template(run).from_image(image, username="me", password="secret")
        return made.run_cmd("id -un > made-by").run_cmd("pwd > /made-in", user="root")

    await built(run, "image", over_an_image, cpu_count=1, memory_mb=256)
    sandbox = await run.create(template=name("image"))
    assert await answer(sandbox, "pwd; cat made-by /made-in; cat /image-marker; echo $FROM_IMAGE") == [
        "/home/user", "user", "/root", "from the image", "yes",
    ]  # fmt: skip
    wrong = template(run).from_image(f"{image}-not", username="me", password="secret")
    error = await run.raises("BuildException", lambda: run.named("Template").build(wrong, name("wrong")))
    assert "not" in str(error)


@check("Template.build")
async def a_failing_step(run: Run) -> None:
    failing = template(run).from_base_image()
    failing = failing.run_cmd("echo said before; exit 7")  # this line is shown
    said: list[str] = []
    error = await run.raises(
        "BuildException",
        lambda: run.named("Template").build(
            failing, name("failing"), on_build_logs=lambda line: said.append(line.message)
        ),
        "exit code 7",
        "said before",
    )
    assert any("said before" in line for line in said), said
    lines = [frame.line or "" for frame in traceback.extract_tb(error.__traceback__)]
    assert any("this line is shown" in line for line in lines), lines
    # What failed is no template to start from.
    await run.raises(Exception, lambda: run.create(template=name("failing")), "failing")


@check("Template.build_in_background", "Template.get_build_status", limit_s=BUILD_LIMIT_S)
async def build_in_background(run: Run) -> None:
    class_ = run.named("Template")
    slow = template(run).from_base_image().copy("hello.txt", "hello.txt", force_upload=True)
    slow = slow.run_cmd("sleep 1; seq 1 150")
    info = await go(class_.build_in_background(slow, name("slow") + ":v1", tags=["v2"]))
    assert info.name == name("slow") + ":v1" and sorted(info.tags) == ["v1", "v2"], info
    first = await go(class_.get_build_status(info, logs_offset=0))
    assert first.status.value == "building" and first.build_id == info.build_id, first

    async def ended() -> Any:
        status = await go(class_.get_build_status(info, logs_offset=0))
        return status if status.status.value != "building" else None

    status = await run.until(ended, 60)
    assert status.status.value == "ready" and status.reason is None, status.reason
    assert len(status.log_entries) == 100 and status.logs == []
    lines = [entry.message for entry in status.log_entries]
    assert lines[: len(first.log_entries)] == [entry.message for entry in first.log_entries]
    while page := (await go(class_.get_build_status(info, logs_offset=len(lines)))).log_entries:
        lines += [entry.message for entry in page]
    numbers = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[2].isdigit()]
    assert [number for number in numbers if number in map(str, range(1, 151))][-150:] == [str(n) for n in range(1, 151)]
    later = await go(class_.get_build_status(info, logs_offset=90))
    assert [entry.message for entry in later.log_entries][:10] == lines[90:100]
    assert all(entry.level in ("debug", "info", "warn", "error") for entry in later.log_entries)


@check("Template.get_build_status")
async def the_status_of_a_failed_build(run: Run) -> None:
    class_ = run.named("Template")
    failing = template(run).from_base_image().set_workdir("/tmp").run_cmd("echo said before; exit 9")
    info = await go(class_.build_in_background(failing, name("failed")))

    async def ended() -> Any:
        status = await go(class_.get_build_status(info))
        return status if status.status.value == "error" else None

    status = await run.until(ended, 30)
    assert status.reason.step == "2" and "exit code 9" in status.reason.message, status.reason
    assert [entry.message for entry in status.reason.log_entries] == ["said before"]
    kind = importlib.import_module("e2b.template.types").BuildInfo
    given = {"template_id": info.template_id, "build_id": str(uuid.uuid4()), "alias": "x", "name": "x"}
    unknown = kind(**{key: value for key, value in given.items() if key in kind.__dataclass_fields__})
    await run.raises("BuildException", lambda: class_.get_build_status(unknown), "404")


@check("Template.assign_tags", "Template.remove_tags", "Template.get_tags", "Sandbox.create")
async def tags(run: Run) -> None:
    class_, mine = run.named("Template"), name("slow")
    assigned = await go(class_.assign_tags(f"{mine}:v1", ["stable", "Latest"]))
    assert sorted(assigned.tags) == ["latest", "stable"]
    assert (await go(class_.assign_tags(f"{mine}:stable", "production"))).tags == ["production"]
    listed = await go(class_.get_tags(mine))
    assert sorted(tag.tag for tag in listed) == ["latest", "production", "stable", "v1", "v2"], listed
    assert {tag.build_id for tag in listed} == {assigned.build_id} and all(tag.created_at for tag in listed)
    sandbox = await run.create(template=f"{mine}:production")
    assert await answer(sandbox, "cat hello.txt") == ["hello"]
    await go(class_.remove_tags(mine, ["latest", "v2"]))
    await go(class_.remove_tags(mine, "production"))
    assert sorted(tag.tag for tag in await go(class_.get_tags(mine))) == ["stable", "v1"]
    await run.raises(Exception, lambda: run.create(template=f"{mine}:production"), "production")
    await run.raises("TemplateException", lambda: class_.remove_tags(mine, "production"), "404", "production")
    await run.raises("TemplateException", lambda: class_.assign_tags(f"{mine}:never", "x"), "404")
    await run.raises("TemplateException", lambda: class_.get_tags(name("never")), "404")
    for bad in (":v1", f"{mine}:", "a b:v1"):
        await run.raises("TemplateException", partial(class_.assign_tags, bad, "x"), "400")
    await run.raises("TemplateException", lambda: class_.assign_tags(f"{mine}:v1", "not a tag"), "400")


@check("Template.exists", "Template.alias_exists")
async def template_exists(run: Run) -> None:
    class_ = run.named("Template")
    assert await go(class_.exists("base")) is True
    assert await go(class_.exists(name("all"))) is True
    assert await go(class_.exists(name("never"))) is False
    assert await go(class_.alias_exists("base")) is True


@check("Template.build")
async def builds_that_are_refused(run: Run) -> None:
    class_ = run.named("Template")
    starts = {
        "no-such-template": template(run).from_template("no-such-template"),
        "aws ecr get-login-password": template(run).from_aws_registry(
            "1.dkr.ecr.us-east-1.amazonaws.com/a:b", access_key_id="a", secret_access_key="b", region="us-east-1"
        ),
        "'; exit 1' is not a user": template(run).from_base_image().set_user("; exit 1"),
        "step 2 (RUN": template(run).from_base_image().set_workdir("/x").run_cmd(""),
        "is not a reference to an image": template(run).from_image("Not An Image"),
    }
    for said, refused in starts.items():
        await run.raises("BuildException", partial(class_.build, refused, name("refused")), said)
    fine = template(run).from_base_image()
    for bad, said in (("a b", "400"), ("x" * 70, "400"), ("other-project/x", "400"), ("x:y:z", "400")):
        await run.raises("BuildException", partial(class_.build, fine, bad), said)
    await run.raises("BuildException", lambda: class_.build(fine, name("refused"), cpu_count=1000), "400")
    missing = template(run).from_base_image().copy("no/such/file", "/x")
    await run.raises(ValueError, lambda: class_.build(missing, name("refused")), "No files found")


@check("TemplateBuilder", "Template.to_json", "Template.to_dockerfile")
async def what_a_builder_writes(run: Run) -> None:
    class_ = run.named("Template")
    made = class_().from_python_image("3.12").set_envs({"A": "1"}).run_cmd("true").set_workdir("/app").set_user("user")
    made = made.apt_install(["vim", "git"]).bun_install("tsx").git_clone("https://example.com/r.git", "/r", depth=1)
    written = class_.to_json(made)
    assert '"fromImage": "python:3.12"' in written and "apt-get install -y" in written and "git clone" in written
    assert "FROM python:3.12" in class_.to_dockerfile(made)
