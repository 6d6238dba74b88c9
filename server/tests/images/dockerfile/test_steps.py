"""What single instructions become."""

from __future__ import annotations

import pytest

from atolld.core.build import CacheMount, Copy, ImageConfig, Run, SecretMount, Sharing
from atolld.foundation.errors import InvalidArgument

from .reading import FILES, bound, only, said


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # RUN is the shell's: nothing in it is replaced here.
        ("RUN echo $x ${y:-z} '$a'", "echo $x ${y:-z} '$a'"),
        ("run  apt-get update  ", "apt-get update"),
        ("RUN a \\\n  b \\\n# a comment\n  && c", "a   b   && c"),
        ("RUN a \\\n\n  b", "a   b"),
        ('RUN ["a", "b c", "$d"]', ("a", "b c", "$d")),
        ('RUN ["a", 7', '["a", 7'),
        ("RUN <<EOF\necho a\necho $b\nEOF", "echo a\necho $b\n"),
        ("RUN <<-EOF\n\techo a\n\tEOF", "echo a\n"),
        ('RUN <<"EOF"\necho $a\nEOF', "echo $a\n"),
        ("RUN cat <<EOF >/x\nb\nEOF", "cat <<EOF >/x\nb\nEOF\n"),
        ("RUN cat <<A <<B\n1\nA\n2\nB", "cat <<A <<B\n1\nA\n2\nB\n"),
        ('SHELL ["/bin/bash", "-ec"]\nRUN a', ("/bin/bash", "-ec", "a")),
        ("ENV a=b", {"a": "b"}),
        ("ENV a b c", {"a": "b c"}),
        ("ENV a=\"b c\" d=e\\ f g='$h'", {"a": "b c", "d": "e f", "g": "$h"}),
        ("ENV a=$X b=${X} c=\\$X", {"a": "x", "b": "x", "c": "$X"}),
        ("ENV a=${Y:-d} b=${X:-d} c=${EMPTY:-d} d=${EMPTY-d}", {"a": "d", "b": "x", "c": "d", "d": ""}),
        ("ENV a=${Y:+d} b=${X:+d} c=${EMPTY:+d}", {"a": "", "b": "d", "c": ""}),
        ('ENV a=${Y:-${X}} b="${X:?is missing}"', {"a": "x", "b": "x"}),
        ("ENV a=$Y b=\"$X y\" c='$X'", {"a": "", "b": "x y", "c": "$X"}),
        ("ENV a=${FILE%.gz} b=${FILE##*/} c=${FILE/tar/zip}", {"a": "/d/a.tar", "b": "a.tar.gz", "c": "/d/a.zip.gz"}),
        ("ENV X=new old=$X", {"X": "new", "old": "x"}),
        ("WORKDIR /app/$X", "/app/x"),
        ("WORKDIR rel", "rel"),
        ("USER $X:${X}", "x:x"),
        ("COPY a /b", (("a",), "/b")),
        ("COPY a$X b /c/", (("ax", "b"), "/c/")),
        ('COPY ["a b", "c d/"]', (("a b",), "c d/")),
        ("COPY *.txt src/** ./", (("*.txt", "src/**"), "./")),
        ("ADD a.tar.gz /b", (("a.tar.gz",), "/b")),
    ],
)
def test_meanings(body: str, expected: object) -> None:
    envs = {"PATH": "/bin", "X": "x", "EMPTY": "", "FILE": "/d/a.tar.gz"}
    assert said(only(body, envs)) == expected


def test_backticks_can_escape() -> None:
    steps, _ = bound("# escape=`\nFROM a\nRUN b `\n c\nENV d=C:\\e f=`$X", {"X": "x"})
    assert [said(step) for step in steps] == ["b  c", {"d": "C:\\e", "f": "$X"}]


def test_a_script_with_its_own_interpreter() -> None:
    step = only("RUN <<EOF\n#!/usr/bin/env python3\nprint('a')\nEOF")
    assert isinstance(step, Run)
    assert step.stdin == "#!/usr/bin/env python3\nprint('a')\n"
    assert step.argv[:2] == ("/bin/sh", "-c") and step.argv[3] == "/dev/shm/.atoll-heredoc"
    assert step.where.text == "RUN <<EOF (#!/usr/bin/env python3)"


def test_arguments_are_seen_by_commands_only() -> None:
    text = """\
ARG GLOBAL=g
ARG OTHER=o
FROM debian
RUN first
ARG A=1 B=$A$GLOBAL
ARG GLOBAL
ARG TOKEN
ARG X=arg
ENV X=env
ENV Y=$A$X
ARG TARGETARCH
RUN second
"""
    steps, _ = bound(text, args={"B": "given", "HTTP_PROXY": "http://p", "UNUSED": "u", "TOKEN": "t"})
    first, _, env, second = steps
    assert isinstance(first, Run) and isinstance(second, Run)
    assert first.envs == {"HTTP_PROXY": "http://p"}
    assert said(env) == {"Y": "1env"}
    assert second.envs == {
        "HTTP_PROXY": "http://p",
        "A": "1",
        "B": "given",
        "GLOBAL": "g",
        "TOKEN": "t",
        "TARGETARCH": "amd64",
    }


def test_a_variable_of_the_base_goes_before_an_argument() -> None:
    step = only("ARG VERSION=1\nRUN a", {"PATH": "/bin", "VERSION": "2"})
    assert isinstance(step, Run) and step.envs == {}


def test_arguments_are_inherited_by_stages() -> None:
    steps, _ = bound("FROM a AS b\nARG X=1\nFROM b\nRUN c")
    assert isinstance(steps[0], Run) and steps[0].envs == {"X": "1"}
    steps, _ = bound("FROM a AS b\nARG X=1\nFROM a\nRUN c")
    assert isinstance(steps[0], Run) and steps[0].envs == {}


def test_mounts() -> None:
    step = only(
        "ARG ID=npm\n"
        "RUN --mount=type=secret,id=$ID,required,mode=0440,uid=5,gid=6 "
        "--mount=type=secret,target=/etc/token --mount=type=secret,id=a,env=TOKEN,required=false "
        "--mount=type=secret,id=b,target=rel "
        "--mount=type=cache,target=/root/.cache,sharing=locked --mount=type=tmpfs,dst=/t,size=1m "
        "--mount=type=cache,id=$ID,dst=rel/./c,ro,mode=0700,uid=7,gid=8 "
        "--network=none make"
    )
    assert isinstance(step, Run)
    assert step.secrets == (
        SecretMount("npm", None, None, True, 5, 6, 0o440),
        SecretMount("token", "/etc/token"),
        SecretMount("a", None, "TOKEN"),
        SecretMount("b", "/run/secrets/rel"),
    )
    assert (step.memory, step.network) == (("/t",), False)
    assert step.caches == (
        CacheMount("/root/.cache", "/root/.cache", Sharing.LOCKED),
        CacheMount("npm", "rel/./c", Sharing.SHARED, True, 7, 8, 0o700),
    )


def test_flags_of_copies() -> None:
    step = only(
        "ARG ME=me\nCOPY --chown=$ME:staff --chmod=0750 --parents --link --exclude=*.o --exclude=t/** src lib /app/"
    )
    assert isinstance(step, Copy)
    assert (step.owner, step.mode, step.parents, step.exclude) == ("me:staff", 0o750, True, ("*.o", "t/**"))
    assert (step.origin, step.unpack) == (FILES, False)
    added, kept = only("ADD a.tar /"), only("ADD --unpack=false a.tar /")
    assert isinstance(added, Copy) and added.unpack
    assert isinstance(kept, Copy) and not kept.unpack


def test_files_within_the_dockerfile() -> None:
    text = "COPY <<a.txt <<'b.txt' c /dest/\n$X \"q\" \\$X\na.txt\n$X\nb.txt"
    steps, _ = bound(f"FROM a\n{text}", {"X": "x"})
    inline, files = steps
    assert isinstance(inline, Copy) and isinstance(files, Copy)
    assert inline.inline == {"a.txt": 'x "q" $X\n', "b.txt": "$X\n"} and inline.origin is None
    assert (files.sources, files.destination, files.origin) == (("c",), "/dest/", FILES)
    assert (inline.where.number, files.where.number) == (1, 2)
    only_inline = only("COPY --chmod=755 <<EOF /script\nhello\nEOF", context=None)
    assert isinstance(only_inline, Copy) and (only_inline.inline, only_inline.mode) == ({"EOF": "hello\n"}, 0o755)


def test_what_an_image_says_of_itself() -> None:
    text = """\
FROM a
ENV PORT=80
CMD ["serve", "$PORT"]
ENTRYPOINT exec serve
LABEL a=b "c d"="e f" g=$PORT
LABEL h i j
MAINTAINER Me <me@example.org>
EXPOSE $PORT 53/udp 8000-8002
VOLUME /data /x
VOLUME ["/z"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl localhost
"""
    _, config = bound(text)
    assert config == ImageConfig(
        cmd=("serve", "$PORT"),
        entrypoint=("/bin/sh", "-c", "exec serve"),
        healthcheck={
            "Test": ["CMD-SHELL", "curl localhost"],
            "Interval": 90_000_000_000,
            "Timeout": 500_000_000,
            "Retries": 3,
        },
        labels={"a": "b", "c d": "e f", "g": "80", "h": "i j", "maintainer": "Me <me@example.org>"},
        exposed=("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"),
        volumes=("/data", "/x", "/z"),
        stop_signal="SIGINT",
    )
    assert bound('FROM a\nHEALTHCHECK CMD ["a"]')[1].healthcheck == {"Test": ["CMD", "a"]}
    assert bound("FROM a\nHEALTHCHECK NONE")[1].healthcheck == {"Test": ["NONE"]}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("RUN", "no command"),
        ("RUN []", "no command"),
        ("RUN --mount=type=bind,target=. make", "bind mounts are not there: COPY"),
        ("RUN --mount=target=. make", "bind mounts are not there"),
        ("RUN --mount=type=ssh make", "give the key as a secret"),
        ("RUN --mount=type=what make", "no type 'what'"),
        ("RUN --mount=type=secret make", "a secret has no id"),
        ("RUN --mount=type=secret,id=a,colour=b make", "no field 'colour'"),
        ("RUN --mount=type=secret,id=a,mode=9 make", "mode '9' is not a number"),
        ("RUN --mount=type=secret,id=a,id=b make", "given twice"),
        ("RUN --mount=type=cache make", "has no target"),
        ("RUN --mount=type=cache,target=/c,from=x make", "leave its 'from' and 'source' out"),
        ("RUN --mount=type=cache,target=/c,sharing=all make", "shared, locked, private, not 'all'"),
        ("RUN --mount=type=cache,target=/c,size=1 make", "no field 'size'"),
        ("RUN --mount=type=cache,target=/c,mode=rw make", "mode 'rw'"),
        ("RUN --network=host make", "never sees the host's network"),
        ("RUN --network=x make", "'default' or 'none'"),
        ("RUN --security=insecure make", "--security is not supported"),
        ("RUN --device=gpu make", "--device is not supported"),
        ("RUN --what make", "no flag '--what'"),
        ("COPY a", "at least a source and a destination"),
        ("COPY", "at least a source and a destination"),
        ("COPY a b c", "several sources need a directory"),
        ("COPY $NOTHING /b", "a source is empty"),
        ("COPY --chmod=u+x a /b", "octal"),
        ("COPY --chown= a /b", "no value"),
        ("COPY --checksum=x a /b", "no flag '--checksum'"),
        ("COPY --link=maybe a /b", "'true' or 'false'"),
        ("COPY --chown=a --chown=b a /b", "given twice"),
        ("ADD https://example.org/a.tgz /b", "a URL, which ADD does not fetch here"),
        ("ADD git@github.com:a/b.git /b", "a URL"),
        ("ADD --checksum=sha256:x a /b", "belongs to URLs"),
        ("ADD --from=x a /b", "no flag '--from'"),
        ("ENV", "names nothing|must have two arguments"),
        ("ENV a", "must have two arguments"),
        ("ENV a=b c", "can't find = in"),
        ("ENV $NOTHING=b", "a name is empty"),
        ("ENV a-b=c", "not a variable name"),
        ("ENV a='b", "matching single-quote"),
        ("ENV a=${b", "missing '}'"),
        ("ENV a=${b!c}", "unsupported modifier"),
        ('ENV a="${NOTHING:?must be set}"', "must be set"),
        ("ARG", "names no argument"),
        ("ARG =a", "has no name"),
        ("ARG a-b=c\nRUN d", "not a variable name"),
        ("WORKDIR", "names no directory"),
        ("USER $NOTHING", "names no user"),
        ("SHELL /bin/bash", "takes a JSON list"),
        ("SHELL []", "takes a JSON list"),
        ("EXPOSE 0", "not a port"),
        ("EXPOSE 70000", "not a port"),
        ("EXPOSE 9-8", "not a port"),
        ("EXPOSE 1-65535", "too many"),
        ("EXPOSE", "names no port"),
        ("VOLUME", "names no directory"),
        ("STOPSIGNAL what?", "not a signal"),
        ("HEALTHCHECK a", "it is HEALTHCHECK"),
        ("HEALTHCHECK --interval=soon CMD a", "a time like 30s"),
        ("HEALTHCHECK --retries=-1 CMD a", "is a number"),
        ("HEALTHCHECK NONE a", "takes nothing else"),
        ("LABEL", "names nothing|must have two arguments"),
        ("CMD --x a", "no flag '--x'"),
        ("RUN <<EOF\na", "unterminated heredoc"),
        ("COPY [7, 8]", "Only strings"),
    ],
)
def test_refused(body: str, error: str) -> None:
    with pytest.raises(InvalidArgument, match=error) as caught:
        bound(f"FROM debian\n{body}")
    assert "line " in caught.value.message


def test_a_context_is_needed() -> None:
    with pytest.raises(InvalidArgument, match="line 2: COPY: .*build with a directory"):
        bound("FROM debian\nCOPY a /b", context=None)
    assert bound("FROM debian\nCOPY --from=alpine /a /b", context=None)
