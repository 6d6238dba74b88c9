"""How a machine's own pip, npm and the like reach their packages, as settings that a build's sandbox can be given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from atolld.images.hostfiles import Host

# pip's settings that decide where packages come from, by the variable that has the same meaning.
_PIP = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "trusted-host": "PIP_TRUSTED_HOST",
    "proxy": "PIP_PROXY",
    "timeout": "PIP_DEFAULT_TIMEOUT",
    "default-timeout": "PIP_DEFAULT_TIMEOUT",
    "retries": "PIP_RETRIES",
    "find-links": "PIP_FIND_LINKS",
}
_PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf")
_PIP_FILES_OF_HOME = (".pip/pip.conf", ".config/pip/pip.conf")
# Passed on as they are.
_VARIABLES = (
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "GOSUMDB",
    "GONOSUMDB",
    "GOINSECURE",
)
_NPM_FILES = ("/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc")
_NPM = frozenset(
    {"registry", "proxy", "https-proxy", "noproxy", "strict-ssl", "always-auth", "fetch-retries", "fetch-timeout"}
)
_NPM_VARIABLE = "npm_config_"
_NPM_SECRETS = (":_authToken", ":_auth", ":_password")


@dataclass(frozen=True, slots=True)
class Tools:
    """`envs`: variables. `npmrc`: npm's settings, empty when there are none. `urls`: whatever they name.
    `secrets`: credentials among them."""

    envs: Mapping[str, str] = field(default_factory=dict)
    npmrc: str = ""
    urls: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


def read_tools(host: Host, public: Collection[str] = ()) -> Tools:
    """What the machine's files and the daemon's environment say. Paths of the machine are left out: nothing is there in
    a sandbox. `public`: hosts that are not the machine's own choice."""
    envs = {**_pip(host), **{name: host.environ[name] for name in _VARIABLES if host.environ.get(name)}}
    if "PIP_INDEX_URL" in envs and "UV_INDEX_URL" not in envs:
        # uv reads nothing that is pip's.
        envs.setdefault("UV_DEFAULT_INDEX", envs["PIP_INDEX_URL"])
    npm = _npm(host)
    registry = npm.get("registry")
    if registry is not None:
        # pnpm and old yarns look there.
        envs["npm_config_registry"] = registry
        if urlsplit(registry).hostname not in public:
            # Lock files would name it, and go into the layer.
            npm["omit-lockfile-registry-resolved"] = "true"
    words = [word for value in (*envs.values(), *npm.values()) for word in value.replace(",", " ").split()]
    urls = {word for word in words if "://" in word}
    # `//host/path/:_authToken`
    urls |= {f"https:{key.rpartition('/')[0]}/" for key in npm if key.startswith("//")}
    return Tools(
        envs=envs,
        npmrc="".join(f"{key}={value}\n" for key, value in sorted(npm.items())),
        urls=tuple(sorted(urls)),
        secrets=tuple(sorted(value for key, value in npm.items() if key.endswith(_NPM_SECRETS) and value)),
    )


def _pip(host: Host) -> dict[str, str]:
    files: list[str | Path] = [*_PIP_FILES, *(host.home / name for name in _PIP_FILES_OF_HOME)]
    if own := host.environ.get("PIP_CONFIG_FILE"):
        files.append(own)
    found: dict[str, str] = {}
    for path in files:
        for section, key, value in host.ini(path):
            if section in ("global", "install", "download"):
                _add_pip(found, key.replace("_", "-"), value)
    for name, value in host.environ.items():
        if name.startswith("PIP_"):
            _add_pip(found, name.removeprefix("PIP_").lower().replace("_", "-"), value)
    return found


def _add_pip(found: dict[str, str], key: str, value: str) -> None:
    name = _PIP.get(key)
    words = value.split()
    if key == "find-links":
        words = [word for word in words if word.startswith(("http://", "https://"))]
    if name is not None and words:
        found[name] = " ".join(words)


def _npm(host: Host) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (*_NPM_FILES, host.home / ".npmrc"):
        found.update(pair for pair in host.npmrc(path) if _is_npm(pair[0]))
    for name, value in host.environ.items():
        if name.lower().startswith(_NPM_VARIABLE) and value:
            # A registry's own settings keep their case: `npm_config_//host/:_authToken`.
            key = name[len(_NPM_VARIABLE) :]
            key = key if key.startswith(("//", "@")) else key.lower().replace("_", "-")
            if _is_npm(key):
                found[key] = value
    return found


def _is_npm(key: str) -> bool:
    return key in _NPM or key.startswith("//") or (key.startswith("@") and key.endswith(":registry"))
