//! The agent and its sudo on a plain Linux, in a network namespace of their own: the socket's name is free there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// Runs `script` where an agent offers sudo, `/etc` is a copy and `alice` (4001) may, `eve` (4002) may not.
fn run(script: &str) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // On a path that other users may follow, as /usr/bin/sudo is.
    let shared = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(shared.path(), Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_atoll-agent"), shared.path().join("sudo")).unwrap();
    let prepare = r#"
        set -e
        mkdir etc && cp /etc/passwd /etc/group etc/ && mount --bind etc /etc
        echo 'alice:x:4001:4001::/tmp:/bin/sh' >> /etc/passwd
        echo 'eve:x:4002:4002::/tmp:/bin/sh' >> /etc/passwd
        echo '@includedir /etc/sudoers.d' > /etc/sudoers
        mkdir /etc/sudoers.d
        echo 'alice ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/alice
        ATOLL_SUDO=1 "$AGENT" 2>/dev/null &
        agent=$!
        until grep -q @atoll/sudo /proc/net/unix; do kill -0 $agent; done
        as() { id=$1; shift; setpriv --reuid $id --regid $id --clear-groups "$@"; }
        set +e
    "#;
    let program = format!("{prepare}\n{script}\nkill $agent; wait $agent 2>/dev/null");
    let output = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
        ])
        .arg(program)
        .env("AGENT", env!("CARGO_BIN_EXE_atoll-agent"))
        .env("SUDO", shared.path().join("sudo"))
        .current_dir(directory.path())
        .output()
        .unwrap();
    Some(output)
}

fn lines(script: &str) -> Option<Vec<String>> {
    let output = run(script)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn who_may_becomes_root_and_who_may_not_is_told() {
    let Some(said) = lines(
        r#"
        as 4001 "$SUDO" id -u
        as 4001 "$SUDO" -u eve id -un
        as 4001 "$SUDO" sh -c 'exit 7'; echo $?
        as 4001 "$SUDO" sh -c 'kill -9 $$' 2>/dev/null; echo $?
        echo in | as 4001 "$SUDO" cat
        as 4002 "$SUDO" id -u 2>&1; echo $?
        as 4003 "$SUDO" id -u 2>&1; echo $?
        chmod 666 /etc/sudoers.d/alice
        as 4001 "$SUDO" id -u 2>&1
        rm /etc/sudoers
        as 4001 "$SUDO" id -u 2>&1
        "$SUDO" id -u
        "#,
    ) else {
        return;
    };
    let expected = [
        "0",
        "eve",
        "7",
        "137",
        "in",
        "eve is not in the sudoers file.",
        "1",
        "sudo: you do not exist in the passwd database",
        "1",
        "alice is not in the sudoers file.",
        "alice is not in the sudoers file.",
        "0",
    ];
    assert_eq!(said, expected);
}

#[test]
fn nothing_is_left_of_many_calls_and_of_killed_ones() {
    let Some(said) = lines(
        r#"
        "$SUDO" true
        before=$(ls /proc/$agent/fd | wc -l)
        for i in $(seq 50); do as 4001 "$SUDO" true || echo bad; done
        for i in $(seq 20); do as 4001 "$SUDO" sleep 0.1 & pids="$pids $!"; done
        wait $pids
        "$SUDO" sleep 4321 & killed=$!
        until pgrep -x sleep >/dev/null; do :; done
        kill -9 $killed
        while pgrep -x sleep >/dev/null; do :; done
        until [ "$(ls /proc/$agent/fd | wc -l)" = "$before" ]; do :; done
        echo clean
        "#,
    ) else {
        return;
    };
    assert_eq!(said, ["clean"]);
}

#[test]
fn in_a_terminal_the_command_has_its_own() {
    let Some(said) = lines(
        r#"
        script -qec "stty rows 33 cols 77; "$SUDO" sh -c 'stty size </dev/tty; exit 5'; echo code=\$?" /dev/null </dev/null
        "#,
    ) else {
        return;
    };
    // `script` echoes the end of its own input, sooner or later.
    assert_eq!(said.join("|").replace("^@", ""), "33 77|code=5");
}
