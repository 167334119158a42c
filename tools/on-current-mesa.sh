#!/usr/bin/env bash
# Runs a program on Mesa's newest software driver, which has cooperative matrices; Debian 12's has none.
#
#   tools/on-current-mesa.sh --install     fetch the driver, about 60 MB; needs root and a Debian mirror
#   tools/on-current-mesa.sh PROGRAM ...   run a program on it, a test binary say
#
# The driver is that of Debian 13's backports and wants Debian 13's C library. So both are unpacked into a folder of
# their own, and the program is started through the loader there; the system is not touched. As a runner of Cargo:
#
#   CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=tools/on-current-mesa.sh cargo test ...
set -euo pipefail

suite=trixie
folder=/opt/kovar-tools/current-mesa

install() {
    if [[ -s $folder/installed ]]; then
        cat "$folder/installed"
        return
    fi
    # The mirror that this machine takes Debian from.
    local mirror keyring scratch
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    if [[ -z $mirror || ! -s $keyring ]]; then
        echo "on-current-mesa: found no Debian mirror or no keyring among apt's sources" >&2
        return 1
    fi
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' RETURN
    mkdir -p "$scratch"/{lists,cache/archives}/partial "$scratch/root"
    # No package counts as installed: all that the driver needs is fetched.
    : >"$scratch/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" "$keyring" "$mirror" "$suite-backports" \
        >"$scratch/sources.list"
    cat >"$scratch/apt.conf" <<END
Dir::Etc::sourcelist "$scratch/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$scratch/lists";
Dir::State::status "$scratch/status";
Dir::Cache "$scratch/cache";
APT::Sandbox::User "root";
END
    export APT_CONFIG=$scratch/apt.conf
    apt-get update -qq
    apt-get install -qq --yes --download-only --no-install-recommends -t "$suite-backports" \
        mesa-vulkan-drivers libvulkan1 >/dev/null
    local deb
    for deb in "$scratch"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$scratch/root"; done
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    mv "$scratch/root" "$folder"
    (cd "$scratch/cache/archives" && printf 'driver     %s\n' mesa-vulkan-drivers_*.deb) >"$folder/installed"
    cat "$folder/installed"
}

if [[ ${1:-} == --install ]]; then
    install
    exit
fi
if [[ ! -s $folder/installed ]]; then
    echo "on-current-mesa: not installed: run tools/on-current-mesa.sh --install" >&2
    exit 1
fi
libraries=$folder/usr/lib/$(uname -m)-linux-gnu
loader=$(compgen -G "$libraries/ld-linux-*.so.*" | head -n 1)
export VK_DRIVER_FILES=$folder/usr/share/vulkan/icd.d/lvp_icd.json
export VK_ICD_FILENAMES=$VK_DRIVER_FILES
exec "$loader" --inhibit-cache --library-path "$libraries" "$@"
