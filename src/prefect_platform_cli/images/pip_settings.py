"""The package index settings of this machine, for pip in image builds."""

import configparser
import os
from pathlib import Path

_FORWARDED = ("index-url", "extra-index-url", "trusted-host")
_AUTHORITIES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def index_arguments() -> dict[str, str]:
    """Return the build arguments for pip's index, which are not stored in the image."""
    return {
        _variable(option): value for option in _FORWARDED if (value := _setting(option)) is not None
    }


def certificate_authority() -> Path | None:
    """Return the bundle of certificate authorities that this machine is configured to trust."""
    named = [os.environ.get(_AUTHORITIES[0]), _setting("cert")]
    named += [os.environ.get(name) for name in _AUTHORITIES[1:]]
    return next((Path(name) for name in named if name and Path(name).is_file()), None)


def _setting(option: str) -> str | None:
    """Return one of pip's options, from the environment or its configuration files."""
    value = os.environ.get(_variable(option))
    for file in _files():
        if value is None:
            configuration = configparser.ConfigParser(interpolation=None, strict=False)
            configuration.read(file)
            value = configuration.get("global", option, fallback=None)
    return value


def _files() -> list[Path]:
    """Return pip's configuration files, highest precedence first."""
    home = Path.home()
    named = os.environ.get("PIP_CONFIG_FILE")
    return [
        *([Path(named)] if named else []),
        home / ".config" / "pip" / "pip.conf",
        home / ".pip" / "pip.conf",
        Path("/etc/pip.conf"),
    ]


def _variable(option: str) -> str:
    return f"PIP_{option.upper().replace('-', '_')}"
