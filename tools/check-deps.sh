#!/usr/bin/env bash
# Checks that docs/dependencies.md and Cargo.toml name the same third-party crates, and that every crate of the workspace
# takes its dependencies from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

# Third-party crates of [workspace.dependencies]: those with no path.
declared=$(awk '
    /^\[/ { inside = ($0 == "[workspace.dependencies]"); next }
    inside && /^[A-Za-z0-9_-]+ *=/ && !/path *=/ { print $1 }
' FS='[ =]+' Cargo.toml | sort)

# Rows of the tables: | `name` | what for | ...
explained=$(sed -n 's/^| *`\([A-Za-z0-9_-]*\)` *|.*/\1/p' docs/dependencies.md | sort)

bad=0
for name in $(comm -23 <(echo "$declared") <(echo "$explained")); do
    echo "docs/dependencies.md does not say what \`$name\` is for: add a row to the table" >&2
    bad=1
done
for name in $(comm -13 <(echo "$declared") <(echo "$explained")); do
    echo "docs/dependencies.md explains \`$name\`, which is not in [workspace.dependencies]: remove the row" >&2
    bad=1
done

for manifest in crates/*/Cargo.toml; do
    awk -v manifest="$manifest" '
        /^\[/ {
            inside = /dependencies\]$/
            if (/dependencies\.[A-Za-z0-9_-]+\]$/) {
                print manifest ": " $0 ": write the dependency on one line, with workspace = true"; bad = 1
            }
            next
        }
        inside && /^[A-Za-z0-9_-]+.*=/ && !/workspace *= *true/ {
            print manifest ": " $0 ": take it from [workspace.dependencies], with workspace = true"; bad = 1
        }
        END { exit bad }
    ' "$manifest" >&2 || bad=1
done
exit "$bad"
