"""Container images: what goes into them, how they are built, and the archive that holds them."""
