"""The git helpers, with a bare repository inside the sandbox in place of a server."""

from __future__ import annotations

from typing import Any

from e2e.e2b.runners.harness import Run, check, go


async def repository(run: Run) -> tuple[Any, str]:
    """A new repository with an author and one commit; (the helpers, its path)."""
    git, path = run.sb.git, f"{await run.folder()}/repo"
    await go(git.init(path, initial_branch="main"))
    await go(git.configure_user("Suite", "suite@example.com", scope="local", path=path))
    await go(run.sb.files.write(f"{path}/README", "first\n"))
    await go(git.add(path))
    await go(git.commit(path, "first"))
    return git, path


async def shell(run: Run, path: str, command: str) -> str:
    return str((await go(run.sb.commands.run(command, cwd=path))).stdout).strip()


@check("git.init", "git.add", "git.commit", "git.status")
async def commit_and_status(run: Run) -> None:
    git, path = await repository(run)
    status = await go(git.status(path))
    assert status.current_branch == "main" and status.is_clean
    await go(run.sb.files.write(f"{path}/README", "changed\n"))
    await go(run.sb.files.write(f"{path}/new", ""))
    status = await go(git.status(path))
    assert {(one.name, one.status) for one in status.file_status} == {("README", "modified"), ("new", "untracked")}
    await go(git.add(path, files=["README"]))
    assert (await go(git.status(path))).has_staged
    await go(git.commit(path, "second", author_name="Other", author_email="o@example.com"))
    assert await shell(run, path, "git log -1 --format='%s %an %ae'") == "second Other o@example.com"
    await go(git.commit(path, "empty", allow_empty=True))
    assert await shell(run, path, "git rev-list --count HEAD") == "3"
    await go(git.init(f"{path}-bare", bare=True))
    assert await shell(run, f"{path}-bare", "git rev-parse --is-bare-repository") == "true"


@check("git.branches", "git.create_branch", "git.checkout_branch", "git.delete_branch")
async def branches(run: Run) -> None:
    git, path = await repository(run)
    await go(git.create_branch(path, "side"))
    found = await go(git.branches(path))
    assert set(found.branches) == {"main", "side"} and found.current_branch == "side"
    await go(git.checkout_branch(path, "main"))
    assert (await go(git.branches(path))).current_branch == "main"
    await go(git.delete_branch(path, "side", force=True))
    assert (await go(git.branches(path))).branches == ["main"]


@check("git.reset", "git.restore")
async def reset_and_restore(run: Run) -> None:
    git, path = await repository(run)
    await go(run.sb.files.write(f"{path}/README", "changed\n"))
    await go(git.add(path))
    await go(git.restore(path, ["README"], staged=True))
    status = await go(git.status(path))
    assert not status.has_staged and status.has_changes
    await go(git.restore(path, ["README"]))
    assert (await go(git.status(path))).is_clean
    await go(run.sb.files.write(f"{path}/README", "second\n"))
    await go(git.add(path))
    await go(git.commit(path, "second"))
    await go(git.reset(path, mode="hard", target="HEAD~1"))
    assert await go(run.sb.files.read(f"{path}/README")) == "first\n"


@check("git.remote_add", "git.remote_get", "git.push", "git.clone", "git.pull")
async def remotes(run: Run) -> None:
    git, path = await repository(run)
    bare = f"{path}-server"
    await go(git.init(bare, bare=True, initial_branch="main"))
    await go(git.remote_add(path, "origin", bare))
    assert await go(git.remote_get(path, "origin")) == bare
    assert await go(git.remote_get(path, "nowhere")) is None
    await go(git.push(path, remote="origin", branch="main"))
    copy = f"{path}-copy"
    await go(git.clone(bare, copy, branch="main"))
    assert await go(run.sb.files.read(f"{copy}/README")) == "first\n"
    await go(run.sb.files.write(f"{path}/README", "pushed\n"))
    await go(git.add(path))
    await go(git.commit(path, "pushed"))
    await go(git.push(path))
    await go(git.pull(copy))
    assert await go(run.sb.files.read(f"{copy}/README")) == "pushed\n"
    assert (await go(git.status(copy))).upstream == "origin/main"


@check("git.set_config", "git.get_config", "git.configure_user")
async def configuration(run: Run) -> None:
    git, path = await repository(run)
    await go(git.set_config("suite.key", "a value", scope="local", path=path))
    assert await go(git.get_config("suite.key", scope="local", path=path)) == "a value"
    assert await go(git.get_config("suite.none", scope="local", path=path)) is None
    await go(git.configure_user("Everywhere", "all@example.com"))
    assert await go(git.get_config("user.name")) == "Everywhere"


@check("git.dangerously_authenticate")
async def stored_credentials(run: Run) -> None:
    await go(run.sb.git.dangerously_authenticate("someone", "pass-word", host="git.example.com"))
    asked = "printf 'protocol=https\\nhost=git.example.com\\n\\n' | git credential fill"
    assert "password=pass-word" in await shell(run, "/home/user", asked)


@check("git.clone", "git.push", "git.pull")
async def git_errors(run: Run) -> None:
    git, path = await repository(run)
    await run.raises("CommandExitException", lambda: git.clone("/no/such/repository", f"{path}-x"))
    await run.raises("GitUpstreamException", lambda: git.pull(path))
    await run.raises("CommandExitException", lambda: git.push(path), "No configured push destination")
