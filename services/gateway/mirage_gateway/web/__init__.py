"""The gateway over HTTP: JSON, images and the page."""
