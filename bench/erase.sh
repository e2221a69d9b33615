#!/usr/bin/env bash
# Measures how long erases take and writes docs/erase_latency.md, .json and .svg.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
    cat << 'END'
Usage: bench/erase.sh [--threads N] [--rounds N] [--longest TOKENS] [--out FOLDER] [--name NAME] [ERASER...]

Times drop, shift, repair:16, adaptive and what the erasers (adapter files) are for, in contexts of 1,024 tokens
up to TOKENS (default 32,768; beyond what the model was trained for, times only), with spans of 16 to 1,024
tokens, and in the middle of 8,192 tokens against exact. Tokens are drawn, so that some come again by chance, and
what adaptive encodes again for them grows with the context. Needs build/release, Python's matplotlib for the
picture, and a machine that has nothing else to do; three to six minutes.
END
}

threads=2 rounds=31 longest=32768 out=$repo/docs name=erase_latency erasers=()
while (($# > 0)); do
    case $1 in
        -h | --help) usage && exit ;;
        --threads | --rounds | --longest | --out | --name)
            (($# > 1)) || die "$1 needs a value; see --help"
            declare "${1#--}=$2"
            shift
            ;;
        -*) die "unknown argument '$1'; see --help" ;;
        *) erasers+=("$1") ;;
    esac
    shift
done
program=$repo/build/release/bench/bench_erase
[ -x "$program" ] || die "$program is not there; cmake --build build/release makes it"
"$program" "${RASURE_MODEL-$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf}" "$threads" "$rounds" "$longest" \
    "${erasers[@]}" | python3 "$repo/bench/erase_latency.py" --threads "$threads" --out "$out" --name "$name"
