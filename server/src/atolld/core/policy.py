"""What happens to a sandbox when its time is up, and while nobody uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from atolld.foundation.errors import InvalidArgument

MIN_IDLE_S = 1
MAX_IDLE_S = 30 * 24 * 3600


class OnTimeout(StrEnum):
    """What the end of a sandbox's time does."""

    KILL = "kill"
    PAUSE = "pause"


class OnIdle(StrEnum):
    """What is done with a sandbox that nobody has used for `idle_timeout_s`. FREEZE stops its processes where they are
    and keeps its memory; PAUSE saves it to disk and frees its memory."""

    FREEZE = "freeze"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """`keep_memory`: whether a pause by timeout or idleness keeps memory and processes, or files only.

    `auto_resume`: whether a request to the agent or a port wakes a paused sandbox; a frozen one is always woken.
    `idle_timeout_s`: seconds without a request in flight and with next to no CPU use after which `on_idle` is done;
    None: never. `pause_after_s`: with FREEZE, seconds frozen after which it is paused to disk; None: never.
    """

    on_timeout: OnTimeout = OnTimeout.KILL
    keep_memory: bool = True
    auto_resume: bool = True
    idle_timeout_s: int | None = None
    on_idle: OnIdle = OnIdle.FREEZE
    pause_after_s: int | None = None

    def check(self) -> None:
        """Raises InvalidArgument when a time is out of its range or has no meaning beside the others."""
        for name, value in (("idle_timeout_s", self.idle_timeout_s), ("pause_after_s", self.pause_after_s)):
            if value is not None and not MIN_IDLE_S <= value <= MAX_IDLE_S:
                raise InvalidArgument(f"{name} is {value}; it must be between {MIN_IDLE_S} and {MAX_IDLE_S}")
        if self.pause_after_s is not None and (self.idle_timeout_s is None or self.on_idle is not OnIdle.FREEZE):
            raise InvalidArgument("pause_after_s needs idle_timeout_s, and on_idle 'freeze'")

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> LifecyclePolicy:
        """What `to_json` made; fields that an older version did not write have their defaults."""
        values = dict(stored)
        if "on_timeout" in values:
            values["on_timeout"] = OnTimeout(str(values["on_timeout"]))
        if "on_idle" in values:
            values["on_idle"] = OnIdle(str(values["on_idle"]))
        return cls(**values)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        """Every field as a JSON value."""
        return {name: str(v) if isinstance(v, StrEnum) else v for name, v in asdict(self).items()}
