#!/usr/bin/env bash
# What a newcomer meets: clones HEAD into a temporary folder and runs the README's two commands there, with an empty
# target directory and none of the settings of this shell. Uncommitted changes are not seen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone -q . "$clone/kovar"
cd "$clone/kovar"
echo "clone of $(git rev-parse --short HEAD) in $PWD"

# Nothing that this shell sets for Vulkan, cargo or the tests; where Rust is installed and how the network is reached stay.
for name in $(compgen -e); do
    case $name in
    CARGO_HOME) ;;
    VK_* | KOVAR_* | CARGO* | RUSTFLAGS | RUSTDOCFLAGS | LP_* | MESA_* | LIBGL_*) unset "$name" ;;
    esac
done

newcomer() {
    echo
    echo "\$ $1"
    local started=$SECONDS
    bash -c "$1"
    echo "($((SECONDS - started)) s)"
}

run=$(tools/readme-commands.sh run)
test=$(tools/readme-commands.sh test)
newcomer "$run"
newcomer "$test"
