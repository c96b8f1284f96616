"""A static site of an atlas: everything that the page needs to search without a server, as files."""
