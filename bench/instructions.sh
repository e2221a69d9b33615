#!/usr/bin/env bash
# Counts the instructions that each kernel takes, for docs/performance.md.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

usage() {
    cat << 'END'
Usage: bench/instructions.sh [--print]

Builds count_kernels in build/release, build/aarch64, build/aarch64-clang and build/armv7 (after
scripts/setup.sh --cross --clang) and counts the instructions that one call of each kernel executes: on x86
with the CPU's own single-step trap, for Arm in the log of qemu. Writes a table into docs/performance.md,
between the lines <!-- instructions:begin --> and <!-- instructions:end -->. Counts are no times:
instructions differ in what they do and take.

  --print  print the table instead
END
}

print=no
case ${1-} in
    -h | --help) usage && exit ;;
    --print) print=yes ;;
    ?*) die "unknown argument '$1'; see --help" ;;
esac

cd "$repo"
mkdir -p build
unset RASURE_ISA
log=build/instructions.log
: > "$log"
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

for tree in release aarch64 aarch64-clang armv7; do
    logged "$log" cmake --preset "$tree"
    logged "$log" cmake --build "build/$tree" --parallel "$(nproc)" --target count_kernels
done

build/release/bench/count_kernels --step > "$counts/x86-64"

# With one instruction to a block, qemu's log of the blocks that it enters has one line for each, which ends with the
# name of the function.
emulated() { # QEMU CPU TREE
    local program=build/$3/bench/count_kernels
    paste <("$1" -cpu "$2" "$program" --list | cut -f 1-5) \
        <("$1" -cpu "$2" -singlestep -d nochain,exec -D /dev/stdout "$program" | awk '
            $NF == "count_begin" { n = 0; counting = 1; next }
            $NF == "count_end" && counting { print n; counting = 0 }
            counting { n++ }')
}
emulated qemu-aarch64-static max aarch64 > "$counts/aarch64"
emulated qemu-aarch64-static max aarch64-clang > "$counts/aarch64-clang"
emulated qemu-arm-static cortex-a7 armv7 > "$counts/armv7"

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
python3 - "$counts" "$print" "$cpu" << 'END'
import sys
from pathlib import Path

counts, to_print, cpu = Path(sys.argv[1]), sys.argv[2] == "yes", sys.argv[3]
columns, rows = [], {}
for machine in ("x86-64", "aarch64", "aarch64-clang", "armv7"):
    nothing = {}
    for line in (counts / machine).read_text().splitlines():
        isa, kernel, what, work, unit, count = line.split("\t")
        if kernel == "nothing":  # what the counting itself takes
            nothing[isa] = int(count)
            columns.append((machine, isa))
        else:
            row = rows.setdefault((kernel, what), {"work": f"{int(work):,} {unit}"})
            row[machine, isa] = int(count) - nothing[isa]
lines = [
    "| kernel | of | work | " + " | ".join(f"{machine} `{isa}`" for machine, isa in columns) + " |",
    "|---|---|---|" + "---:|" * len(columns),
]
for (kernel, what), row in rows.items():
    cells = [f"{row[column]:,}" if column in row else "" for column in columns]
    lines.append(f"| {kernel} | {what} | {row['work']} | " + " | ".join(cells) + " |")
section = "\n".join([
    "<!-- instructions:begin -->",
    "## Instructions",
    "Instructions that one call of each kernel executes, made by `bench/instructions.sh`: for x86-64 counted by single-stepping"
    f" on the machine itself ({cpu}), for Arm under qemu-user (`max` and `cortex-a7`). They say how much a CPU has to do, not how long"
    " it takes: an instruction of one level may be worth several of another. A level without a kernel of its own uses that of a"
    " lower one, or does without.",
    "",
    *lines,
    "<!-- instructions:end -->",
])
if to_print:
    print(section)
    sys.exit()
path = Path("docs/performance.md")
text = path.read_text() if path.exists() else "# Performance\n"
before, begin, rest = text.partition("<!-- instructions:begin -->")
if begin:
    rest = rest.partition("<!-- instructions:end -->")[2]
    path.write_text(before + section + rest)
else:
    path.write_text(text.rstrip("\n") + "\n\n" + section + "\n")
print(f"{path}: {len(rows)} kernels in {len(columns)} tables")
END
