"""Dataset readers and the demo atlas."""
