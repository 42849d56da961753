#!/usr/bin/env bash
# Builds the builder's image from a folder with the Dockerfile, tries it and pushes it: CodeBuild's part of
# infra/image.yaml. Nothing is pushed before all tries have passed, so what was there stays good.
#
#   IMAGE=REGISTRY/NAME:TAG [BASE_IMAGE=…] [SYSTEM_PACKAGES=…] bash build_image.sh FOLDER
#
# RUNTIMES: the interpreters that must be in it. PAUSE: seconds after a first failed try; after the second, three times
# as many. STATE: a folder for a second engine, on a real file system.
set -euo pipefail

folder=$1
runtimes=${RUNTIMES:-3.11 3.12 3.13 3.14}
pause=${PAUSE:-20}
engine=

# Registries and package repositories refuse now and then; three tries with pauses outlast what passes by itself.
three_times() {
  local try
  for try in 1 2 3; do
    if "$@"; then return 0; fi
    if [ "$try" -lt 3 ]; then
      echo "Try $try of 3 failed: $1 $2; the next one in $((pause * (2 * try - 1))) seconds"
      sleep "$((pause * (2 * try - 1)))"
    fi
  done
  echo "Failed three times: $1 $2" >&2
  return 1
}

# Only the image store of containerd keeps layers in zstd: https://docs.docker.com/engine/storage/containerd/. The
# engine that CodeBuild starts has the older one, so a second engine out of the same programs builds. (BuildKit in a
# container would do as well, but its image is on Docker Hub, which lets an address pull so many and then refuses.)
start_engine() {
  local state=${STATE:-/var/lib/docker/containerd-store} second store
  case "$(docker info --format '{{.DriverStatus}}' 2>/dev/null)" in *io.containerd.snapshotter*) return 0 ;; esac
  mkdir -p "$state" || return 1
  echo '{"features": {"containerd-snapshotter": true}}' >"$state/daemon.json"
  second=unix://$state/docker.sock
  # No bridge: the first engine has it. Builds use the host's network, and tries none.
  dockerd --config-file "$state/daemon.json" --host "$second" --data-root "$state/data" \
    --exec-root "$state/exec" --pidfile "$state/docker.pid" --bridge none --iptables=false --ip6tables=false \
    &>"$state/log" &
  engine=$!
  for _ in {1..60}; do
    kill -0 "$engine" 2>/dev/null || break
    if store=$(DOCKER_HOST=$second docker info --format '{{.DriverStatus}}' 2>/dev/null); then
      case "$store" in *io.containerd.snapshotter*) export DOCKER_HOST=$second; return 0 ;; esac
      break # an engine too old to know that store
    fi
    sleep 0.5
  done
  tail -n 5 "$state/log"
  return 1
}

stop_engine() {
  if [ -n "$engine" ]; then kill "$engine" 2>/dev/null || true; wait "$engine" 2>/dev/null || true; fi
}
trap stop_engine EXIT

arguments=(--progress plain --network host)
if [ -n "${BASE_IMAGE:-}" ]; then arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE"); fi
if [ -n "${SYSTEM_PACKAGES:-}" ]; then arguments+=(--build-arg "SYSTEM_PACKAGES=$SYSTEM_PACKAGES"); fi

if start_engine; then
  # One manifest for one platform: a second one, that says how it was built, has no platform that a job could run on.
  three_times docker buildx build "${arguments[@]}" --provenance=false --sbom=false \
    --output "type=image,name=$IMAGE,compression=zstd,force-compression=true,oci-mediatypes=true" "$folder"
else
  echo "No engine with containerd's image store here: the layers will be gzip, and jobs start a little slower"
  DOCKER_BUILDKIT=1 three_times docker build "${arguments[@]}" --tag "$IMAGE" "$folder"
fi

# What cannot even start is never pushed, nor is a base without an interpreter of each runtime.
strict=(--rm --network none --read-only --cap-drop ALL)
docker run "${strict[@]}" "$IMAGE" --version
for minor in $runtimes; do
  docker run "${strict[@]}" --entrypoint "/usr/bin/python$minor" "$IMAGE" -I -c \
    'import bz2, ctypes, lzma, sqlite3, ssl, sys, zlib; print("Python", sys.version.split()[0])'
done

three_times docker push "$IMAGE"

# For the eyes only: what was pushed, and what it is made of.
docker buildx imagetools inspect --raw "$IMAGE" |
  jq -r '"Pushed in \(.layers | length) layers, \([.layers[].size] | add / 1e6 | round) MB together, "
    + "\([.layers[].mediaType | sub(".*[.+]"; "")] | unique | join(" and "))"' || true
docker history --no-trunc=false --format '{{.Size}}	{{.CreatedBy}}' "$IMAGE" || true
docker run --rm --network none --entrypoint rpm "$IMAGE" --query --all --queryformat '%{SIZE} %{NAME} %{VERSION}\n' |
  sort -rn | awk 'NR <= 15 { printf "%7.1f MB  %s %s\n", $1 / 1e6, $2, $3 }' || true
