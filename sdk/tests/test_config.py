"""Where the address and the key come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atoll import Config, InvalidArgument
from atoll._config import config_path


def store(value: object) -> None:
    path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def test_the_file_is_under_the_users_config_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config_path() == tmp_path / "config" / "atoll" / "config.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_path() == tmp_path / ".config" / "atoll" / "config.json"


def test_nothing_set() -> None:
    assert Config.load() == Config("http://127.0.0.1:8880", None)


def test_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    store({"api_url": "http://127.0.0.1:1/", "api_key": "stored", "more": 1})
    assert (Config.load().api_url, Config.load().api_key) == ("http://127.0.0.1:1", "stored")
    monkeypatch.setenv("ATOLL_API_KEY", "mine")
    assert (Config.load().api_url, Config.load().api_key) == ("http://127.0.0.1:1", "mine")


def test_a_stored_key_never_goes_to_another_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    store({"api_url": "http://127.0.0.1:1", "api_key": "stored"})
    monkeypatch.setenv("ATOLL_API_URL", "https://elsewhere.example")
    assert Config.load().api_key is None
    monkeypatch.setenv("ATOLL_API_URL", "http://127.0.0.1:1/")
    assert Config.load().api_key == "stored"


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOLL_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ATOLL_API_KEY", "mine")
    loaded = Config.load(api_url="http://127.0.0.1:2", api_key="given")
    assert (loaded.api_url, loaded.api_key) == ("http://127.0.0.1:2", "given")


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_a_broken_file_is_named(text: str) -> None:
    store(text)
    with pytest.raises(InvalidArgument, match="config.json"):
        Config.load()


@pytest.mark.parametrize("url", ["", "localhost:8880", "ftp://x", "http://", "//x"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidArgument, match="ATOLL_API_URL"):
        Config(api_url=url)


@pytest.mark.parametrize("key", ["a\nb", "é", "a\x00"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(InvalidArgument, match="ATOLL_API_KEY"):
        Config(api_key=key)


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Config(api_key="secret"))


@pytest.mark.parametrize(
    ("url", "loopback", "tls"),
    [
        ("http://127.0.0.1:8880", True, False),
        ("http://localhost", True, False),
        ("http://[::1]:1", True, False),
        ("https://atoll.example", False, True),
    ],
)
def test_where_the_daemon_is(url: str, loopback: bool, tls: bool) -> None:
    assert (Config(url).is_loopback, Config(url).is_tls) == (loopback, tls)
