"""The digests that name what a step makes: of everything the result depends on, and of nothing else.

A key has the layers below it, what the step says, and what it reads. Not in it: who builds, the runtime and its bounds,
the values of secrets (their names are), times, and what the host lends to builds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from atolld.control.builds.progress import Progress
from atolld.core.build import Copy, Run
from atolld.foundation.ids import ProjectId

# Raise it when the same step would come out otherwise.
FORMAT_VERSION = 1


def run_key(step: Run, before: Progress, project_id: ProjectId) -> str:
    """Of a command; of the project's own where it reads a cache that is."""
    caches = {"caches": [asdict(cache) for cache in step.caches], "project": project_id} if step.caches else {}
    return _digest(
        "run",
        before.layers,
        argv=step.argv,
        envs={**before.envs, **step.envs},
        user=step.user or before.user,
        workdir=before.workdir,
        stdin=step.stdin,
        network=step.network,
        secrets=[asdict(secret) for secret in step.secrets],
        memory=step.memory,
        **caches,
    )


def copy_key(step: Copy, before: Progress, files: str) -> str:
    """Of files; `files`: the digest of what it reads."""
    return _digest(
        "copy",
        before.layers,
        files=files,
        sources=step.sources,
        destination=step.destination,
        inline=dict(step.inline),
        owner=step.owner,
        mode=step.mode,
        unpack=step.unpack,
        parents=step.parents,
        exclude=step.exclude,
        workdir=before.workdir,
    )


def directory_key(path: str, owner: str, before: Progress) -> str:
    """Of a directory that is made when it is missing."""
    return _digest("directory", before.layers, path=path, owner=owner)


def _digest(kind: str, layers: tuple[str, ...], **what: object) -> str:
    canonical = json.dumps([FORMAT_VERSION, kind, layers, what], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
