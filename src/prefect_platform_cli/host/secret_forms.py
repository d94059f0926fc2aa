"""Recognize secrets by their form: private keys, known tokens, passwords in addresses."""

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detect_secrets.plugins.base import BasePlugin

# What documentation writes in place of a value, and templates.
PLACEHOLDER = re.compile(
    r"(?i:.*[{<%].*|(.)\1*|[x*.-]+|.*(example|change[-_]?me|placeholder|dummy|redacted|your[-_ ]).*"
    r"|passw(or)?d|pass|pwd|s[3e]cr[3e]t|token|user(name)?|test|none|null|true|false|str(ing)?|key)"
)
_PREFECT_KEY = re.compile(r"\bpn[ub]_[A-Za-z0-9]{30,}\b")
_ADDRESS = re.compile(r"://[^/\s:@{}]*:([^/\s@{}]+)@")
_SHORTEST_KEY, _LONGEST_TEXT = 16, 20_000


@cache
def _detectors() -> "list[BasePlugin]":
    """Return those detectors that know the exact form of a key. The others guess by entropy."""
    from detect_secrets.plugins import (  # noqa: PLC0415 - loads an HTTP client, so only if needed
        aws,
        azure_storage_key,
        discord,
        github_token,
        gitlab_token,
        jwt,
        mailchimp,
        npm,
        openai,
        private_key,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )

    return [
        aws.AWSKeyDetector(),
        azure_storage_key.AzureStorageKeyDetector(),
        discord.DiscordBotTokenDetector(),
        github_token.GitHubTokenDetector(),
        gitlab_token.GitLabTokenDetector(),
        jwt.JwtTokenDetector(),
        mailchimp.MailchimpDetector(),
        npm.NpmDetector(),
        openai.OpenAIDetector(),
        private_key.PrivateKeyDetector(),
        pypi_token.PypiTokenDetector(),
        sendgrid.SendGridDetector(),
        slack.SlackDetector(),
        square_oauth.SquareOAuthDetector(),
        stripe.StripeDetector(),
        telegram_token.TelegramBotTokenDetector(),
        twilio.TwilioKeyDetector(),
    ]


@cache
def kind_of_secret(text: str) -> str | None:
    """Return what kind of secret `text` contains, None if it contains none of a known form."""
    if not _SHORTEST_KEY <= len(text) <= _LONGEST_TEXT:
        return None
    if _PREFECT_KEY.search(text):
        return "API key of Prefect"
    if (address := _ADDRESS.search(text)) and not PLACEHOLDER.fullmatch(address[1]):
        return "password in an address"
    for detector in _detectors():
        for secret in detector.analyze_string(text):
            if not PLACEHOLDER.fullmatch(secret):
                return str(detector.secret_type)
    return None
