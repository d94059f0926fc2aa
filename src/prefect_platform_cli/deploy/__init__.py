"""From the repository to a running platform: secrets, releases, and the first run."""
