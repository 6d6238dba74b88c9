from __future__ import annotations

from typing import Any

import pytest

from atolld.api.e2b.creation import refuse_what_is_missing
from atolld.api.e2b.requests import NewSandbox
from atolld.foundation.errors import AtollError, InvalidArgument, Unimplemented


@pytest.mark.parametrize(
    "body",
    [
        {"autoPause": False, "autoPauseMemory": True},
        {"autoResume": {"enabled": False}},
        {"autoResume": {}},
        {"iam": {"tokens": {}}, "volumeMounts": [], "mcp": {}},
        {"unheardOf": {"x": 1}},
    ],
)
def test_what_asks_for_nothing_passes(body: dict[str, Any]) -> None:
    refuse_what_is_missing(NewSandbox.model_validate({"templateID": "base", **body}))


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        ({"autoPause": True}, Unimplemented, "autoPause"),
        ({"autoPause": True, "autoPauseMemory": False}, Unimplemented, "autoPause"),
        ({"autoPauseMemory": False}, InvalidArgument, "autoPauseMemory"),
        (
            {"autoPause": True, "autoPauseMemory": False, "autoResume": {"enabled": True}},
            InvalidArgument,
            "autoResume cannot be enabled",
        ),
        ({"autoResume": {"enabled": True}}, Unimplemented, "autoResume"),
        ({"mcp": {"github": {}}}, Unimplemented, "mcp"),
        ({"iam": {"tokens": {"a": {}}}}, Unimplemented, "iam"),
        ({"volumeMounts": [{"name": "v", "path": "/v"}]}, Unimplemented, "volumes"),
    ],
)
def test_what_is_not_there_is_never_ignored(body: dict[str, Any], kind: type[AtollError], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        refuse_what_is_missing(NewSandbox.model_validate({"templateID": "base", **body}))
