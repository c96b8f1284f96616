"""The mini language model: facts written by us, captions to stand on, and a small GPT-NeoX trained to explain from them."""
