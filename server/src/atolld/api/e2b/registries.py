"""The three ways in which E2B's clients log in to registries, as user name and password."""

from __future__ import annotations

import json
from collections.abc import Mapping

from atolld.foundation.errors import InvalidArgument, Unimplemented
from atolld.images.registry import Credentials

# What Google's registries take a service account's key under.
_GOOGLE_USER = "_json_key"


def credentials_of(config: Mapping[str, object] | None) -> Credentials | None:
    """What `fromImageRegistry` says. Raises InvalidArgument, Unimplemented for Amazon's."""
    if config is None:
        return None
    kind = config.get("type")
    if kind == "registry":
        return Credentials(_text(config, "username"), _text(config, "password"))
    if kind == "gcp":
        key = _text(config, "serviceAccountJson")
        try:
            parsed = json.loads(key)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise InvalidArgument("fromImageRegistry.serviceAccountJson is not a JSON object")
        return Credentials(_GOOGLE_USER, key)
    if kind == "aws":
        raise Unimplemented(
            "fromImageRegistry.type 'aws' is not supported: a signed call to AWS must exchange its keys for a password "
            "first. Get that with `aws ecr get-login-password`, and give it with the user name 'AWS' to from_image"
        )
    raise InvalidArgument(f"fromImageRegistry.type is {str(kind)[:40]!r}; registry, gcp and aws are known")


def _text(config: Mapping[str, object], name: str) -> str:
    value = config.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"fromImageRegistry.{name} is missing")
    return value
