"""`atoll template`: build, list, show, tag, publish and delete what sandboxes start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from atoll._build_models import BuildInfo
from atoll._errors import BuildError, InvalidArgument
from atoll._image import Image
from atoll._sync.daemon import Daemon
from atoll._sync.templates import Templates
from atoll.cli.buildlog import LogPrinter
from atoll.cli.context import FAILED, Settings, interruptible, json_option
from atoll.cli.options import pairs
from atoll.cli.output import age, clean, print_fields, print_json, print_table, size

MAX_SECRET_BYTES = 256 * 1024

EPILOG = """\b
Examples:
  atoll template build . --name app                  the Dockerfile of this directory
  atoll sandbox create --template app
  atoll template build . --name app --tag stable --start 'python -m app' --ready 'curl -fs localhost:8000'
  atoll template tag app:stable production

A TEMPLATE is `name:tag`, `name` (its tag `default`, which builds without --tag get), or `name:<id of a build>`.
"""

BUILD_EPILOG = """\b
Examples:
  atoll template build . --name app
  atoll template build --file docker/app.Dockerfile . --name app --target prod --arg VERSION=3
  NPM_TOKEN=... atoll template build . --name app --secret id=npm,env=NPM_TOKEN
  atoll template build . --name app --memory 2048 --start 'npm start' --ready 'nc -z localhost 3000'

\b
PATH is the directory that COPY reads from; what .dockerignore names is not sent. The steps run one by one in
sandboxes, and each is kept: what did not change is not run again. Ctrl-C cancels the build.
Prints the name and the id of the build; the log goes to standard error.
"""


@click.group(epilog=EPILOG)
def template() -> None:
    """What sandboxes start from: built ahead, with versions and tags."""


@template.command(epilog=BUILD_EPILOG)
@click.argument("path", required=False, type=click.Path(exists=True))
@click.option("--file", "-f", "file", type=click.Path(exists=True, dir_okay=False), help="The Dockerfile.")
@click.option("--name", "-n", required=True, help="Of the template; made when it is new.")
@click.option(
    "--tag", "-t", "tags", multiple=True, help="Points to it once it is ready; repeatable  [default: default]"
)
@click.option("--target", help="The stage that comes out  [default: the last]")
@click.option("--arg", "args", multiple=True, metavar="NAME=VALUE", help="For an ARG; repeatable. No secret.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]", help="For RUN --mount=type=secret."
)
@click.option("--start", "start_command", metavar="COMMAND", help="Running in every sandbox; its memory is saved.")
@click.option("--ready", "ready_command", metavar="COMMAND", help="Ends with 0 when --start is up.")
@click.option("--runtime", help="What isolates its steps and sandboxes  [default: gvisor]")
@click.option("--cpu", type=float, help="Cores  [default: 1]")
@click.option("--memory", type=int, metavar="MIB", help="Memory in MiB  [default: 512]")
@click.option("--disk", type=int, metavar="MIB", help="Writable disk in MiB  [default: 10240]")
@click.option("--no-cache", is_flag=True, help="Run every step.")
@click.option("--public/--private", default=None, help="Whether every project may start from it.")
@click.option("--detach", "-d", is_flag=True, help="Do not wait: `atoll template logs` shows how it goes.")
@json_option
@click.pass_obj
def build(settings: Settings, /, as_json: bool, **options: Any) -> int:
    """Build a version of a template from a Dockerfile."""
    printer = LogPrinter(quiet=as_json)
    image = _image(options["path"], options["file"], options["target"], pairs(options["args"], "--arg"))
    try:
        with interruptible():
            built = _templates(settings).build(
                options["name"],
                image,
                tags=options["tags"],
                runtime=options["runtime"],
                cpu=options["cpu"],
                memory_mib=options["memory"],
                disk_mib=options["disk"],
                start_command=options["start_command"],
                ready_command=options["ready_command"],
                public=options["public"],
                force=options["no_cache"],
                wait=not options["detach"],
                secrets=dict(map(_secret, options["secrets"])),
                on_log=printer.line,
                on_upload=printer.upload,
            )
    except BuildError as error:
        printer.failure(error)
        raise
    finally:
        printer.done()
    if as_json:
        print_json(built.raw)
    else:
        click.echo(f"{options['name']} {built.id}")
    return 0


@template.command(
    epilog="""\b
Example:
  atoll template builtin code-interpreter-v1
  atoll template builtin code-interpreter-v1 --language r --language java
"""
)
@click.argument("name")
@click.option("--language", "languages", multiple=True, help="Beyond the default ones; repeatable.")
@click.option("--detach", "-d", is_flag=True, help="Do not wait: `atoll template logs` shows how it goes.")
@json_option
@click.pass_obj
def builtin(settings: Settings, name: str, languages: tuple[str, ...], detach: bool, as_json: bool) -> None:
    """Build a template that comes with the daemon."""
    printer = LogPrinter(quiet=as_json)
    try:
        with interruptible():
            built = _templates(settings).build_builtin(name, languages=languages, wait=not detach, on_log=printer.line)
    except BuildError as error:
        printer.failure(error)
        raise
    finally:
        printer.done()
    if as_json:
        print_json(built.raw)
    else:
        click.echo(f"{name} {built.id}")


@template.command("list", epilog="\b\nExample:\n  atoll template list")
@json_option
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """Templates of the machine and of your project."""
    found = _templates(settings).list()
    if as_json:
        print_json([one.raw for one in found])
        return
    rows = [
        (
            one.name,
            one.id,
            "machine" if one.machine else "public" if one.public else "private",
            " ".join(sorted(one.tags)),
            "-" if one.size_bytes is None else size(one.size_bytes),
            age(one.built_at),
        )
        for one in found
    ]
    print_table(("NAME", "ID", "OF", "TAGS", "SIZE", "AGE"), rows)


@template.command(epilog="\b\nExample:\n  atoll template show app")
@click.argument("name")
@json_option
@click.pass_obj
def show(settings: Settings, name: str, as_json: bool) -> None:
    """One template."""
    one = _templates(settings).get(name)
    if as_json:
        print_json(one.raw)
        return
    bounds = one.raw
    print_fields(
        [
            ("name", one.name),
            ("id", one.id),
            ("of", "the machine" if one.machine else "public" if one.public else "private"),
            ("tags", dict(one.tags)),
            ("build", None if one.build is None else one.build.id),
            ("built", one.built_at),
            ("size", None if one.size_bytes is None else size(one.size_bytes)),
            ("cpu", bounds.get("cpu")),
            ("memory", f"{bounds.get('memory_mib')} MiB"),
            ("disk", f"{bounds.get('disk_mib')} MiB"),
            ("starts", None if one.build is None else one.build.raw.get("start_command")),
        ]
    )


@template.command(epilog="\b\nExample:\n  atoll template versions app")
@click.argument("name")
@json_option
@click.pass_obj
def versions(settings: Settings, name: str, as_json: bool) -> None:
    """All builds of a template, newest first."""
    templates = _templates(settings)
    found = templates.versions(name)
    if as_json:
        print_json([one.raw for one in found])
        return
    tags = templates.tags(name)
    rows = [
        (
            one.id,
            one.state,
            " ".join(sorted(tag for tag, id in tags.items() if id == one.id)),
            "-" if one.size_bytes is None else size(one.size_bytes),
            age(one.created_at),
            "" if one.failure is None else one.failure.message.partition("\n")[0][:80],
        )
        for one in found
    ]
    print_table(("BUILD", "STATE", "TAGS", "SIZE", "AGE", "WHY"), rows)


@template.command(epilog="\b\nExamples:\n  atoll template tag app stable\n  atoll template tag app:stable production")
@click.argument("template")
@click.argument("tags", nargs=-1, required=True)
@click.pass_obj
def tag(settings: Settings, template: str, tags: tuple[str, ...]) -> None:
    """Let TAGS point to a version, wherever they pointed before."""
    name, _, version = template.partition(":")
    _templates(settings).tag(name, *tags, build=version or None)


@template.command(epilog="\b\nExample:\n  atoll template untag app stable")
@click.argument("name")
@click.argument("tags", nargs=-1, required=True)
@click.pass_obj
def untag(settings: Settings, name: str, tags: tuple[str, ...]) -> None:
    """Remove TAGS; their versions stay."""
    _templates(settings).untag(name, *tags)


@template.command(epilog="\b\nExample:\n  atoll template publish app")
@click.argument("name")
@click.pass_obj
def publish(settings: Settings, name: str) -> None:
    """Let every project of the daemon start from it."""
    _templates(settings).publish(name)


@template.command(epilog="\b\nExample:\n  atoll template unpublish app")
@click.argument("name")
@click.pass_obj
def unpublish(settings: Settings, name: str) -> None:
    """Keep it to your project; sandboxes of others go on."""
    _templates(settings).unpublish(name)


@template.command(epilog="\b\nExample:\n  atoll template delete app other")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def delete(settings: Settings, names: tuple[str, ...]) -> int:
    """Delete templates with all versions; sandboxes made of them go on."""
    templates = _templates(settings)
    gone = [name for name in names if not templates.delete(name)]
    for name in gone:
        click.echo(f"atoll: there is no template {clean(name)!r}", err=True)
    return FAILED if gone else 0


@template.command(epilog="\b\nExample:\n  atoll template logs -f app")
@click.argument("template")
@click.option("--follow", "-f", is_flag=True, help="Go on until the build has ended; fail if it did.")
@json_option
@click.pass_obj
def logs(settings: Settings, template: str, follow: bool, as_json: bool) -> None:
    """What the newest build of TEMPLATE said, or that of `name:tag` or `name:<id of a build>`."""
    templates = _templates(settings)
    found = _version(templates, template)
    printer = LogPrinter(is_result=True)
    for entry in templates.logs(found.template_id, found.id, follow=follow):
        if as_json:
            print_json(entry)
        else:
            printer.line(entry)
    if follow:
        templates.wait(found.template_id, found.id)


@template.command(epilog="\b\nExample:\n  atoll template cancel app")
@click.argument("template")
@click.pass_obj
def cancel(settings: Settings, template: str) -> None:
    """End the newest build of TEMPLATE, or that of `name:<id of a build>`; steps that were done stay in the cache."""
    templates = _templates(settings)
    found = _version(templates, template)
    templates.cancel(found.template_id, found.id)


def _templates(settings: Settings) -> Templates:
    return Daemon(settings.config()).templates


def _version(templates: Templates, template: str) -> BuildInfo:
    name, _, version = template.partition(":")
    found = templates.versions(name)
    if version:
        wanted = templates.tags(name).get(version, version)
        found = [one for one in found if one.id == wanted]
    if not found:
        raise InvalidArgument(f"{template!r} has no build: see `atoll template versions {name}`")
    return found[0]


def _image(path: str | None, file: str | None, target: str | None, args: dict[str, str]) -> Image:
    if path is None and file is None:
        raise click.UsageError("give the directory with the Dockerfile, or --file")
    context: str | None = None
    if file is None and path is not None:
        if os.path.isdir(path):
            context, file = path, os.path.join(path, "Dockerfile")
        else:
            file = path
        if not os.path.isfile(file):
            raise click.UsageError(f"there is no {file!r}: name the Dockerfile with --file")
    elif path is not None:
        if not os.path.isdir(path):
            raise click.UsageError(f"{path!r} is not a directory: with --file, PATH is what COPY reads from")
        context = path
    assert file is not None, "one of both was given"
    return Image.dockerfile(file, context=context, target=target, args=args)


def _secret(text: str) -> tuple[str, str]:
    fields = pairs(tuple(part for part in text.split(",") if part != "type=secret"), "--secret")
    unknown = set(fields) - {"id", "src", "source", "env"}
    id = fields.get("id")
    if not id or unknown:
        raise click.UsageError(f"--secret {text!r} is not of the form id=ID,src=FILE or id=ID,env=NAME")
    source = fields.get("src") or fields.get("source")
    if source is None:
        name = fields.get("env") or id
        if name not in os.environ:
            raise click.UsageError(f"--secret {id}: there is no variable {name}; name a file with src=")
        return id, os.environ[name]
    path = Path(source)
    if path.stat().st_size > MAX_SECRET_BYTES:
        raise click.UsageError(f"--secret {id}: {source} has more than {MAX_SECRET_BYTES} bytes")
    try:
        return id, path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise click.UsageError(f"--secret {id}: {source} is not UTF-8 text") from None
