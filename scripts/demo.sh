#!/usr/bin/env bash
# Sets up, builds and runs the demonstration.
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
    cat << 'END'
Usage: scripts/demo.sh [--offline] [ARGUMENT...]

Runs scripts/setup.sh, builds build/release and runs `rasure demo ARGUMENT...` with the default model and the eraser
that was trained for it. With arguments, `rasure demo` gets no others than these.

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
# Another model, be it named here or in RASURE_MODEL, has no use for the default one's eraser.
[ $# -gt 0 ] || [ -n "${RASURE_MODEL-}" ] || set -- --eraser models/smollm2-135m-instruct.bridge.gguf
exec build/release/examples/cli/rasure demo "$@"
