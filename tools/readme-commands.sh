#!/usr/bin/env bash
# Prints a newcomer's command as README.md gives it, so that what is checked is what is promised:
#
#   tools/readme-commands.sh run     the first line of a ```sh block that starts with `cargo run`
#   tools/readme-commands.sh test    the first that starts with `cargo test`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

word=${1:?usage: tools/readme-commands.sh run|test}
command=$(awk -v start="cargo $word" '
    /^```/ { inside = !inside && $0 ~ /^```(sh|bash|console)$/; next }
    inside && index($0, start) == 1 && !found { print; found = 1 }
' README.md)
if [[ -z $command ]]; then
    echo "README.md has no sh block with a line that starts with \`cargo $word\`" >&2
    exit 1
fi
printf '%s\n' "$command"
