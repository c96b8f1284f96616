"""The generated messages and stubs of protos/mirage/v1; `make protos` generates them."""
