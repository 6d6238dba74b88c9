"""What a template is built from, and the digest that says whether it must be built anew."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from atolld.images.build_environment import Release

# Raise it when the code around the recipe changes what comes out (scrubbing, mmdebstrap's options, the layout).
FORMAT_VERSION = 1

SETUP_SCRIPT = Path(__file__).with_name("base_setup.sh")

# What an agent's first commands expect to find. Debian's npm draws in 350 small packages; it stays because it comes
# signed from the same mirror as everything else, so that a build needs one source only.
BASE_PACKAGES = (
    "apt",
    "bash",
    "build-essential",
    "ca-certificates",
    "curl",
    "git",
    "iproute2",
    "iputils-ping",
    "jq",
    "less",
    "nano",
    "netbase",
    "nodejs",
    "npm",
    "openssh-client",
    "pkg-config",
    "procps",
    "psmisc",
    "python-is-python3",
    "python3",
    "python3-pip",
    "python3-venv",
    "sudo",
    "unzip",
    "vim-tiny",
    "wget",
    "xz-utils",
    "zip",
)

# Patterns match directories too, and a package with an excluded directory cannot be unpacked: keep them narrow.
# Read by nobody in a sandbox: manuals, translations, and type definitions and source maps of npm's own modules.
BASE_EXCLUDES = (
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/doc/*",
    "/usr/share/nodejs/*/*.d.ts",
    "/usr/share/nodejs/*/*.js.map",
)
BASE_INCLUDES = ("/usr/share/doc/*/copyright",)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The inputs of a root file system made of packages: everything in here is part of the digest."""

    distribution: str
    codename: str
    architecture: str
    packages: tuple[str, ...]
    excludes: tuple[str, ...]
    includes: tuple[str, ...]
    setup_script: str
    format_version: int = FORMAT_VERSION

    def inputs(self) -> dict[str, object]:
        """The inputs as JSON values, for the manifest."""
        return {
            "distribution": self.distribution,
            "codename": self.codename,
            "architecture": self.architecture,
            "packages": list(self.packages),
            "excludes": list(self.excludes),
            "includes": list(self.includes),
            "setup_script_sha256": hashlib.sha256(self.setup_script.encode()).hexdigest(),
            "format_version": self.format_version,
        }

    def digest(self) -> str:
        """64 hexadecimal digits that change with any input and with nothing else (not with the mirror or time)."""
        canonical = json.dumps(self.inputs(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def base_recipe(release: Release, architecture: str) -> Recipe:
    """The recipe of the template `base` for `release`; `architecture` is dpkg's name (`amd64`, `arm64`)."""
    return Recipe(
        distribution=release.distribution,
        codename=release.codename,
        architecture=architecture,
        packages=tuple(sorted(BASE_PACKAGES)),
        excludes=BASE_EXCLUDES,
        includes=BASE_INCLUDES,
        setup_script=SETUP_SCRIPT.read_text(encoding="utf-8"),
    )
