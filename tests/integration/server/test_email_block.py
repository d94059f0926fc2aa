"""The email block sends complete messages to an SMTP server, or reports whether to try again."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from prefect.blocks.abstract import NotificationError
from pydantic import ValidationError

from prefect_platform.plugins.email_block import Email, EmailRefused
from tests.integration.server.certificates import Authority
from tests.integration.server.receivers import (
    HOST,
    PASSWORD,
    USER,
    Certificates,
    Mailbox,
    mailbox,
)
from tests.support.servers import free_ports

_RECIPIENTS = ["ops@example.org", "night@example.org"]
Security = Literal["starttls", "tls", "none"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def box(certificates: Certificates) -> Iterator[Mailbox]:
    """Return a server with STARTTLS that requires a password."""
    with mailbox(certificates) as running:
        yield running


def email(server_port: int, certificates: Certificates, **values: object) -> Email:
    encrypted = values.get("security") != "none"
    credentials = {"username": USER, "password": PASSWORD} if encrypted else {}
    return Email.model_validate(
        {
            "host": HOST,
            "port": server_port,
            "sender": "prefect@example.org",
            "recipients": _RECIPIENTS,
            "ca_file": str(certificates.ca),
            **credentials,
            **values,
        }
    )


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_a_message_arrives_complete_for_all_recipients(
    certificates: Certificates, security: Security
) -> None:
    body = (
        "Flow run étoile crashed.\n.\nA line after a lone dot, and one that is long: " + "x" * 2000
    )
    with mailbox(certificates, security) as box:
        email(box.port, certificates, security=security).notify(body, subject="Crashed: étoile")

    (message,) = box.messages
    assert box.envelopes[0].mail_from == "prefect@example.org"
    assert box.envelopes[0].rcpt_tos == _RECIPIENTS
    assert message["Subject"] == "Crashed: étoile"
    assert message["From"] == "prefect@example.org"
    assert message["To"] == ", ".join(_RECIPIENTS)
    assert message["Date"].datetime is not None
    assert re.fullmatch(r"<[^@>]+@example\.org>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "text/plain"
    assert message.get_content().rstrip("\r\n").replace("\r\n", "\n") == body


def test_a_message_can_also_be_sent_from_an_event_loop(
    certificates: Certificates, box: Mailbox
) -> None:
    asyncio.run(email(box.port, certificates).anotify("body", subject="subject"))

    assert [message["Subject"] for message in box.messages] == ["subject"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b", "\x85", "\u2028", "\0\n"])
def test_a_subject_cannot_inject_a_header(
    certificates: Certificates, box: Mailbox, end: str
) -> None:
    subject = f"run{end}Bcc: everybody@example.org{end}{end}another body"
    email(box.port, certificates).notify("body", subject=subject)

    (message,) = box.messages
    assert message["Subject"] == "run Bcc: everybody@example.org another body"
    assert message["Bcc"] is None
    assert box.envelopes[0].rcpt_tos == _RECIPIENTS
    assert message.get_content().strip() == "body"


@pytest.mark.parametrize(
    "values",
    [
        {"recipients": []},
        {"recipients": ["ops@example.org\nBcc: everybody@example.org"]},
        {"recipients": ["ops@example.org, everybody@example.org"]},
        {"recipients": ["ops"]},
        {"sender": "prefect@example.org\r\nSubject: other"},
        {"sender": "@example.org"},
        {"password": None},
        {"security": "none", "username": USER, "password": PASSWORD},
        {"security": "ssl"},
        {"port": 0},
    ],
    ids=str,
)
def test_invalid_values_are_refused(certificates: Certificates, values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        email(25, certificates, **values)


@pytest.mark.parametrize(
    ("answer", "refused"), [("451 try later", False), ("554 not from you", True)]
)
def test_the_answer_of_the_server_decides_whether_to_try_again(
    certificates: Certificates, box: Mailbox, answer: str, *, refused: bool
) -> None:
    box.answers.append(answer)
    with pytest.raises(NotificationError) as failure:
        email(box.port, certificates).notify("body")

    assert isinstance(failure.value, EmailRefused) == refused
    assert failure.value.log == f"the SMTP server answered {answer}"
    assert not box.messages


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        (["450 greylisted", "450 greylisted"], False),
        (["450 greylisted", "550 no such user"], False),
        (["550 no such user", "550 no such user"], True),
    ],
)
def test_a_message_without_accepted_recipients_is_tried_again_if_one_refusal_is_temporary(
    certificates: Certificates, box: Mailbox, answers: list[str], *, refused: bool
) -> None:
    box.refused = dict(zip(_RECIPIENTS, answers, strict=True))
    with pytest.raises(NotificationError) as failure:
        email(box.port, certificates).notify("body")

    assert isinstance(failure.value, EmailRefused) == refused
    for address, answer in box.refused.items():
        assert f"{address} ({answer})" in failure.value.log


def test_a_refused_recipient_does_not_cause_a_second_delivery_to_the_others(
    certificates: Certificates, box: Mailbox
) -> None:
    box.refused = {"night@example.org": "450 mailbox busy"}
    with pytest.raises(EmailRefused) as failure:
        email(box.port, certificates).notify("body")

    assert "night@example.org (450 mailbox busy)" in failure.value.log
    assert [envelope.rcpt_tos for envelope in box.envelopes] == [["ops@example.org"]]


def test_an_error_in_reply_to_quit_is_not_a_failure(
    certificates: Certificates, box: Mailbox
) -> None:
    box.quit_answer = "421 too busy to part"
    email(box.port, certificates).notify("body")

    assert len(box.messages) == 1


def test_a_wrong_password_is_refused_and_never_printed(
    certificates: Certificates, box: Mailbox
) -> None:
    with pytest.raises(EmailRefused) as failure:
        email(box.port, certificates, password="hidden-word").notify("body")

    assert "535" in failure.value.log
    assert "hidden-word" not in f"{failure.value.log} {failure.value!r}"


def test_no_password_is_sent_to_a_server_without_encryption(certificates: Certificates) -> None:
    with mailbox(certificates, "none") as box, pytest.raises(EmailRefused) as failure:
        email(box.port, certificates, security="starttls").notify("body")

    assert "STARTTLS" in failure.value.log
    assert not box.messages


def test_nothing_is_sent_to_a_server_of_another_authority(
    certificates: Certificates, box: Mailbox, tmp_path: Path
) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(Authority("a stranger").pem)
    with pytest.raises(NotificationError) as failure:
        email(box.port, certificates, ca_file=str(other)).notify("body")

    assert "certificate verify failed" in failure.value.log
    assert not box.messages


def test_a_missing_ca_file_is_named(certificates: Certificates, box: Mailbox) -> None:
    with pytest.raises(NotificationError) as failure:
        email(box.port, certificates, ca_file="/no/such/ca.crt").notify("body")

    assert failure.value.log.startswith("CA file /no/such/ca.crt: ")


def test_an_unreachable_server_is_tried_again(certificates: Certificates) -> None:
    (port,) = free_ports(1)
    with pytest.raises(NotificationError) as failure:
        email(port, certificates).notify("body")

    assert not isinstance(failure.value, EmailRefused)
    assert failure.value.log.startswith(f"{HOST}:{port}: ConnectionRefusedError")
