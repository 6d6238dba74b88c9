"""Examples of E2B's documentation for templates, as they stand there but for the names of the templates."""

from __future__ import annotations

import re

from e2e.e2b.runners.harness import Run, check
from e2e.e2b.runners.templates import BUILD_LIMIT_S, MARK

# https://e2b.dev/docs/template/quickstart
QUICKSTART_TEMPLATE = """\
from e2b import Template, wait_for_timeout

template = (
    Template()
    .from_base_image()
    .set_envs(
        {
            "HELLO": "Hello, World!",
        }
    )
    .set_start_cmd("echo $HELLO", wait_for_timeout(5_000)))
"""
QUICKSTART_BUILD = """\
from e2b import Template, default_build_logger

if __name__ == '__main__':
    Template.build(
        template,
        alias="template-tag-dev",
        cpu_count=1,
        memory_mb=1024,
        on_build_logs=default_build_logger(),
    )
"""
QUICKSTART_USE = """\
from e2b import Sandbox

# Create a Sandbox from development template
sandbox = Sandbox.create("template-tag-dev")

# Run commands in the sandbox
result = sandbox.commands.run('echo "Hello, World!"')
"""
# https://e2b.dev/docs/template/defining-template, the parts that need no network.
DEFINING = """\
from e2b import CopyItem, Template, wait_for_file

template = (
    Template()
    .from_template("template-tag-dev")
    # Set working directory
    .set_workdir("/app")
    # Set user (runs subsequent commands as this user)
    .set_user("node")
    .set_user("1000")
    .set_user("user")
    .set_envs({
        "NODE_ENV": "production",
        "API_KEY": "your-api-key",
        "DEBUG": "true",
    })
    # Run multiple commands
    .run_cmd(["touch first.txt", "touch second.txt", "echo $NODE_ENV > env.txt"])
    # Run command as specific user
    .run_cmd("touch /root-owned", user="root")
    # Create single directory
    .make_dir("/app/data")
    # Create directory with specific permissions
    .make_dir("/app/logs", mode=0o755)
    # Remove file with force
    .remove("/tmp/temp.txt", force=True)
    # Rename file
    .rename("/app/first.txt", "/app/third.txt")
    # Create symbolic link
    .make_symlink("/app/data", "/app/link")
    # Set both start command and ready command
    .set_start_cmd("sleep 1; touch /tmp/ready; sleep infinity", wait_for_file("/tmp/ready"))
)
Template.build(template, alias="template-tag-defined", skip_cache=True)
sandbox = Sandbox.create("template-tag-defined")
result = sandbox.commands.run("ls -d /app/* /tmp/ready; cat env.txt; stat -c %U /root-owned; id -un; id -un node")
"""
LISTED = """\
/app/data
/app/env.txt
/app/link
/app/logs
/app/second.txt
/app/third.txt
/tmp/ready
production
root
user
node
"""


@check("Template.build", "Sandbox.create", only="sync", limit_s=BUILD_LIMIT_S)
async def examples_of_the_documentation(run: Run) -> None:
    known: dict[str, object] = {"__name__": "__main__"}

    def do(text: str) -> None:
        named = re.sub(r"template-tag-(\w+)", rf"suite-\1-{MARK}", text)
        exec(compile(named, "example", "exec"), known)
        if "sandbox" in known:
            run.made.append(known["sandbox"])

    do(QUICKSTART_TEMPLATE)
    do(QUICKSTART_BUILD)
    do(QUICKSTART_USE)
    assert known["result"].stdout == "Hello, World!\n", known["result"]  # type: ignore[attr-defined]
    do(DEFINING)
    assert known["result"].stdout == LISTED, known["result"]  # type: ignore[attr-defined]
