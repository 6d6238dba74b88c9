"""What templates are called: `name`, `name:tag`, `<project>/name[:tag]`, a template's id with or without a tag, or a
build's id, which is one version for ever."""

from __future__ import annotations

import re
from dataclasses import dataclass

from atolld.foundation.errors import InvalidArgument
from atolld.foundation.ids import BuildId, TemplateId, is_build_id, is_snapshot_id, is_template_id, parse_name

DEFAULT_TAG = "default"
MAX_TAG = 128
MAX_TAGS = 64
_TAG = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """What a name says. `project`: None where none is named. `name` may be a template's id. `tag`: `default` where none
    is named; it may be a build's id, as in `name:<build>`, and then means that build."""

    project: str | None
    name: str
    tag: str = DEFAULT_TAG

    @property
    def template_id(self) -> TemplateId | None:
        """The id, where `name` is one."""
        return TemplateId(self.name) if self.project is None and is_template_id(self.name) else None

    @property
    def build_id(self) -> BuildId | None:
        """The build, where one is named instead of a tag."""
        return BuildId(self.tag) if is_build_id(self.tag) else None


def parse_template_ref(text: str) -> TemplateRef:
    """`text` as the name of a template, see the module. A build's id alone has no name: see `is_build_id`.

    Raises InvalidArgument, also for `:tag` and `name:`.
    """
    path, colon, tag = text.partition(":")
    if not path:
        raise InvalidArgument(f"{text[:80]!r} names no template: write 'name' or 'name:tag'")
    if colon and not tag:
        raise InvalidArgument(f"{text[:80]!r} ends with ':': write the tag behind it, or leave it out")
    project, slash, name = path.rpartition("/")
    if slash:
        _within(project, "project", text)
    _within(name, "template", text)
    return TemplateRef(project if slash else None, name, check_tag(tag) if colon else DEFAULT_TAG)


def check_template_name(text: str) -> str:
    """`text` as the name of a new template: 1 to 64 of `a-z 0-9 . _ -`. Raises InvalidArgument.

    What has the form of an id is refused: it could never be found.
    """
    parse_name(text, "template")
    if is_template_id(text) or is_build_id(text) or is_snapshot_id(text):
        raise InvalidArgument(f"{text!r} has the form of an id; use another name for the template")
    return text


def check_tag(text: str) -> str:
    """`text` as a tag: 1 to 128 of `a-z 0-9 . _ -`, not beginning or ending with `.` or `-`. Raises InvalidArgument."""
    if len(text) > MAX_TAG or not _TAG.fullmatch(text):
        raise InvalidArgument(
            f"{text[:80]!r} is not a valid tag: use 1 to {MAX_TAG} of a-z, 0-9, '.', '_' and '-', beginning and ending "
            "with a letter, a digit or '_'"
        )
    return text


def check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """`tags` without repetitions, as those of a new build or of an assignment. Raises InvalidArgument.

    What has the form of a build's id is refused: `name:<id>` means the build.
    """
    if len(tags) > MAX_TAGS:
        raise InvalidArgument(f"there are {len(tags)} tags; at most {MAX_TAGS} are allowed at once")
    for tag in tags:
        if is_build_id(check_tag(tag)):
            raise InvalidArgument(f"{tag!r} has the form of a build's id; use another tag")
    return tuple(dict.fromkeys(tags))


def _within(part: str, what: str, text: str) -> None:
    try:
        parse_name(part, what)
    except InvalidArgument as error:
        raise InvalidArgument(f"{text[:80]!r} is not the name of a template: {error.message}") from None
