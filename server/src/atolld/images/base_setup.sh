#!/bin/sh
# Run by mmdebstrap on the host with the new root as $1: what packages alone do not give the template `base`.
set -eu
root=$1

chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash user
printf 'user ALL=(ALL:ALL) NOPASSWD:ALL\n' > "$root/etc/sudoers.d/user"
chmod 0440 "$root/etc/sudoers.d/user"
# Without a TTY and without a known host name, sudo must neither complain nor wait for a resolver.
printf 'Defaults !fqdn\nDefaults !lecture\n' > "$root/etc/sudoers.d/atoll"
chmod 0440 "$root/etc/sudoers.d/atoll"

# Debian's .profile puts ~/.local/bin on PATH only when it exists: `pip install` as user puts its commands there.
mkdir -p "$root/home/user/.local/bin"
chroot "$root" chown -R user:user /home/user

# Every command of E2B's clients is one of a login shell, for which Debian starts `id`, and `mesg` for root, each time:
# half of what it takes. bash knows who it is, and only a terminal has messages.
sed -i 's/"$(id -u)"/"${EUID:-$(id -u)}"/' "$root/etc/profile"
sed -i 's/^mesg n/[ ! -t 0 ] || mesg n/' "$root/root/.profile"

printf 'LANG=C.UTF-8\n' > "$root/etc/default/locale"

# A sandbox is one throw-away environment, so pip may install beside the distribution's packages.
printf '[global]\nbreak-system-packages = true\ndisable-pip-version-check = true\n' > "$root/etc/pip.conf"
printf 'update-notifier=false\nfund=false\naudit=false\n' > "$root/etc/npmrc"

# apt inside a sandbox: small downloads, and no prompts.
cat > "$root/etc/apt/apt.conf.d/90atoll" <<'EOF'
APT::Install-Recommends "false";
Acquire::Languages "none";
EOF
