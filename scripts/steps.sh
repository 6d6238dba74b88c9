# shellcheck shell=bash
# Sourced: runs the steps of a target and tells what each is for and how long it took.

as_root() { if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi; }

elapsed() { # EPOCHREALTIME of the start -> "8 ms", "3.2 s", "2 min 5 s"
    local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
    if ((us < 1000000)); then
        echo "$((us / 1000)) ms"
    elif ((us < 60000000)); then
        echo "$((us / 1000000)).$((us % 1000000 / 100000)) s"
    else
        echo "$((us / 60000000)) min $((us / 1000000 % 60)) s"
    fi
}

step() { # what, command... ; stops everything with the command's status when it fails
    local what=$1 start=$EPOCHREALTIME status=0
    shift
    printf '==> %s\n' "$what"
    "$@" || status=$?
    if ((status)); then
        printf '==> %s: failed with status %d after %s\n' "$what" "$status" "$(elapsed "$start")" >&2
        exit "$status"
    fi
    printf '    %s\n' "$(elapsed "$start")"
}

failed=()

try() { # as step, but goes on after a failure; `report` tells of all of them
    local what=$1 start=$EPOCHREALTIME status=0
    shift
    printf '==> %s\n' "$what"
    "$@" || status=$?
    printf '    %s\n' "$(elapsed "$start")"
    if ((status)); then failed+=("$what"); fi
}

report() { # ends with status 1 when a `try` failed
    local what
    for what in "${failed[@]}"; do printf '==> failed: %s\n' "$what" >&2; done
    if ((${#failed[@]})); then exit 1; fi
}
