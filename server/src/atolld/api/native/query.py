"""Values in paths and query strings."""

from __future__ import annotations

from urllib.parse import parse_qsl

from atolld.core.snapshot import check_snapshot_ref
from atolld.foundation.errors import InvalidArgument, NotFound
from atolld.foundation.ids import PoolId, SandboxId, parse_sandbox_id

MAX_PAIRS = 16


def sandbox_id(text: str) -> SandboxId:
    """`text` as a sandbox id. Raises NotFound: what cannot be an id names no sandbox."""
    try:
        return parse_sandbox_id(text)
    except InvalidArgument as error:
        raise NotFound(f"there is no such sandbox: {error.message}") from None


def snapshot_ref(text: str) -> str:
    """`text` as a snapshot's id or name. Raises NotFound: what can be neither names no snapshot."""
    try:
        return check_snapshot_ref(text)
    except InvalidArgument:
        raise NotFound(f"there is no snapshot {text[:80]!r}") from None


def pool_id(text: str) -> PoolId:
    """`text` as a pool's id. Raises NotFound: what cannot be an id names no pool."""
    try:
        return PoolId(parse_sandbox_id(text))
    except InvalidArgument:
        raise NotFound(f"there is no pool {text[:80]!r}") from None


def metadata_filter(text: str) -> dict[str, str]:
    """`k1=v1&k2=v2` (once decoded) as pairs. Raises InvalidArgument when it has another form or over 16 pairs."""
    if not text:
        return {}
    try:
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_PAIRS))
    except ValueError:
        raise InvalidArgument(
            f"metadata is {text[:80]!r}: pairs like 'run=7&kind=test', form-encoded, at most {MAX_PAIRS}, are expected"
        ) from None
