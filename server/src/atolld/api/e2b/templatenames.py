"""How E2B's clients name templates that they build: `name`, `name:tag`, `<project>/name:tag`, in any case. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from atolld.core.templatenames import DEFAULT_TAG, TemplateRef, check_tags, check_template_name, parse_template_ref
from atolld.foundation.errors import InvalidArgument

__all__ = ["DEFAULT_TAG", "new_name", "own_ref", "shown_names", "tags_of"]


def new_name(text: str, tags: Sequence[str], namespace: str) -> tuple[str, tuple[str, ...]]:
    """The name of a template that is to be built, and the tags of the build; none means `default`.

    Raises InvalidArgument for a bad one, and for the name of another project's.
    """
    ref = own_ref(text, namespace)
    named = [ref.tag] if ":" in text else []
    return check_template_name(ref.name), tags_of([*named, *tags])


def own_ref(text: str, namespace: str) -> TemplateRef:
    """`text` as the name of one of the project's own templates. Raises InvalidArgument as `new_name` does."""
    ref = parse_template_ref(text.strip().lower())
    if ref.project is not None and ref.project != namespace:
        raise InvalidArgument(f"namespace {ref.project!r} must match your project {namespace!r}")
    return ref


def tags_of(tags: Sequence[str]) -> tuple[str, ...]:
    """`tags` as they are kept, without repetitions. Raises InvalidArgument for a bad one."""
    return check_tags(tuple(tag.strip().lower() for tag in tags))


def shown_names(name: str, namespace: str) -> list[str]:
    """What a project's template is called by everybody who may use it."""
    return [f"{namespace}/{name}"]
