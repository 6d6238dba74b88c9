"""What E2B does to every image and at the end of every build, as commands for root. Written for any POSIX shell.

E2B boots a virtual machine and so installs more (systemd, an SSH server, time synchronisation); what is here is what
its users see: bash, sudo, the tools that its ready commands call, and the user `user`.
"""

from __future__ import annotations

from atolld.core.build import Run, Where

USER = "user"
HOME = "/home/user"

# The arguments are a user's name and "sudo" when that one is to have it. BusyBox has adduser alone, and a few images of
# Debian have useradd alone.
_ENSURE_USER = """\
ensure_user() {
    if ! id -u "$1" >/dev/null 2>&1; then
        shell=/bin/sh
        if [ -x /bin/bash ]; then shell=/bin/bash; fi
        if command -v useradd >/dev/null; then
            there=
            if [ -d "/home/$1" ]; then there=1; fi
            useradd --create-home --shell "$shell" "$1"
            if [ -n "$there" ] && [ -d /etc/skel ]; then cp -rn /etc/skel/. "/home/$1/" 2>/dev/null || true; fi
        else
            adduser -D -s "$shell" "$1"
        fi
        mkdir -p "/home/$1"
        chown "$1" "/home/$1"
    fi
    if [ "${2:-}" = sudo ] && [ -f /etc/sudoers ]; then
        passwd -d "$1" >/dev/null 2>&1 || true
        if ! grep -q "^$1 ALL=(ALL:ALL) NOPASSWD: ALL" /etc/sudoers; then
            echo "$1 ALL=(ALL:ALL) NOPASSWD: ALL" >>/etc/sudoers
        fi
    fi
}
"""

# The last two lines, as in the template `base`: every command of E2B's clients is one of a login shell, for which
# Debian's profile starts `id`, and `mesg` for root. That is half of what it takes, and bash knows who it is.
_PREPARE = (
    "set -eu\n"
    + _ENSURE_USER
    + """\
missing=
for program in bash sudo curl git ss pgrep; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
install() {
    if command -v apt-get >/dev/null; then
        apt-get -q update
        DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq -o=Dpkg::Use-Pty=0 install -y \\
            --no-install-recommends bash sudo ca-certificates curl git iproute2 procps
    elif command -v apk >/dev/null; then
        apk add --no-cache bash sudo ca-certificates curl git iproute2 procps
    elif command -v dnf >/dev/null; then
        dnf -q -y install bash sudo ca-certificates curl git iproute procps-ng shadow-utils
    elif command -v microdnf >/dev/null; then
        microdnf -y install bash sudo ca-certificates curl git iproute procps-ng shadow-utils
    elif command -v yum >/dev/null; then
        yum -q -y install bash sudo ca-certificates curl git iproute procps-ng shadow-utils
    elif command -v pacman >/dev/null; then
        pacman -Sy --noconfirm --needed bash sudo ca-certificates curl git iproute2 procps-ng
    elif command -v zypper >/dev/null; then
        zypper -n install bash sudo ca-certificates curl git iproute2 procps shadow
    else
        echo "the image has no package manager that is known" >&2
        return 1
    fi
}
if [ -n "$missing" ]; then
    echo "missing in the image:$missing"
    if ! (install); then
        if [ ! -x /bin/bash ] && ! command -v bash >/dev/null; then
            echo "commands of a build are run by bash, which the image has not got and which cannot be installed" >&2
            exit 1
        fi
        echo "warning: not everything could be installed; what is missing stays missing" >&2
    fi
fi
if [ ! -e /bin/bash ]; then ln -s "$(command -v bash)" /bin/bash; fi
ensure_user user sudo
if grep -qsF '"$(id -u)"' /etc/profile; then sed -i 's/"$(id -u)"/"${EUID:-$(id -u)}"/' /etc/profile; fi
if grep -qs '^mesg n' /root/.profile; then sed -i 's/^mesg n/[ ! -t 0 ] || mesg n/' /root/.profile; fi
"""
)

# Directories only: files below /usr/local are replaced rather than written to, and making them writable would copy all
# of them into the new layer.
_FINALIZE = (
    "set -eu\n"
    + _ENSURE_USER
    + """\
ensure_user user sudo
mkdir -p /home/user
if command -v find >/dev/null; then
    find /home/user -xdev ! -user user -exec chown -h user:user {} +
    if [ -d /usr/local ]; then find /usr/local -xdev -type d ! -perm -0777 -exec chmod 0777 {} +; fi
else
    chown -R -h user:user /home/user
fi
if [ ! -d /code ]; then
    mkdir /code
    chmod 0777 /code
fi
"""
)


def prepare() -> Run:
    """The step that makes an image fit to be built on."""
    return Run(Where(0, 0, "preparing the image", "base"), ("/bin/sh", "-c", _PREPARE), user="root")


def finalize(force: bool) -> Run:
    """The step at the end: `/home/user` is the user's, and `/usr/local` and `/code` can be written by everybody."""
    where = Where(0, 0, "finishing the template", "finalize")
    return Run(where, ("/bin/sh", "-c", _FINALIZE), user="root", force=force)


def ensure_user(where: Where, name: str, sudo: bool, force: bool) -> Run:
    """The step that makes the user `name` unless there is one."""
    script = f'set -eu\n{_ENSURE_USER}ensure_user "$1" "$2"\n'
    return Run(where, ("/bin/sh", "-c", script, "sh", name, "sudo" if sudo else ""), user="root", force=force)
