"""The queue's files: read as data, never run, and written again by commands of our own."""
