#!/usr/bin/env bash
# Measures what becoming exact later costs and writes docs/refine.md, .json and .svg.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
    cat << 'END'
Usage: bench/refine.sh [--threads N] [--rounds N] [--longest TOKENS] [--out FOLDER]

Times a progressive erase of 64 tokens from the middle of contexts of 512 tokens up to TOKENS (default 8,192): the
erase itself against adaptive and exact, the calls of rs_refine behind it, the exchange of the caches, and the
zeroing of the old one. Needs build/release, Python's matplotlib for the picture, and a machine that has nothing
else to do; about four minutes.
END
}

threads=2 rounds=7 longest=8192 out=$repo/docs
while (($# > 0)); do
    case $1 in
        -h | --help) usage && exit ;;
        --threads | --rounds | --longest | --out)
            (($# > 1)) || die "$1 needs a value; see --help"
            declare "${1#--}=$2"
            shift
            ;;
        *) die "unknown argument '$1'; see --help" ;;
    esac
    shift
done
program=$repo/build/release/bench/bench_refine
[ -x "$program" ] || die "$program is not there; cmake --build build/release makes it"
"$program" "${RASURE_MODEL-$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf}" "$threads" "$rounds" "$longest" |
    python3 "$repo/bench/refine_times.py" --threads "$threads" --out "$out"
