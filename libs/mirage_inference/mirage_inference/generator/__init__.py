"""Images from prompts: tokenizer, scheduler, guidance and the steps of a latent consistency model."""
