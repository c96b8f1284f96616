"""The generated messages and stubs of protos/; `make protos` generates them."""
