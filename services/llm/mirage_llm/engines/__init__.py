"""What runs a bundle's decoder."""
