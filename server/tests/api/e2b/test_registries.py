from __future__ import annotations

import pytest

from atolld.api.e2b.registries import credentials_of
from atolld.foundation.errors import AtollError, InvalidArgument, Unimplemented
from atolld.images.registry import Credentials


def test_none() -> None:
    assert credentials_of(None) is None


def test_a_user_with_a_password() -> None:
    given = {"type": "registry", "username": "me", "password": "secret", "more": 1}
    assert credentials_of(given) == Credentials("me", "secret")


def test_a_key_of_google() -> None:
    key = '{"type": "service_account", "private_key": "x"}'
    assert credentials_of({"type": "gcp", "serviceAccountJson": key}) == Credentials("_json_key", key)


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        ({}, InvalidArgument, "type is 'None'; registry, gcp and aws are known"),
        ({"type": "docker"}, InvalidArgument, "type is 'docker'"),
        ({"type": "registry", "username": "me"}, InvalidArgument, "fromImageRegistry.password is missing"),
        ({"type": "registry", "username": 5, "password": "x"}, InvalidArgument, "username is missing"),
        ({"type": "gcp", "serviceAccountJson": "[]"}, InvalidArgument, "is not a JSON object"),
        ({"type": "gcp", "serviceAccountJson": "{"}, InvalidArgument, "is not a JSON object"),
        ({"type": "aws", "awsAccessKeyId": "a"}, Unimplemented, "aws ecr get-login-password"),
    ],
)
def test_refused(config: dict[str, object], kind: type[AtollError], said: str) -> None:
    with pytest.raises(kind) as raised:
        credentials_of(config)
    assert said in raised.value.message
