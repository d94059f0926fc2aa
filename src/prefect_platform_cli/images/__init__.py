"""Container images: what they contain, how they are built, and the archive that holds them."""
