"""The models of MIRAGE's HTTP API, shared by the gateway and the client."""
