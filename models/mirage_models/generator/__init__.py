"""Image generators: from a Stable Diffusion 1.x folder to a bundle that makes images in a few steps."""
