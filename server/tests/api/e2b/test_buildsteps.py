from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from atolld.api.e2b.buildrequests import BuildStep
from atolld.api.e2b.buildsteps import MAX_COMMAND_BYTES, MAX_SHOWN, translate
from atolld.core.build import Copy, Env, Run, Step, User, Where, Workdir
from atolld.foundation.errors import InvalidArgument

FILES = "ab" * 32
BASH = ("/bin/bash", "-l", "-c")


def of(*steps: dict[str, Any], placed: bool = True, force: bool = False, envs: Mapping[str, str] | None = None) -> Any:
    return translate([BuildStep(**step) for step in steps], placed=placed, force=force, envs=envs)


def one(kind: str, *args: str, envs: Mapping[str, str] | None = None, placed: bool = True, **more: Any) -> Step:
    found: tuple[Step, ...] = of({"type": kind, "args": list(args), **more}, envs=envs, placed=placed)
    assert len(found) == 1
    return found[0]


def copy(*args: str, placed: bool = True) -> Copy:
    found = one("COPY", *args, placed=placed, filesHash=FILES)
    assert isinstance(found, Copy)
    return found


def test_no_steps() -> None:
    assert of() == ()


def test_run_is_done_by_a_login_shell_of_bash() -> None:
    where = Where(1, 0, "RUN echo 'a  b' root")
    assert one("RUN", "echo 'a  b'", "root") == Run(where, (*BASH, "echo 'a  b'"), user="root")


def test_run_begins_at_home_where_no_directory_was_set() -> None:
    run = one("RUN", "make\n# two lines", placed=False)
    assert isinstance(run, Run)
    assert run.argv[:2] == ("/bin/sh", "-c") and run.argv[-1] == "make\n# two lines"
    assert "cd ~" in run.argv[2] and 'exec /bin/bash -l -c "$1"' in run.argv[2]
    placed = of({"type": "WORKDIR", "args": ["/app"]}, {"type": "RUN", "args": ["pwd"]}, placed=False)
    assert placed[1].argv == (*BASH, "pwd")


def test_env() -> None:
    assert one("ENV", "A", "1", "B", "x y") == Env(Where(1, 0, "ENV A 1 B x y"), {"A": "1", "B": "x y"})


def test_env_refers_to_the_base_and_to_what_was_set_before() -> None:
    steps = [
        {"type": "ENV", "args": ["PATH", "/opt/bin:$PATH", "A", "1"]},
        {"type": "ENV", "args": ["A", "${A}2", "B", "$A", "C", "$NOTHING"]},
    ]
    found = of(*steps, envs={"PATH": "/usr/bin"})
    assert [step.envs for step in found] == [{"PATH": "/opt/bin:/usr/bin", "A": "1"}, {"A": "12", "B": "12", "C": ""}]
    unknown = of(*steps)
    assert unknown[0].envs == {"PATH": "/opt/bin:$PATH", "A": "1"}


@pytest.mark.parametrize(
    ("path", "envs", "comes_to"),
    [
        ("/app", None, "/app"),
        ("app", None, "app"),
        ("/a b/ü", None, "/a b/ü"),
        ("/with\nnewline", None, "/with\nnewline"),
        ("$DIR/x", {"DIR": "/d"}, "/d/x"),
        ("$DIR/x", None, "$DIR/x"),
    ],
)
def test_workdir(path: str, envs: Mapping[str, str] | None, comes_to: str) -> None:
    found = one("WORKDIR", path, envs=envs)
    assert isinstance(found, Workdir) and found.path == comes_to


@pytest.mark.parametrize("name", ["root", "user", "1000", "user:staff"])
def test_users_that_are_there(name: str) -> None:
    assert one("USER", name) == User(Where(1, 0, f"USER {name}"), name)


@pytest.mark.parametrize(("args", "sudo"), [(["app"], ""), (["app", "true"], "sudo"), (["app", "false"], "")])
def test_a_user_that_may_have_to_be_made(args: list[str], sudo: str) -> None:
    run, user = of({"type": "USER", "args": args})
    assert run.user == "root" and run.argv[-2:] == ("app", sudo) and run.where.number == 1
    assert user.user == "app"


def test_a_user_by_a_variable() -> None:
    unknown = of({"type": "USER", "args": ["$APP"]}, {"type": "COPY", "args": ["a", "b"], "filesHash": FILES})
    known = of(
        {"type": "USER", "args": ["$APP"]},
        {"type": "COPY", "args": ["a", "b"], "filesHash": FILES},
        envs={"APP": "app"},
    )
    assert len(unknown) == len(known) == 3
    assert known[0].argv[-2:] == ("app", "") and known[1].user == "app" and known[2].owner == "app"
    with pytest.raises(InvalidArgument, match="is not a user"):
        of({"type": "USER", "args": ["$APP"]}, envs={"APP": "; rm -rf /"})


@pytest.mark.parametrize(
    ("source", "fixed"),
    [
        ("a.txt", "a.txt"),
        ("./a.txt", "a.txt"),
        ("dir", "dir"),
        ("dir/", "dir"),
        (".", "."),
        ("dir/../other/a", "other/a"),
        ("..config", "..config"),
        ("*.txt", "."),
        ("dir/*.txt", "dir"),
        ("dir/**/x.py", "dir"),
        ("a/b?/c", "a"),
        ("a/{b,c}/d", "a"),
        ("[ab].txt", "."),
    ],
)
def test_the_source_of_a_copy_is_what_comes_before_its_pattern(source: str, fixed: str) -> None:
    assert copy(source, "/x").sources == (fixed,)


@pytest.mark.parametrize(
    ("destination", "placed", "comes_to"),
    [
        ("/app/", True, "/app/"),
        ("/app", True, "/app"),
        ("app", True, "app"),
        (".", True, "./"),
        ("sub/.", True, "sub/./"),
        ("app", False, "/home/user/app"),
        (".", False, "/home/user/./"),
        ("/app", False, "/app"),
    ],
)
def test_the_destination_of_a_copy(destination: str, placed: bool, comes_to: str) -> None:
    assert copy("a", destination, placed=placed).destination == comes_to


@pytest.mark.parametrize(
    ("user", "home"), [("root", "/root/x"), ("app", "/home/app/x"), ("1000", "/x"), ("app:staff", "/home/app/x")]
)
def test_a_relative_destination_is_below_the_home_of_who_copies(user: str, home: str) -> None:
    *_, found = of(
        {"type": "USER", "args": [user]}, {"type": "COPY", "args": ["a", "x"], "filesHash": FILES}, placed=False
    )
    assert found.destination == home and found.owner == (None if user == "root" else user)


@pytest.mark.parametrize(
    ("args", "owner", "mode"),
    [
        (["a", "/x"], "user", None),
        (["a", "/x", "", ""], "user", None),
        (["a", "/x", "root"], None, None),
        (["a", "/x", "root:staff", "0755"], "root:staff", 0o755),
        (["a", "/x", "1000:1000", "644"], "1000:1000", 0o644),
        (["a", "/x", "", "0000"], "user", 0),
    ],
)
def test_owner_and_mode_of_a_copy(args: list[str], owner: str | None, mode: int | None) -> None:
    found = copy(*args)
    assert (found.owner, found.mode, found.origin, found.follow) == (owner, mode, FILES, False)


def test_a_forced_step_forces_all_that_follow() -> None:
    steps: list[dict[str, Any]] = [
        {"type": "RUN", "args": ["a"]},
        {"type": "ENV", "args": ["A", "1"], "force": True},
        {"type": "RUN", "args": ["b"], "force": False},
        {"type": "COPY", "args": ["a", "/x"], "filesHash": FILES},
    ]
    assert [step.force for step in of(*steps) if not isinstance(step, Env)] == [False, True, True]
    assert all(step.force for step in of(*steps, force=True) if not isinstance(step, Env))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"type": "FLY", "args": []}, "'FLY' is not known; COPY, RUN, ENV, WORKDIR, USER are"),
        ({"type": "", "args": []}, "'' is not known"),
        ({"type": "RUN"}, "RUN needs 1 argument"),
        ({"type": "RUN", "args": [""]}, "RUN needs 1 argument"),
        ({"type": "RUN", "args": [" \n"]}, "RUN needs a command"),
        ({"type": "RUN", "args": ["id", "a b"]}, "'a b' is not a user"),
        ({"type": "RUN", "args": ["id", "a\nb"]}, "is not a user"),
        ({"type": "RUN", "args": ["x" * (MAX_COMMAND_BYTES + 1)]}, "COPY it as a script"),
        ({"type": "RUN", "args": ["a\0b"]}, "holds a NUL byte"),
        ({"type": "RUN", "args": ["\ud800"]}, "half of a surrogate pair"),
        ({"type": "ENV", "args": []}, "ENV needs pairs"),
        ({"type": "ENV", "args": ["A"]}, "ENV needs pairs"),
        ({"type": "ENV", "args": ["A-B", "1"]}, "'A-B' is not a variable name"),
        ({"type": "ENV", "args": ["A\n", "1"]}, "is not a variable name"),
        ({"type": "ENV", "args": [f"A{n // 2}" for n in range(600)]}, "has 300 variables"),
        ({"type": "ENV", "args": ["A", "x" * 200_000]}, "takes 200001 bytes"),
        ({"type": "WORKDIR", "args": [""]}, "WORKDIR needs 1 argument"),
        ({"type": "WORKDIR", "args": ["/" + "x" * 5000]}, "1 to 4096 are expected"),
        ({"type": "USER", "args": ["; exit 1"]}, "'; exit 1' is not a user"),
        ({"type": "USER", "args": ["a:b:c"]}, "is not a user"),
        ({"type": "USER", "args": ["-x"]}, "is not a user"),
        ({"type": "COPY", "args": ["a"], "filesHash": FILES}, "COPY needs 2 arguments"),
        ({"type": "COPY", "args": ["a", ""], "filesHash": FILES}, "the destination has 0 bytes"),
        ({"type": "COPY", "args": ["a", "/x"]}, "COPY needs filesHash"),
        ({"type": "COPY", "args": ["a", "/x"], "filesHash": "../" + FILES[3:]}, "COPY needs filesHash"),
        ({"type": "COPY", "args": ["a", "/x"], "filesHash": FILES.upper()}, "COPY needs filesHash"),
        ({"type": "COPY", "args": ["/etc/passwd", "/x"], "filesHash": FILES}, "is not within the directory of files"),
        ({"type": "COPY", "args": ["../a", "/x"], "filesHash": FILES}, "is not within the directory of files"),
        ({"type": "COPY", "args": ["a/../../b", "/x"], "filesHash": FILES}, "is not within the directory of files"),
        ({"type": "COPY", "args": ["a", "/x", "a b"], "filesHash": FILES}, "'a b' is not a user"),
        ({"type": "COPY", "args": ["a", "/x", "", "u+x"], "filesHash": FILES}, "'u+x' is not octal"),
        ({"type": "COPY", "args": ["a", "/x", "", "0888"], "filesHash": FILES}, "is not octal"),
    ],
)
def test_refused(step: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        of({"type": "RUN", "args": ["true"]}, step)
    assert raised.value.message.startswith("step 2 (") and said in raised.value.message
    assert raised.value.details == {"step": "2"}


def test_ten_thousand_steps() -> None:
    with pytest.raises(InvalidArgument, match="there are 10000 steps; at most 500 are allowed"):
        of(*[{"type": "RUN", "args": ["true"]}] * 10_000)


def test_small_letters_and_more_arguments_than_are_known() -> None:
    assert isinstance(one("run", "id", "root", "and more"), Run)


def test_what_is_shown_is_one_line_of_a_bounded_length() -> None:
    assert one("RUN", "a\n\x1b[31mb").where.text == "RUN a\\n\\x1b[31mb"
    assert len(one("RUN", "x" * 5000).where.text) == MAX_SHOWN
