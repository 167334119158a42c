#!/usr/bin/env bash
# Installs what the Vulkan tests need on Debian: a loader, Mesa's software driver (lavapipe) and a current Khronos
# validation layer. Needs root and the Debian mirror; running it again changes nothing.
#
#   tools/install-vulkan.sh            install what is missing
#   tools/install-vulkan.sh --update   also replace the validation layer by the newest one
#
# Debian's own package of the layer is years older than the layer that Chromium is tested with, and the old one does not
# see hazards between dispatches. So the library is taken out of chromium-common, without installing the browser.
set -euo pipefail

layers=/opt/kovar-tools/layers
library=libVkLayer_khronos_validation.so
packages=(libvulkan1 mesa-vulkan-drivers spirv-tools)

if ! command -v apt-get >/dev/null; then
    echo "install-vulkan: this script knows Debian's apt-get only; install a Vulkan loader, lavapipe and the" >&2
    echo "Khronos validation layer by your system's means, see docs/design/checking.md" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
updated=no
update_lists() {
    [[ $updated == yes ]] || apt-get update -qq
    updated=yes
}

if ! dpkg-query -W -f='${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | awk '$1 != "installed" { bad = 1 } END { exit bad || NR != n }' n=${#packages[@]}; then
    update_lists
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

if [[ ! -s $layers/$library || ! -s $layers/VkLayer_khronos_validation.json || ${1:-} == --update ]]; then
    update_lists
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    (cd "$scratch" && apt-get download -qq -o APT::Sandbox::User=root chromium-common)
    deb=("$scratch"/chromium-common_*.deb)
    version=$(dpkg-deb -f "${deb[0]}" Version)
    dpkg-deb --fsys-tarfile "${deb[0]}" | tar -x -C "$scratch" "./usr/lib/chromium/$library"
    mkdir -p "$layers"
    # Moved into place at the end, so that an interrupted run leaves nothing that looks complete.
    mv "$scratch/usr/lib/chromium/$library" "$layers/$library.new"
    mv "$layers/$library.new" "$layers/$library"
    cat >"$scratch/manifest.json" <<EOF
{
  "file_format_version": "1.2.0",
  "layer": {
    "name": "VK_LAYER_KHRONOS_validation",
    "type": "GLOBAL",
    "library_path": "./$library",
    "api_version": "1.4.0",
    "implementation_version": "1",
    "description": "Khronos validation layer, from chromium-common $version",
    "instance_extensions": [
      { "name": "VK_EXT_debug_report", "spec_version": "10" },
      { "name": "VK_EXT_debug_utils", "spec_version": "2" },
      { "name": "VK_EXT_validation_features", "spec_version": "6" },
      { "name": "VK_EXT_layer_settings", "spec_version": "2" }
    ]
  }
}
EOF
    mv "$scratch/manifest.json" "$layers/VkLayer_khronos_validation.json"
fi

echo "loader     libvulkan1 $(dpkg-query -W -f='${Version}' libvulkan1)"
echo "driver     mesa-vulkan-drivers $(dpkg-query -W -f='${Version}' mesa-vulkan-drivers)"
echo "validation $(sed -n 's/.*"description": "\(.*\)",/\1/p' "$layers/VkLayer_khronos_validation.json")"
