"""The gateway: HTTP/JSON, the page and the gRPC MirageService, composed from the other services. It keeps no state."""
