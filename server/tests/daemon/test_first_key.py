from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from atolld.control.testing import World
from atolld.daemon.first_key import ensure_first_key, key_file, write_client_config, write_private


async def test_it_is_made_once_and_serves(tmp_path: Path) -> None:
    world = await World.open(tmp_path / "db")
    secret = await ensure_first_key(world.keys, world.project, tmp_path)
    assert (await world.keys.authenticate(secret)).project_id == world.project.id
    assert await ensure_first_key(world.keys, world.project, tmp_path) == secret
    assert len(await world.keys.list(world.project.id)) == 1
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
    await world.close()


@pytest.mark.parametrize("damage", ["remove", "revoke", "garble"])
async def test_a_new_one_is_made_when_it_does_not_serve_any_more(tmp_path: Path, damage: str) -> None:
    world = await World.open(tmp_path / "db")
    old = await ensure_first_key(world.keys, world.project, tmp_path)
    if damage == "remove":
        key_file(tmp_path).unlink()
    elif damage == "garble":
        key_file(tmp_path).write_text("nonsense")
    else:
        (key,) = await world.keys.list(world.project.id)
        await world.keys.revoke(world.project.id, key.id)
    new = await ensure_first_key(world.keys, world.project, tmp_path)
    assert new != old
    await world.keys.authenticate(new)
    await world.close()


def test_the_client_is_told(tmp_path: Path) -> None:
    config = tmp_path / "home" / ".config" / "atoll" / "config.json"
    assert write_client_config(config, "http://x:1", "key1", (os.getuid(), os.getgid()))
    assert json.loads(config.read_text()) == {"api_url": "http://x:1", "api_key": "key1"}
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert write_client_config(config, "http://x:1", "key2", None)
    assert json.loads(config.read_text())["api_key"] == "key2"


@pytest.mark.parametrize("content", ['{"api_url": "https://elsewhere", "api_key": "k"}', "{", "[]"])
def test_what_the_user_wrote_is_left_alone(tmp_path: Path, content: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(content)
    assert not write_client_config(config, "http://x:1", "key", None)
    assert config.read_text() == content


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "f"
    victim.write_text("mine")
    path.symlink_to(victim)
    (tmp_path / "f.new").symlink_to(victim)
    write_private(path, "secret")
    assert victim.read_text() == "mine" and path.read_text() == "secret" and not path.is_symlink()
