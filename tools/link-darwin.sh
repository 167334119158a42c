#!/usr/bin/env bash
# Links test binaries for macOS on Apple silicon, on Linux: tools/link-darwin.sh [ARGUMENTS OF CARGO BUILD]
#
# Without arguments: the tests of kovar-hal, which use all of the Metal backend, and the command `kovar`. Nothing is run.
# What Metal and the Objective-C runtime are asked for must be named in tools/darwin-stubs; a symbol that is not there
# fails the link, and is added by hand to the file of the library that has it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

tools=${XDG_CACHE_HOME:-$HOME/.cache}/kovar/link-darwin
if ! cmp -s tools/link-darwin.txt "$tools/installed.txt"; then
    python=python3
    if [[ -x /usr/bin/python3 ]] && /usr/bin/python3 -c 'import ensurepip' 2>/dev/null; then python=/usr/bin/python3; fi
    "$python" -m venv --clear "$tools"
    "$tools/bin/pip" install -q --disable-pip-version-check --require-hashes --only-binary :all: --no-deps \
        -r tools/link-darwin.txt
    cp tools/link-darwin.txt "$tools/installed.txt"
fi
rustup --quiet target add aarch64-apple-darwin

if [[ $# -eq 0 ]]; then set -- --release --package kovar-hal --tests --package kovar-cli --bins; fi
binaries=$(
    PATH=$tools/bin:$PATH SDKROOT=$root/tools/darwin-stubs \
        cargo zigbuild --locked --target aarch64-apple-darwin --message-format json-render-diagnostics "$@" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
)
if [[ -z $binaries ]]; then
    echo "nothing was linked: $*" >&2
    exit 1
fi
while read -r binary; do
    # The magic number of a 64-bit Mach-O file, and its processor: ARM64.
    if [[ $(od -An -tx4 -N8 "$binary" | tr -d ' \n') != feedfacf0100000c ]]; then
        echo "$binary is no program for macOS on Apple silicon" >&2
        exit 1
    fi
    echo "linked ${binary#"$root"/}"
done <<<"$binaries"
