"""Languages, and the variables of one execution."""

from __future__ import annotations

import subprocess

import pytest

from atoll_interpreter.errors import Invalid
from atoll_interpreter.languages import check_variables, keep_variables, normalize, restore_variables, set_variables

HOSTILE = {"A": "it's", "B": '$(touch /x) `id` "\\" \n\t', "C": "", "D": "grüße 🐚", "E": "a;b|c&d>e"}


@pytest.mark.parametrize(
    ("given", "name"),
    [(None, "python"), ("", "python"), ("JS", "javascript"), ("ts", "typescript"), ("R", "r"), (" bash ", "bash")],
)
def test_names(given: str | None, name: str) -> None:
    assert normalize(given) == name


@pytest.mark.parametrize("given", ["../python", "a b", "-x", "x" * 65, "ü"])
def test_what_is_no_name(given: str) -> None:
    with pytest.raises(Invalid):
        normalize(given)


@pytest.mark.parametrize("envs", [{"A B": "x"}, {"1A": "x"}, {"": "x"}, {"A": "a\0b"}, {"A=B": "x"}])
def test_what_is_no_variable(envs: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        check_variables(envs)


def bash(*parts: str) -> str:
    done = subprocess.run(
        ["bash", "-c", "\n".join(parts)], env={"PATH": "/usr/bin:/bin", "C": "before"}, capture_output=True, check=True
    )
    return done.stdout.decode()


def test_bash_sets_any_text_and_puts_back_what_was_there() -> None:
    setting = set_variables("bash", HOSTILE)
    assert bash(setting, 'printf \'%s|\' "$A" "$B" "$C" "$D" "$E"') == "|".join(HOSTILE.values()) + "|"
    after = bash(setting, restore_variables("bash", HOSTILE, {}), 'echo "$C${A+x}${B+x}"')
    assert after == "before\n"
    # Nothing of it may be seen by a shell that reads line by line.
    assert all(line.isascii() for line in setting.splitlines())
    assert len(setting.splitlines()) == len(HOSTILE)


@pytest.mark.parametrize("language", ["python", "javascript", "bash", "r", "java", "cobol"])
def test_without_variables_nothing_runs(language: str) -> None:
    assert set_variables(language, {}) == restore_variables(language, {}, {}) == keep_variables(language, {}) == ""
