"""Images from prompts: tokenizer, samplers, guidance and the steps of a diffusion model."""
