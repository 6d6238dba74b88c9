"""What code that ran in a code interpreter leaves: values that display themselves in a notebook."""

from __future__ import annotations

import base64
import binascii
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll._errors import Internal
from atoll.charts import Chart, parse

_MIME = {
    "text": "text/plain",
    "html": "text/html",
    "markdown": "text/markdown",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "pdf": "application/pdf",
    "latex": "text/latex",
    "json": "application/json",
    "javascript": "application/javascript",
}
_TEXTS = ("text", "html", "markdown", "svg", "latex", "javascript")
_IMAGES = ("png", "jpeg", "pdf")


@dataclass(frozen=True)
class CodeContext:
    """Where code runs: a kernel of one language with its variables. `cwd`: the directory that it started in."""

    id: str
    language: str
    cwd: str

    @classmethod
    def from_json(cls, value: Any) -> CodeContext:
        """Read the interpreter's form. Raises Internal when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            raise Internal("the code interpreter told of a context without an id")
        return cls(value["id"], str(value.get("language", "")), str(value.get("cwd", "")))


@dataclass(frozen=True)
class CodeError:
    """Why code ended early: the name of its exception, what it says, and where it came from, as the language prints it.

    A kernel that died is told as one, too: the names are then "ContextRestarting" or "UnexpectedEndOfExecution".
    """

    name: str
    value: str
    traceback: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"


@dataclass(frozen=True)
class CodeResult:
    """One value that was displayed, in every form it has; others are None.

    is_main: it is the value of the last expression, not one that was displayed on the way. png, jpeg, pdf: the files'
    bytes. data: a data frame's columns, by name. chart: what a figure shows. extra: forms of other media types. In a
    notebook it looks as it would have looked there.
    """

    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: bytes | None = field(default=None, repr=False)
    jpeg: bytes | None = field(default=None, repr=False)
    pdf: bytes | None = field(default=None, repr=False)
    latex: str | None = None
    json: Any = None
    javascript: str | None = None
    data: Mapping[str, Sequence[Any]] | None = None
    chart: Chart | None = None
    is_main: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CodeResult:
        """Read the interpreter's form; what has another type than it should is left out."""
        texts: dict[str, Any] = {name: value[name] for name in _TEXTS if isinstance(value.get(name), str)}
        images: dict[str, Any] = {name: image for name in _IMAGES if (image := _bytes(value.get(name))) is not None}
        data, extra = value.get("data"), value.get("extra")
        return cls(
            **texts,
            **images,
            json=value.get("json"),
            data=data if isinstance(data, dict) else None,
            chart=parse(value.get("chart")),
            is_main=value.get("is_main_result") is True,
            extra=extra if isinstance(extra, dict) else {},
        )

    @property
    def formats(self) -> Sequence[str]:
        """The forms it has: names of the fields that are set, and media types of `extra`."""
        names = [name for name in (*_MIME, "data", "chart") if getattr(self, name) is not None]
        return [*names, *self.extra]

    def __str__(self) -> str:
        return self.text if self.text is not None else f"({', '.join(self.formats)})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = dict(self.extra)
        for name, mime in _MIME.items():
            value = getattr(self, name)
            if value is not None:
                bundle[mime] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        return bundle

    def _repr_html_(self) -> str | None:
        return self.html

    def _repr_markdown_(self) -> str | None:
        return self.markdown

    def _repr_svg_(self) -> str | None:
        return self.svg

    def _repr_png_(self) -> bytes | None:
        return self.png

    def _repr_jpeg_(self) -> bytes | None:
        return self.jpeg

    def _repr_pdf_(self) -> bytes | None:
        return self.pdf

    def _repr_latex_(self) -> str | None:
        return self.latex

    def _repr_json_(self) -> Any:
        return self.json

    def _repr_javascript_(self) -> str | None:
        return self.javascript


@dataclass(frozen=True)
class Logs:
    """What was printed, piece by piece as it came."""

    stdout: Sequence[str] = ()
    stderr: Sequence[str] = ()


@dataclass(frozen=True)
class Execution:
    """Code that ran to its end, or to its error.

    results: what was displayed, and last the value of the last expression. error: None unless the code failed.
    execution_count: how many times code ran in this context, this one included; None when it is not known.
    """

    results: Sequence[CodeResult] = ()
    logs: Logs = Logs()
    error: CodeError | None = None
    execution_count: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the code did not fail."""
        return self.error is None

    @property
    def text(self) -> str | None:
        """The value of the last expression as text, None when there is none."""
        return next((result.text for result in self.results if result.is_main), None)

    @property
    def stdout(self) -> str:
        """All of standard output."""
        return "".join(self.logs.stdout)

    @property
    def stderr(self) -> str:
        """All of standard error."""
        return "".join(self.logs.stderr)

    def _repr_html_(self) -> str:
        """In a notebook: what was printed, then every result that a page can hold, then the error."""
        parts = [_pre(self.stdout), _pre(self.stderr, "background:#fdd")]
        parts += [_as_html(result) for result in self.results]
        if self.error is not None:
            parts.append(_pre(self.error.traceback or str(self.error), "background:#fdd"))
        return "\n".join(part for part in parts if part)


def _bytes(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value) if isinstance(value, str) else None
    except binascii.Error:
        return None


def _pre(text: str, style: str = "") -> str:
    if not text:
        return ""
    return f'<pre style="{style}">{html.escape(_without_colours(text))}</pre>'


def _without_colours(text: str) -> str:
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] if "m" in part[:12] else part for part in parts[1:])


def _as_html(result: CodeResult) -> str:
    if result.html is not None:
        return result.html
    if result.svg is not None:
        return result.svg
    for kind, image in (("png", result.png), ("jpeg", result.jpeg)):
        if image is not None:
            return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(image).decode()}">'
    return _pre(str(result))
