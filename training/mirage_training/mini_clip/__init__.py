"""The mini CLIP: a small open_clip model trained on fresh renderings of the demonstration template."""
