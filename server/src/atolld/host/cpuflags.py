"""The CPU features that a program may have found and relies on, so that a saved one is not woken where they lack."""

from __future__ import annotations

import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# What programs choose their code by. The kernel's list also names mitigations, bugs and features of its own, which
# come and go with its updates and mean nothing to a program.
_X86 = re.compile(
    r"sse\w*|ssse3|pni|avx\w*|amx\w*|aes|vaes|pclmulqdq|vpclmulqdq|gfni|sha_ni|sha512|sm3|sm4|bmi[12]|abm|popcnt|movbe|"
    r"adx|fma|fma4|f16c|xop|tbm|rdrand|rdseed|rdpid|rdtscp|fsgsbase|erms|fsrm|cx8|cx16|cmov|fxsr|mmx\w*|3dnow\w*|lahf_lm|"
    r"clflush\w*|clwb|cldemote|movdiri|movdir64b|serialize|waitpkg|hle|rtm|tsxldtrk|xsave\w*|xgetbv1|pku|ospke|user_shstk"
)


def parse_cpu_flags(text: str) -> frozenset[str]:
    """The features in /proc/cpuinfo: x86's `flags` that programs look at, all of ARM's `Features`; of the first CPU."""
    found = re.search(r"^(flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    if found is None:
        return frozenset()
    flags = found.group(2).split()
    return frozenset(flags) if found.group(1) == "Features" else frozenset(filter(_X86.fullmatch, flags))


def read_cpu_flags() -> frozenset[str]:
    """Those of this machine."""
    return parse_cpu_flags(_CPUINFO.read_text())
