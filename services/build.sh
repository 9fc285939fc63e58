#!/usr/bin/env bash
# Build the images with buildah, which needs no daemon: services/build.sh [gateway|embedder|generator|worker|generator-vllm ...] [-- buildah's flags].
#
# They are named affinage/NAME:VERSION in the storage below IMAGES. WHEELS names a folder of wheels to build from without the Internet;
# ARCHIVES names a folder that gets each image as a file, NAME.tar; LAYOUTS names one that gets each as an OCI layout, NAME/,
# by skopeo, which does not write layers again that lie there; `--base ARCHIVE NAME` makes a base image known instead of building.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGES="${IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/affinage/images}"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"

export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"
running="${XDG_RUNTIME_DIR:-/tmp}/affinage-images-$(id -u)"
storage=(--root "$IMAGES/storage" --runroot "$running")
# Where the kernel or the file system has no overlay, each layer is a copy.
if [ -z "${STORAGE_DRIVER:-}" ]; then
  STORAGE_DRIVER=overlay
  STORAGE_DRIVER=overlay buildah "${storage[@]}" info > /dev/null 2>&1 || STORAGE_DRIVER=vfs
fi
export STORAGE_DRIVER

if [ "${1:-}" = --base ]; then
  buildah "${storage[@]}" tag "$(buildah "${storage[@]}" pull --quiet "oci-archive:$2")" "$3"
  exit
fi

names=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do names+=("$1"); shift; done
[ $# -eq 0 ] || shift
[ ${#names[@]} -gt 0 ] || names=(gateway embedder generator worker)

[ -z "${WHEELS:-}" ] || set -- --volume "$WHEELS:/wheels:ro" "$@"
for name in "${names[@]}"; do
  file="services/$name/Containerfile"
  [ "$name" != worker ] || file=flows/Containerfile
  [ "$name" != generator-vllm ] || file=services/generator/Containerfile.vllm
  buildah "${storage[@]}" bud --quiet --layers --format docker --file "$file" --tag "affinage/$name:$version" "$@" . > /dev/null
  [ -z "${ARCHIVES:-}" ] || buildah "${storage[@]}" push --quiet "affinage/$name:$version" "docker-archive:$ARCHIVES/$name.tar:affinage/$name:$version"
  # buildah would compress.
  [ -z "${LAYOUTS:-}" ] || skopeo copy --quiet --dest-oci-accept-uncompressed-layers \
    "containers-storage:[$STORAGE_DRIVER@$IMAGES/storage+$running]localhost/affinage/$name:$version" "oci:$LAYOUTS/$name" > /dev/null
  echo "affinage/$name:$version"
done
