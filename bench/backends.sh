#!/usr/bin/env bash
# Compares the back ends of batched linear layers; its table is in docs/performance.md.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
    cat << 'END'
Usage: bench/backends.sh [ROUNDS [THREADS]]

Reads 512 tokens in chunks of 16, 64, 128 and 512, natively and through XNNPACK, in turns, ROUNDS times (default
5), with THREADS threads (default 1), and prints a Markdown table: medians, in brackets the least and the most.
Needs build/release (scripts/demo.sh or scripts/test.sh makes it), and a machine that has nothing else to do.
END
}

case ${1-} in -h | --help) usage && exit ;; esac
rounds=${1-5} threads=${2-1}
rasure=${RASURE-$repo/build/release/examples/cli/rasure}
[ -x "$rasure" ] || die "$rasure is not there; scripts/demo.sh builds it"

for ((round = 0; round < rounds; round++)); do
    for batch in 16 64 128 512; do
        for linear in native xnnpack; do
            "$rasure" bench --json --linear "$linear" --batch "$batch" --threads "$threads" --prefill 512 \
                --decode 0 --span 0 --repeat 1 2> /dev/null
        done
    done
done | python3 -c '
import json, statistics, sys

text, at, decoder, speeds = sys.stdin.read(), 0, json.JSONDecoder(), {}
while text[at:].strip():
    result, end = decoder.raw_decode(text[at:].lstrip())
    at = len(text) - len(text[at:].lstrip()) + end
    speeds.setdefault((result["batch"], result["linear"]), []).append(result["prefill_tok_s"])
    isa = result["isa"]
show = lambda v: f"{statistics.median(v):,.0f} ({min(v):,.0f} to {max(v):,.0f})"
print(f"| chunk, tokens | native {isa}, tok/s | XNNPACK, tok/s | ratio |\n|---|---|---|---|")
for batch in sorted({batch for batch, _ in speeds}):
    native, xnnpack = speeds[batch, "native"], speeds[batch, "xnnpack"]
    print(f"| {batch} | {show(native)} | {show(xnnpack)} | {statistics.median(native) / statistics.median(xnnpack):.2f} |")
'
