# shellcheck shell=sh
# Source this file to run the tests by hand on the software Vulkan driver under the validation layer:
#
#   . tools/vulkan-env.sh && cargo test --release --workspace
#
# It selects lavapipe as the only driver, makes VK_LAYER_KHRONOS_validation findable by name (a program must still ask
# for it, or be run with VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation) and turns synchronisation validation on.
# tools/install-vulkan.sh installs what it points at. Works in bash, dash and zsh; the library itself reads none of this.

_kovar_layers=/opt/kovar-tools/layers
_kovar_driver=
for _kovar_file in /usr/share/vulkan/icd.d/lvp_icd.$(uname -m).json /usr/share/vulkan/icd.d/lvp_icd.json; do
    if [ -f "$_kovar_file" ]; then _kovar_driver=$_kovar_file; break; fi
done

if [ -z "$_kovar_driver" ] || [ ! -f "$_kovar_layers/VkLayer_khronos_validation.json" ]; then
    echo "vulkan-env: lavapipe or the validation layer is not installed: run tools/install-vulkan.sh" >&2
    unset _kovar_layers _kovar_driver _kovar_file
    return 1
fi

# The second name of the driver list is the one that loaders older than 1.3.207 know.
export VK_DRIVER_FILES="$_kovar_driver"
export VK_ICD_FILENAMES="$_kovar_driver"
# Replaces the search path for explicit layers; implicit ones (Mesa's device selection) would reorder adapters.
export VK_LAYER_PATH="$_kovar_layers"
export VK_LOADER_LAYERS_DISABLE='~implicit~'
# Both are needed: with the first alone a missing barrier between two dispatches is not reported.
export VK_LAYER_VALIDATE_SYNC=1
export VK_LAYER_SYNCVAL_SHADER_ACCESSES_HEURISTIC=1
unset _kovar_layers _kovar_driver _kovar_file
