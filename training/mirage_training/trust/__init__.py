"""What the trust of the language model service is measured with: citations and the check of what is medical."""
