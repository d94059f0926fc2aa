"""Load an nftables ruleset in one transaction."""

import subprocess


class RefusedError(Exception):
    """nftables refused a ruleset; the previous rules stay in force."""


def put_in_force(rules: str) -> None:
    """Load `rules` in one transaction; raises RefusedError with the message of nft."""
    ended = subprocess.run(
        ["nft", "--file", "-"], input=rules, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise RefusedError(f"nft refuses the rules: {ended.stderr.strip()}")
