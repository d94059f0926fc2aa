"""Put a ruleset of nftables in force, all of it or nothing."""

import subprocess


class RefusedError(Exception):
    """nftables did not take a ruleset; what was in force stays."""


def put_in_force(rules: str) -> None:
    """Run `rules` as one transaction; raises RefusedError with what nft says."""
    ended = subprocess.run(
        ["nft", "--file", "-"], input=rules, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise RefusedError(f"nft refuses the rules: {ended.stderr.strip()}")
