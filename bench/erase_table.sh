#!/usr/bin/env bash
# Makes the table of erase methods in README.md: cases from Wikipedia prose, every method on each.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
    cat << 'END'
Usage: bench/erase_table.sh DATA [N] [TASK] [SEED]

Generates N cases (default 100) of TASK (conflict, ask, redact or bystander; default conflict) with SEED
(default 1) from DATA, a folder with wiki_paragraphs.jsonl.gz, runs rasure eval on them, and prints a
Markdown table with 95 % intervals. Needs build/release (scripts/demo.sh or scripts/test.sh makes it).
END
}

case ${1---help} in -h | --help) usage && exit ;; esac
data=$(realpath "$1") n=${2-100} task=${3-conflict} seed=${4-1}
rasure=$repo/build/release/examples/cli/rasure
[ -x "$rasure" ] || die "$rasure is not there; scripts/demo.sh builds it"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$repo/training
python3 -m rasure_training.cases --task "$task" --n "$n" --seed "$seed" --tokens 512 --data "$data" \
    --out "$work/cases.jsonl"
"$rasure" eval "$work/cases.jsonl" --threads 2 --methods none,exact,drop,shift,repair:16,repair:15% \
    --per-case "$work/outcomes.jsonl" > "$work/table.txt"
python3 -m rasure_training.eval_table "$work/outcomes.jsonl"
