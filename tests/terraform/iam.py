"""Enforcement of IAM for External Secrets, because moto allows every request by default.

This proxy replaces the endpoints of STS and Secrets Manager, and forwards only what the roles in
moto allow. It checks the trust policy of a role against the token, which Kubernetes has to confirm,
and the other policies against the secret. Only a real AWS account would verify more.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import httpx
from kubernetes import client as kubernetes

from tests.terraform.clients import Client

_REFUSAL = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{}</Message>"
    "</Error></ErrorResponse>"
)


@contextmanager
def guarded(
    emulator: str, iam: Client, secrets_manager: Client, cluster: kubernetes.ApiClient
) -> Iterator[str]:
    """Yield the proxy's URL; `iam` and `secrets_manager` are clients of the `emulator`."""
    roles: dict[str, str] = {}  # the assumed roles, by access key

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            if asked.get("Action") == "AssumeRoleWithWebIdentity":
                self.assume(asked, body)
            else:
                self.read(body)

        def assume(self, asked: dict[str, str], body: bytes) -> None:
            if not _trusts(iam, cluster, asked["RoleArn"], asked["WebIdentityToken"]):
                refusal = _REFUSAL.format(f"this token may not assume {asked['RoleArn']}")
                self.answer(HTTPStatus.FORBIDDEN, refusal.encode())
                return
            made = self.forward(body)
            key = re.search(r"<AccessKeyId>(\w+)<", made.text)
            assert key is not None, made.text
            roles[key[1]] = asked["RoleArn"]

        def read(self, body: bytes) -> None:
            key = re.search(r"Credential=(\w+)/", self.headers["Authorization"])
            role = roles.get(key[1] if key else "", "")
            action = self.headers["X-Amz-Target"].replace("secretsmanager.", "secretsmanager:")
            secret = secrets_manager.describe_secret(SecretId=json.loads(body)["SecretId"])
            if role and _allowed(iam, role, action, secret["ARN"]):
                self.forward(body)
            else:
                caller = role or "an unknown caller"
                message = f"{caller} is not authorized to perform {action} on {secret['ARN']}"
                refused = {"__type": "AccessDeniedException", "Message": message}
                self.answer(HTTPStatus.BAD_REQUEST, json.dumps(refused).encode())

        def forward(self, body: bytes) -> httpx.Response:
            kept = {
                name: self.headers[name]
                for name in ("Authorization", "Content-Type", "X-Amz-Date", "X-Amz-Target")
                if name in self.headers
            }
            answer = httpx.post(f"{emulator}{self.path}", content=body, headers=kept)
            self.answer(answer.status_code, answer.content, answer.headers["Content-Type"])
            return answer

        def answer(self, status: int, body: bytes, kind: str = "text/xml") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _trusts(iam: Client, cluster: kubernetes.ApiClient, role: str, token: str) -> bool:
    """Return whether the role trusts the token and Kubernetes confirms that it issued it."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    audience = claims["aud"][0]
    review = kubernetes.V1TokenReview(
        spec=kubernetes.V1TokenReviewSpec(token=token, audiences=[audience])
    )
    confirmed = kubernetes.AuthenticationV1Api(cluster).create_token_review(review).status
    issuer = claims["iss"].removeprefix("https://")
    found = {f"{issuer}:sub": claims["sub"], f"{issuer}:aud": audience}
    document = iam.get_role(RoleName=_name(role))["Role"]["AssumeRolePolicyDocument"]
    trusted = any(
        statement["Effect"] == "Allow"
        and statement["Action"] == "sts:AssumeRoleWithWebIdentity"
        and statement["Principal"]["Federated"].endswith(f":oidc-provider/{issuer}")
        and statement["Condition"]["StringEquals"].items() <= found.items()
        for statement in document["Statement"]
    )
    return bool(trusted and confirmed.authenticated and confirmed.user.username == claims["sub"])


def _allowed(iam: Client, role: str, action: str, resource: str) -> bool:
    return any(
        statement["Effect"] == "Allow"
        and any(fnmatchcase(action, each) for each in _listed(statement["Action"]))
        and any(fnmatchcase(resource, each) for each in _listed(statement["Resource"]))
        for name in iam.list_role_policies(RoleName=_name(role))["PolicyNames"]
        for statement in iam.get_role_policy(RoleName=_name(role), PolicyName=name)[
            "PolicyDocument"
        ]["Statement"]
    )


def _listed(value: Any) -> list[str]:  # noqa: ANN401 - JSON
    return [value] if isinstance(value, str) else list(value)


def _name(role: str) -> str:
    return role.rpartition("/")[2]
