"""Getting raw files: servers, archives, local folders."""
