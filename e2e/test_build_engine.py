"""Builds on the real runtimes: what comes out, what is cached, and what is left when one fails, is ended or killed."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from atoll import Sandbox
from e2e.builds import Asked, asked, build, layer, upload, with_own_cache
from e2e.conftest import Daemon

FROM = "FROM template://base\n"
APP = """
FROM template://base AS tools
RUN mkdir /out && echo "built by $(id -un)" > /out/tool
FROM template://base
ARG GREETED=nobody
ENV GREETING="hello $GREETED" PATH=/opt/bin:$PATH
WORKDIR /app
COPY --chown=user:user src/ .
COPY --from=tools /out/tool /opt/bin/
RUN <<EOF
set -e
python3 main.py > said
ln -s /opt/bin/tool link
rm /usr/bin/wget
EOF
USER user
"""
FILES = {"src/main.py": b"print('from the image')\n", "src/sub/data": b"1", "unused": b"2"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    yield from with_own_cache(tmp_path_factory.mktemp("atoll-builds"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    yield from with_own_cache(tmp_path)


def test_nothing_changed(served: Daemon) -> None:
    files = upload(served, FILES)
    steps = "".join(f"RUN echo {number} > /step{number}\n" for number in range(20))
    text = FROM + "COPY src/ /app\n" + steps
    first, _ = build(served, text, context=files)
    again = upload(served, FILES)
    before = launches(served)
    took_s = []
    for name in (files, files, files, again):
        began = time.perf_counter()
        second, log = build(served, text, context=name)
        took_s.append(time.perf_counter() - began)
        assert second["layers"] == first["layers"]
        assert sum(line.startswith("CACHED") for line in log) == 21
    assert launches(served) == before
    assert min(took_s) < 0.3 + 21 * 0.005, took_s


def test_forced(served: Daemon) -> None:
    text = FROM + "RUN date +%s%N > /id\n"
    one, _ = build(served, text)
    two, _ = build(served, text, force=True)
    three, _ = build(served, text)
    assert one["layers"] != two["layers"] == three["layers"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("RUN head -c 200M /dev/zero > /big", "No space left on device"),
        ("RUN python3 -c 'x = bytearray(2 << 30)'", None),
        ("RUN kill -9 $$", "signal"),
        ("USER nobody-like-this\nRUN true", "nobody-like-this"),
        ("COPY missing /", "missing"),
        ("RUN /bin/no-such-program", "not found"),
    ],
)
def test_what_goes_wrong_in_a_step(served: Daemon, step: str, said: str | None) -> None:
    files = upload(served, {"there": b""})
    one = asked(served, disk_mib=100, memory_mib=256).start(dockerfile=FROM + step + "\n", context=files)
    made = one.ended()
    assert made["state"] == "failed"
    assert said is None or said in repr(made["failure"]), made["failure"]


def test_secrets_are_in_no_layer_and_no_log(served: Daemon) -> None:
    secret = "s3cr3t-that-nobody-may-see"
    text = FROM + (
        "ARG TOKEN\n"
        'RUN --mount=type=secret,id=key test "$(cat /run/secrets/key)" = "$EXPECTED" || cat /run/secrets/key\n'
        "RUN --mount=type=secret,id=key,target=/root/key sha256sum /root/key > /sum; cat /root/key\n"
        "RUN test ! -e /run/secrets/key && test ! -e /root/key\n"
        'RUN echo "$TOKEN" | sha256sum > /token-sum\n'
    )
    made, log = build(served, text, secrets={"key": secret}, args={"TOKEN": "an-argument-4711"})
    assert made["state"] == "ready", log
    assert not any(secret in line for line in log) and any("***" in line for line in log)
    found = []
    for digest in made["layers"][1:]:
        for path in layer(served, digest).rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += [path for text in (secret, "an-argument-4711") if text.encode() in data]
        assert secret not in (layer(served, digest).parent / "manifest.json").read_text()
    assert found == []
    everywhere = [path for path in served.state_dir.rglob("*") if path.is_file() and path.suffix in (".jsonl", ".log")]
    assert everywhere and not any(secret in path.read_text(errors="replace") for path in everywhere)


def test_stages_run_side_by_side(served: Daemon) -> None:
    stage = "FROM template://base AS s{0}\nRUN date +%s.%N > /began; sleep 2; date +%s.%N > /ended\n"
    text = "".join(stage.format(number) for number in (1, 2)) + FROM
    text += "".join(f"COPY --from=s{number} /began /ended /s{number}/\n" for number in (1, 2))
    made, log = build(served, text)
    assert made["state"] == "ready", log
    one, two = (
        tuple(float((layer(served, digest) / f"s{number}" / name).read_text()) for name in ("began", "ended"))
        for number, digest in ((1, made["layers"][1]), (2, made["layers"][2]))
    )
    assert max(one[0], two[0]) < min(one[1], two[1])


def test_the_same_again_from_nothing(served: Daemon) -> None:
    files = upload(served, FILES)
    trees = []
    for _ in range(2):
        made, log = build(served, APP, context=files, force=True)
        assert made["state"] == "ready", log
        trees.append([tree(layer(served, digest)) for digest in made["layers"][1:]])
    assert trees[0] == trees[1]
    assert sum(map(len, trees[0])) > 8


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every path with what it is, times aside."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
        contents: object = None
        if stat.S_ISREG(status.st_mode):
            contents = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            contents = os.readlink(path)
        elif stat.S_ISCHR(status.st_mode):
            contents = status.st_rdev
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, attributes, contents)
    return found


def test_a_background_process_does_not_hold_the_step(served: Daemon) -> None:
    made, log = build(served, FROM + "RUN (trap '' TERM HUP; sleep 1000) >/dev/null 2>&1 & echo started\n")
    assert made["state"] == "ready", log


def test_an_image_given_up_leaves_nothing(served: Daemon) -> None:
    before = served.settle()
    body = {"base": {"template": "base"}, "steps": [{"run": "echo begun; sleep 1000"}]}
    with httpx.stream(
        "POST", f"{served.url}/v1/images/build", json=body, headers={"x-api-key": served.key}, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            if "begun" in line and "builder" not in line:
                break
    deadline = time.monotonic() + 30
    while served.settle().counts() != before.counts():
        assert time.monotonic() < deadline, served.census().difference(before)


def test_killed_at_its_end(own: Daemon) -> None:
    before = own.settle()
    body = {"dockerfile": FROM + "RUN echo 1 > /one\n", "start_command": "sleep 1000", "ready_command": "true"}
    for point in (
        "build.before_pin",
        "template_save.after_insert",
        "template_save.after_save",
        "build.before_finish",
    ):
        own.kill_hard()
        own.start(crash=point)
        one = asked(own, "app").start(**body)
        own.wait_end()
        own.start()
        assert one.get()["state"] == "failed"
        counts = own.settle().counts()
        assert counts == before.counts(), (point, own.census().difference(before))
    assert asked(own, "app").start(**body).ended()["state"] == "ready"
    with Sandbox.create(template="app", config=own.config) as sandbox:
        assert sandbox.run("pgrep -x sleep && cat /one").exit_code == 0
    assert own.api("POST", "/v1/images/prune").status_code == 200
    assert building(own) == []


def test_many_at_once(served: Daemon) -> None:
    many: list[Asked] = []
    text = FROM + "RUN echo shared > /shared\nRUN echo {0} > /own\n"
    threads = [
        threading.Thread(target=lambda number=number: many.append(asked(served).start(dockerfile=text.format(number))))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.ended()["state"] for one in many] == ["ready"] * 12
    assert len({one.get()["layers"][1] for one in many}) == 1


def building(daemon: Daemon) -> list[Path]:
    """Layers that were begun and neither finished nor removed."""
    return list((Path(daemon.settings["ATOLL_CACHE_DIR"]) / "layers").glob(".building-*"))


def launches(daemon: Daemon) -> float:
    """How many sandboxes builds have started so far."""
    lines = daemon.api("GET", "/metrics").text.splitlines()
    found = [float(line.split()[-1]) for line in lines if line.startswith("atoll_build_sandboxes_total")]
    assert found
    return sum(found)
