"""A notification block for Prefect that sends email through an SMTP server.

Prefect's own email blocks either use a vendor's API or only hold credentials. Prefect finds this
block through the entry point group `prefect.collections`.
"""

import datetime as dt
import smtplib
import ssl
from contextlib import suppress
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import make_msgid
from typing import Annotated, Literal, Self

from anyio import to_thread
from prefect._internal.compatibility.async_dispatch import async_dispatch
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import AfterValidator, Field, SecretStr, model_validator

# Applies to each exchange with the server: connecting, sending a command, reading an answer.
_TIMEOUT_SECONDS = 10.0
_PERMANENT = 500
# Every server accepts 7-bit content, even one without the extension 8BITMIME.
_POLICY = policy.SMTP.clone(cte_type="7bit")


class EmailRefused(NotificationError):  # noqa: N818 - the standard's word for it
    """The server rejects this message permanently; `log` contains the reason."""


def _address(value: str) -> str:
    """Return `value`; raises ValueError when it is not an address of the form name@domain."""
    try:
        address = Address(addr_spec=value)
    except Exception as error:
        raise ValueError("is not an address of the form name@domain") from error
    if not address.username or not address.domain:
        raise ValueError("is not an address of the form name@domain")
    return value


EmailAddress = Annotated[str, AfterValidator(_address)]


class Email(NotificationBlock):
    """Send plain text emails through an SMTP server.

    A message that is not taken always raises: EmailRefused when it is refused for good (an answer
    of 500 to 599, also for some recipients alone), NotificationError when another try may help.
    """

    _block_type_name = "Email"
    _block_type_slug = "email"
    _description = "Sends notifications as plain text emails through an SMTP server."

    host: str = Field(description="Host name of the SMTP server.")
    port: int = Field(
        default=587,
        ge=1,
        le=65535,
        description="Port of the SMTP server: 587 for starttls, 465 for tls, as a rule.",
    )
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls",
        description=(
            "Encryption: starttls after a greeting in plain text, tls from the first byte, or none."
        ),
    )
    username: str | None = Field(default=None, description="User name, if the server wants one.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    sender: EmailAddress = Field(description="Address that the emails come from.")
    recipients: list[EmailAddress] = Field(
        min_length=1, description="Addresses that each email goes to."
    )
    ca_file: str | None = Field(
        default=None,
        title="CA file",
        description=(
            "File in the server's pods with the certificate authorities to trust instead of the "
            "system's, as PEM."
        ),
    )

    @model_validator(mode="after")
    def _password_is_whole_and_encrypted(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password have to be set together")
        if self.password is not None and self.security == "none":
            raise ValueError("a password needs encryption: set security to starttls or tls")
        return self

    async def anotify(self, body: str, subject: str | None = None) -> None:
        """Send one email to all recipients, in a thread; raises like `notify`."""
        await to_thread.run_sync(self._send, self._message(body, subject))

    @async_dispatch(anotify)
    def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]
        """Send one email to all recipients.

        Line breaks and control characters in the subject become spaces, because the name of a flow
        run may contain them. Raises EmailRefused or NotificationError.
        """
        self._send(self._message(body, subject))

    def _message(self, body: str, subject: str | None) -> EmailMessage:
        message = EmailMessage(policy=_POLICY)
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message["Subject"] = _one_line(subject or "Notification")
        message["Date"] = dt.datetime.now(dt.UTC)
        # The default is the name of this host, which costs a DNS look-up and means nothing outside.
        message["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # suppresses auto-replies, see RFC 3834
        message.set_content(body)
        return message

    def _send(self, message: EmailMessage) -> None:
        try:
            refused = self._hand_over(message)
        except smtplib.SMTPRecipientsRefused as error:
            reason = f"no recipient was accepted: {_answers(error.recipients)}"
            if all(code >= _PERMANENT for code, _ in error.recipients.values()):
                raise EmailRefused(reason) from None
            raise NotificationError(reason) from None
        except smtplib.SMTPResponseException as error:
            reason = f"the SMTP server answered {_answer(error.smtp_code, error.smtp_error)}"
            if error.smtp_code >= _PERMANENT:
                raise EmailRefused(reason) from None
            raise NotificationError(reason) from None
        except smtplib.SMTPNotSupportedError as error:
            raise EmailRefused(f"{self.host}:{self.port}: {error}") from None
        except (smtplib.SMTPException, OSError) as error:
            reason = f"{self.host}:{self.port}: {type(error).__name__}: {error}"
            raise NotificationError(reason) from None
        if refused:
            # Sending again would deliver the message twice to the recipients that accepted it.
            raise EmailRefused(f"some recipients were not accepted: {_answers(refused)}")

    def _hand_over(self, message: EmailMessage) -> "smtplib._SendErrs":
        """Send the message; return the answers for refused recipients if others were accepted."""
        client: smtplib.SMTP
        if self.security == "tls":
            client = smtplib.SMTP_SSL(
                self.host, self.port, timeout=_TIMEOUT_SECONDS, context=self._trusted()
            )
        else:
            client = smtplib.SMTP(self.host, self.port, timeout=_TIMEOUT_SECONDS)
        try:
            if self.security == "starttls":
                client.starttls(context=self._trusted())
            if self.username is not None and self.password is not None:
                client.login(self.username, self.password.get_secret_value())
            refused = client.send_message(message)
            # The message has been accepted, so a failing QUIT must not cause another attempt.
            with suppress(smtplib.SMTPException):
                client.quit()
            return refused
        finally:
            client.close()

    def _trusted(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise NotificationError(f"CA file {self.ca_file}: {error}") from None


def _one_line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _answers(refused: "smtplib._SendErrs") -> str:
    return ", ".join(f"{address} ({_answer(*each)})" for address, each in refused.items())


def _answer(code: int, text: bytes | str) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {_one_line(words)}"
