"""Everything that a MIRAGE stores as one file, and back."""
