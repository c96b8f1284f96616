"""The retriever service: records, vectors and images, and search in them."""
