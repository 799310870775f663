"""Download of raw files from servers, archives and local folders."""
