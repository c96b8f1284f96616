"""The embedded engine: Qdrant Edge in searcher processes of its own."""
