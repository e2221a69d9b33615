# shellcheck shell=bash
# What the scripts beside this file share; sourced, never run.
set -euo pipefail

# shellcheck disable=SC2034  # for the scripts that source this file
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rasure

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# has_digest FILE ALGORITHM=HEX, as in SHA256=90bd...
has_digest() {
    local algorithm=${2%%=*}
    [ "$("${algorithm,,}sum" "$1" | cut -d ' ' -f 1)" = "${2#*=}" ]
}

# logged LOG COMMAND...: a command that runs silently and shows the end of what it said when it fails.
logged() {
    local log=$1
    shift
    printf '\n$ %s\n' "$*" >> "$log"
    "$@" >> "$log" 2>&1 || {
        tail -n 30 "$log" >&2
        die "'${*:1:3} ...' failed; everything it said is in $log"
    }
}
