"""In both modes, an alert arrives once, even if its channel or another one fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from prefect.blocks.notifications import (
    CustomWebhookNotificationBlock,
    MattermostWebhook,
    MicrosoftTeamsWebhook,
)
from prefect.blocks.webhook import Webhook
from pydantic import SecretStr

from prefect_platform.plugins.email_block import Email
from tests.integration.server import alerting
from tests.integration.server.alerting import Platform
from tests.integration.server.receivers import (
    HOST,
    PASSWORD,
    USER,
    Certificates,
    DeadChannel,
    Mailbox,
    Webhooks,
    mailbox,
    webhooks,
)

_SECRET = "token-that-nobody-may-read"
_TRIES = 6
_SHORT = (0.2,) * (_TRIES - 1)
_LONG = (5.0,) * (_TRIES - 1)
_NEVER = (86400.0,) * (_TRIES - 1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def hooks(certificates: Certificates) -> Iterator[Webhooks]:
    with webhooks(certificates) as running:
        yield running


@pytest.fixture(scope="module")
def box(certificates: Certificates) -> Iterator[Mailbox]:
    with mailbox(certificates) as running:
        yield running


def trusting(certificates: Certificates) -> dict[str, str]:
    """Return the variables that make the clients of webhooks trust the receivers."""
    return {"SSL_CERT_FILE": str(certificates.ca), "REQUESTS_CA_BUNDLE": str(certificates.ca)}


@pytest.fixture(scope="module", params=["single", "ha"])
def platform(
    request: pytest.FixtureRequest,
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    start = {"single": alerting.single, "ha": alerting.high_availability}[request.param]
    home = tmp_path_factory.mktemp(request.param)
    with start(home, _SHORT, NOTIFICATION_HOSTS=HOST, **trusting(certificates)) as running:
        yield running


@pytest.fixture(scope="module")
def ha(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("of-its-own")
    with alerting.high_availability(home, _LONG, **trusting(certificates)) as running:
        yield running


@pytest.fixture
def dead() -> Iterator[DeadChannel]:
    channel = DeadChannel()
    yield channel
    channel.close()


@pytest.fixture
def path(request: pytest.FixtureRequest) -> str:
    """Return the path of a webhook that only this test uses, with a secret in it."""
    return f"/{abs(hash(request.node.name))}/{_SECRET}"


def webhook(url: str, *, timeout: float = 10) -> CustomWebhookNotificationBlock:
    return CustomWebhookNotificationBlock(
        name="alerts",
        url=url,
        json_data={"subject": "{{subject}}", "body": "{{body}}"},
        timeout=timeout,
    )


def mail(box: Mailbox, certificates: Certificates) -> Email:
    return Email(
        host=HOST,
        port=box.port,
        username=USER,
        password=SecretStr(PASSWORD),
        sender="prefect@example.org",
        recipients=["ops@example.org"],
        ca_file=str(certificates.ca),
    )


def assert_secret_is_not_disclosed(platform: Platform, *automations: str) -> None:
    assert _SECRET not in platform.log.read_text()
    for automation in automations:
        for what in ("action.triggered", "action.failed", "action.executed"):
            assert _SECRET not in str(platform.events(automation, what))


def test_each_kind_of_channel_receives_the_message_once(
    platform: Platform, hooks: Webhooks, box: Mailbox, certificates: Certificates, path: str
) -> None:
    box.messages.clear()
    teams_path = f"/workflows/{_SECRET}/triggers/manual/paths/invoke"
    already = {
        where: len(hooks.requests(where)) for where in (path, teams_path, f"/hooks/{_SECRET}")
    }
    teams = MicrosoftTeamsWebhook(
        url=SecretStr(f"{hooks.url(teams_path)}?api-version=2016-06-01&sig={_SECRET}")
    )
    mattermost = MattermostWebhook(
        hostname=HOST, port=hooks.port, secure=True, token=SecretStr(_SECRET)
    )
    automation = platform.automation(
        "every-kind",
        platform.save(webhook(hooks.url(path)), "every-webhook"),
        platform.save(teams, "every-teams"),
        platform.save(mattermost, "every-mattermost"),
        platform.save(mail(box, certificates), "every-email"),
        subject="Crashed: {{ event.resource.name }}",
        body="{{ automation.name }}: {{ event.resource.name }} ended\nétoile",
    )
    platform.fire(automation, "overjoyed\nladybug")

    executed = platform.wait_for(automation, "action.executed", 4)
    subject, body = "Crashed: overjoyed\nladybug", "every-kind: overjoyed\nladybug ended\nétoile"
    new = {where: hooks.requests(where)[count:] for where, count in already.items()}
    assert new[path] == [{"subject": subject, "body": body}]
    (to_teams,) = new[teams_path]
    assert body.splitlines()[-1] in str(to_teams)
    (to_mattermost,) = new[f"/hooks/{_SECRET}"]
    assert "étoile" in to_mattermost["text"]
    (message,) = box.messages
    assert message["Subject"] == "Crashed: overjoyed ladybug"
    assert message.get_content().splitlines() == body.splitlines()
    assert len(executed) == 4
    assert not platform.events(automation, "action.failed")
    assert_secret_is_not_disclosed(platform, automation)


def test_a_receiver_that_fails_twice_receives_the_message_once(
    platform: Platform, hooks: Webhooks, box: Mailbox, certificates: Certificates, path: str
) -> None:
    box.messages.clear()
    box.answers[:] = ["451 busy", "421 closing"]
    hooks.received.pop(path, None)
    hooks.answers[path] = [503, 429]
    automation = platform.automation(
        "fails-twice",
        platform.save(webhook(hooks.url(path)), "twice-webhook"),
        platform.save(mail(box, certificates), "twice-email"),
    )
    platform.fire(automation)

    platform.wait_for(automation, "action.executed", 2)
    assert hooks.requests(path) == [{"subject": "fails-twice", "body": "overjoyed-ladybug"}] * 3
    assert [message["Subject"] for message in box.messages] == ["fails-twice"]
    assert not platform.events(automation, "action.failed")
    assert len(platform.events(automation, "action.executed")) == 2


def test_a_dead_channel_does_not_delay_the_others(
    platform: Platform, hooks: Webhooks, dead: DeadChannel, path: str
) -> None:
    hooks.received.pop(path, None)
    mattermost = MattermostWebhook(hostname=HOST, port=dead.port, token=SecretStr(_SECRET))
    mattermost_is_dead = platform.save(mattermost, "dead-mattermost")
    webhook_is_dead = platform.save(
        webhook(f"http://{HOST}:{dead.port}/{_SECRET}", timeout=300), "dead-webhook"
    )
    stuck = platform.automation("dead", webhook_is_dead, mattermost_is_dead)
    healthy = platform.automation(
        "alive", webhook_is_dead, platform.save(webhook(hooks.url(path)), "alive-webhook")
    )
    platform.fire(stuck, times=6)
    platform.fire(healthy)

    hooks.wait_for(path)
    waiting, _ = dead.attempts()
    # The first attempts of the dead webhook still wait, so the other one did not wait for them.
    assert waiting >= 4
    assert not platform.events(stuck, "action.failed")
    assert len(platform.wait_for(healthy, "action.executed")) == 1
    # End the waiting attempts, so that they do not keep the server busy in the other tests.
    with platform.client() as client:
        for block in (webhook_is_dead, mattermost_is_dead):
            client.delete(f"/block_documents/{block}").raise_for_status()
    dead.close()
    platform.wait_for(stuck, "action.failed", 12)
    assert_secret_is_not_disclosed(platform, stuck, healthy)


def test_the_last_failure_emits_an_event_and_is_logged(
    platform: Platform, hooks: Webhooks, path: str
) -> None:
    hooks.received.pop(path, None)
    hooks.answers[path] = [503] * 20
    block = platform.save(webhook(hooks.url(path)), "always-busy")
    automation = platform.automation("gives-up", block)
    platform.fire(automation)

    (failed,) = platform.wait_for(automation, "action.failed")
    reason = "after 6 of 6 attempts: the receiver answered with HTTP status 503"
    assert (
        failed["payload"]["reason"] == f"Notification through block 'always-busy' failed {reason}"
    )
    assert {
        "prefect.resource.id": f"prefect.block-document.{block}",
        "prefect.resource.role": "block",
        "prefect.resource.name": "always-busy",
    } in failed["related"]
    what = "Notification of automation 'gives-up' through block 'always-busy' failed for good"
    assert f"{what} {reason}" in " ".join(platform.log.read_text().split())
    assert len(hooks.requests(path)) == _TRIES
    assert not platform.events(automation, "action.executed")
    assert_secret_is_not_disclosed(platform, automation)


def test_a_permanent_failure_is_not_tried_again(
    platform: Platform, hooks: Webhooks, box: Mailbox, certificates: Certificates, path: str
) -> None:
    hooks.received.pop(path, None)
    gone = f"/workflows/{_SECRET}-gone/triggers/manual/paths/invoke"
    hooks.received.pop(gone, None)
    hooks.answers |= {path: [404] * 20, gone: [401] * 20}
    teams = MicrosoftTeamsWebhook(
        url=SecretStr(f"{hooks.url(gone)}?api-version=2016-06-01&sig={_SECRET}")
    )
    wrong_password = mail(box, certificates).model_copy(update={"password": SecretStr(_SECRET)})
    blocks = {
        "once-webhook": webhook(hooks.url(path)),
        "once-teams": teams,
        "once-email": wrong_password,
        "once-deleted": webhook(hooks.url(path)),
        "once-invalid": teams,
    }
    saved = {name: platform.save(block, name) for name, block in blocks.items()}
    automation = platform.automation("tried-once", *saved.values())
    with platform.client() as client:
        client.delete(f"/block_documents/{saved['once-deleted']}").raise_for_status()
        no_teams = {"data": {"url": f"https://example.org/{_SECRET}"}, "merge_existing_data": False}
        client.patch(f"/block_documents/{saved['once-invalid']}", json=no_teams).raise_for_status()
    platform.fire(automation)

    failed = platform.wait_for(automation, "action.failed", 5)
    reasons = {event["payload"]["action_index"]: event["payload"]["reason"] for event in failed}
    assert (
        "'once-webhook' failed after 1 of 6 attempts: the receiver answered with HTTP status 404"
        in reasons[0]
    )
    assert "'once-teams' failed after 1 of 6 attempts" in reasons[1]
    assert "error=401" in reasons[1]
    assert "'once-email' failed after 1 of 6 attempts: the SMTP server answered 535" in reasons[2]
    assert "after 1 of 6 attempts: the block no longer exists" in reasons[3]
    assert "after 1 of 6 attempts: the block is not valid" in reasons[4]
    assert (len(hooks.requests(path)), len(hooks.requests(gone))) == (1, 1)
    assert_secret_is_not_disclosed(platform, automation)


def test_notifications_and_webhooks_reach_declared_hosts_only(
    platform: Platform, hooks: Webhooks, path: str
) -> None:
    hooks.received.pop(path, None)
    declared, other = (hooks.url(path), hooks.url(path).replace(HOST, "localhost"))
    notified = platform.automation(
        "not-declared",
        platform.save(webhook(other), "not-declared"),
        platform.save(webhook(declared), "declared"),
    )
    called = {
        url: platform.calling(name, platform.save(Webhook(url=SecretStr(url)), name))
        for name, url in (("calls-declared", declared), ("calls-another", other))
    }
    for automation in (notified, *called.values()):
        platform.fire(automation)

    refused = "the host localhost is not in notifications.hosts of prefect-server"
    (failed,) = platform.wait_for(notified, "action.failed")
    assert failed["payload"]["reason"].endswith(f"failed after 1 of 6 attempts: {refused}")
    (failed,) = platform.wait_for(called[other], "action.failed")
    assert failed["payload"]["reason"] == refused
    assert refused in " ".join(platform.log.read_text().split())
    platform.wait_for(notified, "action.executed")
    platform.wait_for(called[declared], "action.executed")
    assert len(hooks.requests(path)) == 2
    assert_secret_is_not_disclosed(platform, notified, *called.values())


def test_an_action_that_is_received_twice_is_sent_once(
    ha: Platform, hooks: Webhooks, path: str
) -> None:
    hooks.received.pop(path, None)
    block = ha.save(webhook(hooks.url(path)), "comes-again")
    automation = ha.automation("comes-again", block)
    ha.fire(automation, "first")
    ha.wait_for(automation, "action.executed")
    assert ha.redis_url
    with redis.Redis.from_url(ha.redis_url) as broker:
        # The broker does this when a services pod dies before it has acknowledged the action.
        (_, action), *_ = broker.xrevrange("actions", count=1)
        broker.xadd("actions", action)
    ha.fire(automation, "second")
    ha.wait_for(automation, "action.executed", 2)

    assert [each["body"] for each in hooks.requests(path)] == ["first", "second"]


def test_a_queued_alert_survives_the_services_pod(ha: Platform, hooks: Webhooks, path: str) -> None:
    hooks.received.pop(path, None)
    hooks.answers[path] = [503]
    automation = ha.automation("outlives", ha.save(webhook(hooks.url(path)), "outlives"))
    ha.fire(automation)
    hooks.wait_for(path)
    assert ha.services
    ha.services.kill()
    ha.services.start(_LONG)

    ha.wait_for(automation, "action.executed")
    assert len(hooks.requests(path)) == 2


def test_the_server_of_mode_single_logs_how_many_alerts_it_lost_when_it_stopped(
    hooks: Webhooks, certificates: Certificates, path: str, tmp_path: Path
) -> None:
    hooks.received.pop(path, None)
    hooks.answers[path] = [503]
    with alerting.single(tmp_path, _NEVER, **trusting(certificates)) as server:
        automation = server.automation("ends", server.save(webhook(hooks.url(path)), "ends"))
        server.fire(automation)
        server.wait_for_log("the next one is in")

    lost = "Notifications that are lost because the process ends before their delivery: 1"
    assert lost in server.log.read_text()
