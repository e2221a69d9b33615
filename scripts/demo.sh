#!/usr/bin/env bash
# Sets up, builds and runs the demonstration.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat << 'END'
Usage: scripts/demo.sh [--offline] [ARGUMENT...]

Runs scripts/setup.sh, builds build/release and runs `rasure demo ARGUMENT...` with the default model.

  --offline  use no network
END
}

setup=()
case ${1-} in
    -h | --help) usage && exit ;;
    --offline) setup=(--offline) && shift ;;
esac

"$repo/scripts/setup.sh" "${setup[@]}"
cd "$repo"
mkdir -p build
echo "release: building"
logged build/demo.log cmake --preset release
logged build/demo.log cmake --build build/release --parallel "$(nproc)" --target rasure_cli
exec build/release/examples/cli/rasure demo "$@"
