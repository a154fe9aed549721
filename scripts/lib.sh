# Shared by the scripts beside it; each sources this first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A toolchain that rustup has just installed is not on the path of an old shell.
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH

# phase NAME PROGRAM [ARGUMENT...]: runs a program and says how long it took.
phase() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || status=$?
    if [ "$status" != 0 ]; then
        printf '== %s: failed with status %d after %d s\n' "$name" "$status" $((SECONDS - begin))
        exit "$status"
    fi
    printf '== %s: %d s\n' "$name" $((SECONDS - begin))
}

# as_root PROGRAM [ARGUMENT...]: runs it as root, whoever we are, or says how to do that by hand.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        printf 'Run this as root, then try again:\n  %s\n' "$*" >&2
        exit 1
    fi
}
