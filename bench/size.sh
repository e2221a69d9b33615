#!/usr/bin/env bash
# Says how large the library is without XNNPACK: text and data of a stripped librasure.a with every level of this architecture.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

case ${1-} in -h | --help) echo "Usage: bench/size.sh" && exit ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
logged "$work/log" cmake -S "$repo" -B "$work/build" -G Ninja -D CMAKE_BUILD_TYPE=Release -D RASURE_XNNPACK=OFF \
    -D RASURE_BUILD_TESTS=OFF -D RASURE_BUILD_EXAMPLES=OFF
logged "$work/log" cmake --build "$work/build" --target rasure
strip --strip-unneeded "$work/build/runtime/librasure.a"
size -t "$work/build/runtime/librasure.a" | awk 'END { printf "%.0f KB of text, %.0f KB of data\n", $1 / 1000, $2 / 1000 }'
