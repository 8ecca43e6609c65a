"""The reading engine: from points to chunks, from chunks to vectors."""
