"""Images as values, and what the daemon is told of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll import Image, InvalidArgument
from atoll._image import prepare


def test_images_are_values() -> None:
    base = Image.base()
    one, two = base.run("a"), base.run("b")
    assert len(prepare(base).body["steps"]) == 0
    assert [prepare(image).body["steps"][0]["run"] for image in (one, two)] == ["a", "b"]
    assert repr(Image.registry("a:1").apt("git").env(A="1")) == "Image.registry('a:1').apt('git').env('A')"


@pytest.mark.parametrize(
    ("image", "base"),
    [
        (Image.base(), {"template": "base"}),
        (Image.debian(), {"template": "base"}),
        (Image.debian("12"), {"image": "debian:12"}),
        (Image.template("app:stable"), {"template": "app:stable"}),
        (Image.registry("registry.example/a/b"), {"image": "registry.example/a/b"}),
    ],
)
def test_bases(image: Image, base: dict[str, str]) -> None:
    assert prepare(image).body == {"base": base, "steps": []}


def steps(image: Image) -> list[dict[str, object]]:
    found = json.loads(json.dumps(prepare(image).body["steps"]))
    return [{name: value for name, value in step.items() if name != "text"} for step in found]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.base().run("a", "b"), [{"run": "a", "network": True}, {"run": "b", "network": True}]),
        (
            Image.base().run("a", user="me", envs={"A": "1"}, internet=False),
            [{"run": "a", "network": False, "user": "me", "envs": {"A": "1"}}],
        ),
        (
            Image.base().run("a", secrets=["TOKEN"]),
            [{"run": "a", "network": True, "secrets": [{"id": "TOKEN", "env": "TOKEN"}]}],
        ),
        (Image.base().env({"A": "1"}, B="2"), [{"env": {"A": "1", "B": "2"}}]),
        (Image.base().workdir("/a").user("me"), [{"workdir": "/a"}, {"user": "me"}]),
        (Image.base().npm("a b"), [{"run": "npm install --global 'a b'", "user": "root"}]),
    ],
)
def test_steps(image: Image, expected: object) -> None:
    assert steps(image) == expected


def test_packages_are_quoted(tmp_path: Path) -> None:
    (step,) = steps(Image.base().apt("git", "a;b"))
    assert "install -y --no-install-recommends git 'a;b' &&" in str(step["run"]) and step["user"] == "root"
    (tmp_path / "r.txt").write_text("numpy\n")
    (step,) = steps(Image.base().pip("a>=1", requirements=tmp_path / "r.txt", index_url="https://i/x"))
    assert str(step["run"]).endswith("--index-url https://i/x 'a>=1' -r /dev/stdin")
    assert step["stdin"] == "numpy\n"


def test_secrets_and_logins_do_not_show() -> None:
    image = (
        Image.registry("a", username="me", password="hunter2").secret("TOKEN", "hunter3").run("a", secrets=["TOKEN"])
    )
    assert "hunter" not in repr(image)
    body = prepare(image).body
    assert body["secrets"] == {"TOKEN": "hunter3"} and body["registry"] == {"username": "me", "password": "hunter2"}


def test_copies(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name in ("a.py", "b.pyc", "c.log"):
        (tmp_path / "src" / name).write_text(name)
    (tmp_path / "src" / ".dockerignore").write_text("*.log\n")
    image = Image.base().copy(tmp_path / "src", "/app", owner="me", mode=0o644, exclude=["*.pyc"])
    image = image.copy(tmp_path / "src" / "a.py", "/x/")
    prepared = prepare(image)
    first, second = prepared.contexts
    assert [entry.path for entry in first.entries] == [".dockerignore", "a.py"]
    assert [entry.path for entry in second.entries] == ["a.py"]
    assert steps(image) == [
        {"to": "/app", "owner": "me", "mode": "0644", "copy": ["."], "files": first.name},
        {"to": "/x/", "copy": ["a.py"], "files": second.name},
    ]


def test_a_dockerfile_with_its_context(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian\nRUN copy\n")
    assert prepare(Image.dockerfile(file)).contexts == []
    file.write_text("FROM debian\n  copy a.txt /\n")
    prepared = prepare(Image.dockerfile(file, target="x"))
    assert prepared.body["context"] == prepared.contexts[0].name and prepared.body["target"] == "x"
    assert [entry.path for entry in prepared.contexts[0].entries] == ["Dockerfile", "a.txt"]


REFUSED: dict[str, Callable[[Path], object]] = {
    "name a package": lambda path: Image.base().apt(),
    "is not a package": lambda path: Image.base().apt("--allow-x"),
    "nothing to install": lambda path: Image.base().pip(),
    "no command": lambda path: Image.base().run(),
    "belong together": lambda path: Image.registry("a", username="me"),
    "test_image.py:.*No such file": lambda path: prepare(Image.base().copy(path / "nothing", "/")),
    "not UTF-8": lambda path: prepare(Image.dockerfile(path / "binary")),
    "has more than": lambda path: prepare(Image.dockerfile(path / "large")),
}


@pytest.mark.parametrize("said", REFUSED)
def test_refused(said: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(InvalidArgument, match=said):
        REFUSED[said](tmp_path)
