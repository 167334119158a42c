#!/usr/bin/env bash
# Checks the Metal source of every kernel with clang's C++ front end: its names and types, not what it computes.
#
# It reads the snapshots, of which a test (kovar-ops, msl_snapshots) says that they are exactly the kernels of the library
# in all forms, as they are given to Metal. tools/msl-check/metal_stdlib declares what they use of the language. First it
# is checked that the check itself finds what it is there for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check() {
    # Constants are f32 in Metal. Attributes like [[buffer(0)]] mean nothing to C++. An array that a kernel is given has one
    # element for the translator, whatever the binding has.
    clang -x c++ -std=c++17 -target arm64-apple-macos -nostdinc -nostdinc++ -isystem tools/msl-check -fsyntax-only \
        -Xclang -cl-single-precision-constant -Wno-unknown-attributes -Wno-duplicate-decl-specifier \
        -Wno-user-defined-literals -Wno-array-bounds -
}

# planted MESSAGE CODE: code that must be refused with this message.
planted() {
    local said
    if said=$(printf '#include <metal_stdlib>\n%s\n' "$2" | check 2>&1) || [[ $said != *"$1"* ]]; then
        printf 'msl-check does not find a planted error, %s\n  %s\nclang says: %s\n' "$1" "$2" "$said" >&2
        return 1
    fi
}
planted 'no matching function' 'float f(float4 a, uint4 b) { return metal::dot(a, b); }'
planted 'no matching function' 'uint f(uint a) { return metal::fma(a, a, a); }'
planted 'invalid operands' 'metal::float4 f(float4 a, uint4 b) { return a + b; }'
planted 'no member named' 'float f(float x) { return metal::unheard_of(x); }'
planted 'no type named' 'metal::simdgroup_half16x16 m;'
planted 'are 8 x 8' 'metal::simdgroup_matrix<half, 16, 16> m;'
planted 'different sizes' 'float2 f(half2 x) { return as_type<float2>(x); }'
planted 'no matching function' \
    'void f(thread simdgroup_half8x8& m, device half4* p) { simdgroup_load(m, p, 8, 0, false); }'
planted 'operation on bits' 'float4 f(float4 x) { return x & x; }'
planted 'redefinition' 'int f(uint x) { packed_char4 a = as_type<packed_char4>(x); packed_char4 a = a; return a[0]; }'

checked=0
for file in crates/kovar-ops/tests/snapshots/*.snap; do
    # Behind the second line of dashes stands the source.
    if ! said=$(awk 'dashes == 2 { print } /^---$/ { dashes++ }' "$file" | check 2>&1) || [[ -n $said ]]; then
        printf '%s: no valid Metal:\n%s\n' "$file" "$said" >&2
        exit 1
    fi
    checked=$((checked + 1))
done
all=$(find crates/kovar-ops/tests/snapshots -type f | wc -l)
if ((checked == 0 || checked != all)); then
    echo "msl-check: $checked of $all snapshots were checked" >&2
    exit 1
fi
echo "$checked of $all Metal sources are well-typed"
