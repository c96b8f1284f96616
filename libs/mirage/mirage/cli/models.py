"""`mirage models`: the bundles on this machine."""
