"""The mini llm: facts written by us, captions to describe, and a small GPT-NeoX trained to write from them."""
