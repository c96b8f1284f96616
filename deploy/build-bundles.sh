#!/bin/sh
# Builds each preset given into /bundles/PRESET, unless it is there and complete. A build that was stopped continues.
# If the atlas is a folder of images with a captions.jsonl, quantised models are measured on CALIBRATION_ITEMS of its items.
set -eu
for preset in "$@"; do
  if [ -f "/bundles/$preset/manifest.json" ]; then
    echo "$preset: there already"
  elif [ -f /atlas/captions.jsonl ]; then
    mirage models build "$preset" --out "/bundles/$preset" --calibration /atlas --calibration-items "${CALIBRATION_ITEMS:-128}"
  else
    mirage models build "$preset" --out "/bundles/$preset"
  fi
done
