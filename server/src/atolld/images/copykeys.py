"""Digests of what COPY steps read, remembered beside what they read: uploads and layers do not change.

<directory>/keys/<digest of the question>   the answer
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from atolld.core.build import Copy

# More are forgotten: nobody asks so many questions of one upload.
MAX_KEYS = 1000


def remembered(directory: Path, question: str, answer: Callable[[], str]) -> str:
    """The answer that was given to `question` before, or that `answer` gives now. Blocks."""
    keys = directory / "keys"
    place = keys / question
    try:
        return place.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    found = answer()
    keys.mkdir(mode=0o700, exist_ok=True)
    if len(os.listdir(keys)) >= MAX_KEYS:
        shutil.rmtree(keys, ignore_errors=True)
        keys.mkdir(mode=0o700, exist_ok=True)
    new = keys / f".{secrets.token_hex(8)}"
    new.write_text(found, encoding="ascii")
    new.rename(place)
    return found


def question_of(step: Copy, whole: str) -> str:
    """What a step asks of the files that `whole` names: two that ask the same read the same."""
    asked = [whole, step.sources, step.exclude, step.parents, *([] if step.follow else ["links"])]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
