"""The mini generator: a small latent consistency model, trained on fresh renderings of the demonstration template."""
