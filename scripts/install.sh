#!/usr/bin/env bash
# Installs what this machine lacks to build and run Atoll, and says what and why.
#
#   scripts/install.sh            install what is missing
#   scripts/install.sh --check    only list what is missing; status 1 when something is
#
# Nothing is changed when nothing is missing. The machine's apt configuration is never changed.
# Exit status: 0 done · 1 something is missing (--check) · 2 wrong use · 3 unsupported machine · 4 root is needed
#              5 a package cannot be installed · 6 no usable runsc can be had
set -euo pipefail

cd "$(dirname "$0")/.."

readonly MIN_RUNSC=20221219        # older ones lack flags that Atoll needs
readonly MIN_PYTHON="3.11"
MIN_RUST=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' agent/Cargo.toml)
readonly MIN_RUST
PYTHON=${PYTHON:-python3}
cached_runsc=${ATOLL_CACHE_DIR:-/var/cache/atoll}/bin/runsc

check_only=false
case ${1:-} in
    --check) check_only=true ;;
    '') ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

fail() { # status, message
    printf 'install: %s\n' "$2" >&2
    exit "$1"
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        fail 4 "root is needed for '$1', and there is no sudo: run this as root"
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

# --- what is missing -------------------------------------------------------------------------------------------------

packages=()
reasons=()
need() { # package, why
    packages+=("$1")
    reasons+=("$2")
}

have_file() { # any of the given paths exists (globs are expanded by the caller)
    local path
    for path in "$@"; do [[ -e $path ]] && return 0; done
    return 1
}

find_missing() {
    command -v runc >/dev/null || need runc 'the container runtime (driver "container")'
    command -v nft >/dev/null || need nftables 'to look at the firewall rules of sandboxes'
    have_file /usr/lib/*/libnftables.so.1 /usr/lib/libnftables.so.1 || need libnftables1 'sets the firewall rules of sandboxes'
    command -v ip >/dev/null || need iproute2 'to look at the networks of sandboxes'
    have_file {/usr,}/sbin/mkfs.ext4 || need e2fsprogs 'formats the disks of sandboxes'
    have_file {/usr,}/sbin/mkfs.xfs || need xfsprogs 'lets sandboxes be saved without copying their disks'
    command -v mmdebstrap >/dev/null || need mmdebstrap 'builds the template "base"'
    command -v zstd >/dev/null || need zstd 'unpacks layers of images'
    [[ -e $keyring ]] || need "$keyring_package" 'verifies the packages of the template "base"'
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || need ca-certificates 'verifies package servers'
    command -v cc >/dev/null || need gcc 'links the guest agent'
    have_file /usr/lib/*/libc.a || need libc6-dev 'links the guest agent statically'
    command -v make >/dev/null || need make 'runs the targets of the Makefile'
    if [[ ! -x .venv/bin/python ]]; then
        command -v "$PYTHON" >/dev/null || need python3 'runs the server'
        # Debian keeps the part of Python that makes virtual environments in a package of its own.
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || need python3-venv 'makes the virtual environment'
    fi
}

runsc_date() { # the release date in the version of the runsc given; 0 when it has none (a build from source)
    local version
    version=$("$1" --version 2>/dev/null | head -n 1) || true
    if [[ $version =~ (20[0-9]{6}) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi
}

usable_runsc() {
    local path date
    # The daemon looks in the same two places, in this order.
    path=$cached_runsc
    [[ -x $path ]] || path=$(command -v runsc) || return 1
    date=$(runsc_date "$path")
    ((date >= MIN_RUNSC))
}

# --- the machine -----------------------------------------------------------------------------------------------------

read_machine() {
    [[ -r /etc/os-release ]] || fail 3 '/etc/os-release is missing: Debian 12, 13 and Ubuntu 24.04 are supported'
    # shellcheck source=/dev/null
    source /etc/os-release
    case $ID in
        debian) keyring=/usr/share/keyrings/debian-archive-keyring.gpg keyring_package=debian-archive-keyring ;;
        ubuntu) keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg keyring_package=ubuntu-keyring ;;
        *) fail 3 "this is $PRETTY_NAME; Debian 12, 13 and Ubuntu 24.04 are supported" ;;
    esac
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) fail 3 "this machine is $(uname -m); x86_64 and aarch64 are supported" ;;
    esac
}

at_least() { # version, minimum
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

check_toolchains() {
    if [[ ! -x .venv/bin/python ]] && command -v "$PYTHON" >/dev/null; then
        local version
        version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        at_least "$version" "$MIN_PYTHON" || fail 3 "$PYTHON is Python $version; $MIN_PYTHON or newer is needed: \
set PYTHON to a newer one (PYTHON=/path/to/python make run)"
    fi
    # Installed by its own tool, so it is the user's to install: the packaged one is too old on Debian 12.
    command -v cargo >/dev/null || [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]] ||
        fail 3 "a Rust toolchain ($MIN_RUST or newer) is needed to build the guest agent: install it with rustup (https://rustup.rs)"
}

# --- runsc -----------------------------------------------------------------------------------------------------------

apt_runsc_date() { # the date of the runsc that the machine's own apt would install; 0 when it has none
    local candidate
    candidate=$(LC_ALL=C apt-cache policy runsc 2>/dev/null | sed -n 's/^  Candidate: //p')
    if [[ $candidate =~ (20[0-9]{6}) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi
}

# Debian 12's own runsc is of 2022; its backports have one of 2024. It is fetched through apt, which verifies it, with
# private directories for sources and lists, so that the machine's own apt knows nothing of it.
install_runsc_backport() {
    local suite=$VERSION_CODENAME-backports private deb status=0
    private=$(mktemp -d)
    # apt drops its rights to the user _apt, who must be able to write here.
    chmod 755 "$private"
    mkdir -p "$private"/{sources.d,lists/partial,cache/archives/partial,deb}
    PYTHONPATH=server/src "$PYTHON" -m atolld.images.backports "$VERSION_CODENAME" "$suite" >"$private/sources.d/backports.sources" || {
        rm -rf "$private"
        return 1
    }
    cat >"$private/apt.conf" <<EOF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$private/sources.d";
Dir::State::lists "$private/lists";
Dir::Cache "$private/cache";
Dir::Cache::archives "archives";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
EOF
    {
        as_root chown -R "$(id -un _apt 2>/dev/null || id -un)" "$private/lists" "$private/cache" "$private/deb" &&
            as_root apt-get -qq "-c=$private/apt.conf" -o APT::Update::Error-Mode=any update &&
            (cd "$private/deb" && as_root apt-get -q "-c=$private/apt.conf" download runsc) &&
            deb=$(find "$private/deb" -name 'runsc_*.deb') &&
            as_root dpkg --install "$deb"
    } || status=1
    as_root rm -rf "$private"
    return $status
}

install_runsc() {
    local found=none
    if command -v runsc >/dev/null; then found="$(command -v runsc) of $(runsc_date "$(command -v runsc)")"; fi
    printf 'install: runsc (gVisor, the default runtime): usable is %s or newer; on PATH: %s\n' "$MIN_RUNSC" "$found"
    if (($(apt_runsc_date) < 20240101)) && [[ $VERSION_CODENAME == bookworm ]]; then
        install_runsc_backport && usable_runsc && return
        printf 'install: %s-backports cannot be used; trying the release itself\n' "$VERSION_CODENAME" >&2
    fi
    if (($(apt_runsc_date) >= MIN_RUNSC)); then
        apt_get install --no-install-recommends runsc && usable_runsc && return
    fi
    fail 6 "no usable runsc (gVisor, $MIN_RUNSC or newer) is in the package sources of this machine. Install one from \
gVisor's own apt repository (https://gvisor.dev/docs/user_guide/install/), or put a runsc binary on PATH; then run this again"
}

# --- go --------------------------------------------------------------------------------------------------------------

read_machine
find_missing
runsc_missing=false
usable_runsc || runsc_missing=true

if ((${#packages[@]})); then
    $check_only && verb='missing' || verb='installing'
    for i in "${!packages[@]}"; do printf 'install: %s %s: %s\n' "$verb" "${packages[i]}" "${reasons[i]}"; done
fi

if $check_only; then
    if $runsc_missing; then printf 'install: missing runsc: gVisor, the default runtime\n'; fi
    check_toolchains
    if ((${#packages[@]})) || $runsc_missing; then exit 1; fi
    printf 'install: nothing is missing\n'
    exit 0
fi

if ((${#packages[@]})) || $runsc_missing; then
    # A repository of somebody else that is out of reach must not stop us; a package that is then missing does.
    apt_get update || printf 'install: apt-get update had errors; going on with what it has\n' >&2
fi
if ((${#packages[@]})); then
    apt_get install --no-install-recommends "${packages[@]}" ||
        fail 5 "apt-get could not install: ${packages[*]}. Its reason is above"
fi
check_toolchains
if $runsc_missing; then install_runsc; fi
