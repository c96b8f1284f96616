#!/bin/sh
# Builds each preset given into /bundles/PRESET, unless it is there and whole. A build that was stopped goes on where it was.
set -eu
for preset in "$@"; do
  if [ -f "/bundles/$preset/manifest.json" ]; then
    echo "$preset: there already"
  elif [ -d /calibration ]; then
    mirage models build "$preset" --out "/bundles/$preset" --calibration /calibration
  else
    mirage models build "$preset" --out "/bundles/$preset"
  fi
done
