#!/usr/bin/env bash
# Measures what policies of the KV cache cost in time and bytes, and writes it into docs/kv-budgets.md.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
    cat << 'END'
Usage: bench/budgets.sh [OPTION...]

Reads and writes behind a deep context under the arms of training/configs/budgets.toml, in turns, and writes what is
between the speed markers of docs/kv-budgets.md, and docs/kv_budgets_speed.json. Needs build/release and a machine that
has nothing else to do; with 8,000 tokens about a minute an arm and round.

  --depth N      tokens in the context before (default 7936)
  --budget B     of the arms: one that they have in that file (default 25%)
  --only LIST    arms, with commas (default: all that have the budget)
  --rounds N     (default 5)
  --threads N    (default 2)
  --out FOLDER   (default docs)
  --help         this text
END
}

case ${1-} in
    -h | --help) usage && exit ;;
esac
program=$repo/build/release/examples/cli/rasure
[ -x "$program" ] || die "$program is not there; scripts/demo.sh builds it"
cd "$repo"
exec python3 bench/budgets.py "$program" "${RASURE_MODEL-$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf}" "$@"
