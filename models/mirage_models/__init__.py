"""Models of MIRAGE: presets, builders from checkpoints to bundles, and the bundles that come along."""
