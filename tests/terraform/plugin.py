"""A stand-in for the AWS provider, where the real one cannot be downloaded.

OpenTofu starts it like any provider: a handshake on standard output, then gRPC on a local socket.
It has only the resources, data sources and ephemeral resources that our modules use, which are in
`tests/terraform/aws.py`. The same tests can also run against the real provider: see
`tests/terraform/conftest.py`.
"""

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import msgpack

from tests.terraform.aws import AWS
from tests.terraform.schema import Block, Provider, RefusalError, Values

_ERROR = 1
_LIST, _SET = 2, 3
# The protocol's encoding of a value that is known only after apply.
_UNKNOWN = msgpack.ExtType(0, b"\0")

messages: Any = grpc.protos("tests/terraform/provider.proto")
Message = Any  # gRPC makes the classes of messages when it reads their definition


def _encode(values: object) -> Message:
    return messages.Value(msgpack=msgpack.packb(values))


def _decode(value: Message) -> Values | None:
    decoded: Values | None = msgpack.unpackb(value.msgpack)
    return decoded


def _known(value: object) -> object:
    """Return `value` with None in place of values that are not known yet."""
    if isinstance(value, msgpack.ExtType):
        return None
    if isinstance(value, list):
        return [_known(each) for each in value]
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    return value


def _block(block: Block) -> Message:
    return messages.Block(
        attributes=[
            messages.Attribute(
                name=name,
                type=attribute.type.encode(),
                required=attribute.required,
                optional=not attribute.required and not attribute.computed,
                computed=attribute.computed,
                sensitive=attribute.sensitive,
                write_only=attribute.write_only,
            )
            for name, attribute in block.attributes.items()
        ],
        block_types=[
            messages.NestedBlock(
                type_name=name,
                block=_block(nested),
                nesting=_SET if nested.is_set else _LIST,
                min_items=nested.least,
                max_items=nested.most,
            )
            for name, nested in block.blocks.items()
        ],
    )


def _schemas(types: Mapping[str, Any]) -> dict[str, Any]:
    return {name: messages.Schema(block=_block(each.schema)) for name, each in types.items()}


class _Calls:
    """The calls of the protocol, each of which takes a message and returns one."""

    def __init__(self, provider: Provider, stop: Callable[[], None]) -> None:
        self._provider = provider
        self._connection: Any = None
        self.shut_down = _handler(messages.Nothing, messages.Nothing, lambda _: stop())

    def handlers(self) -> dict[str, Message]:
        """Return the handlers by the name of the call in the protocol."""
        calls = {
            "GetProviderSchema": ("Nothing", "Schemas", self._get_schemas),
            "ValidateProviderConfig": ("Nothing", "Diagnostics", _accept),
            "ConfigureProvider": ("ProviderToConfigure", "Diagnostics", self._configure),
            "ValidateResourceConfig": ("Nothing", "Diagnostics", _accept),
            "ValidateDataResourceConfig": ("Nothing", "Diagnostics", _accept),
            "ValidateEphemeralResourceConfig": ("Nothing", "Diagnostics", _accept),
            "UpgradeResourceState": ("StoredState", "UpgradedState", self._upgrade),
            "ReadResource": ("StateToRead", "ReadState", self._read),
            "PlanResourceChange": ("Change", "Planned", self._plan),
            "ApplyResourceChange": ("Change", "Applied", self._apply),
            "ReadDataSource": ("Configuration", "ReadState", self._look_up),
            "OpenEphemeralResource": ("Configuration", "Opened", self._open),
            "CloseEphemeralResource": ("Nothing", "Diagnostics", _accept),
        }
        return {
            name: _handler(getattr(messages, asked), getattr(messages, answer), call)
            for name, (asked, answer, call) in calls.items()
        } | {"StopProvider": self.shut_down}

    def _get_schemas(self, _: Message) -> Message:
        return messages.Schemas(
            provider=messages.Schema(block=_block(self._provider.schema)),
            resource_schemas=_schemas(self._provider.resources),
            data_source_schemas=_schemas(self._provider.data_sources),
            ephemeral_resource_schemas=_schemas(self._provider.ephemeral_resources),
        )

    def _configure(self, request: Message) -> None:
        self._connection = self._provider.connect(
            {name: _known(value) for name, value in (_decode(request.config) or {}).items()}
        )

    def _upgrade(self, request: Message) -> Message:
        return messages.UpgradedState(state=_encode(json.loads(request.raw_state.json)))

    def _read(self, request: Message) -> Message:
        state = _decode(request.current_state)
        assert state is not None
        found = self._provider.resources[request.type_name].read(self._connection, state)
        return messages.ReadState(state=_encode(None if found is None else {**state, **found}))

    def _plan(self, request: Message) -> Message:
        prior, planned = _decode(request.prior_state), _decode(request.wanted_state)
        if planned is None:
            return messages.Planned(state=_encode(None))
        attributes = self._provider.resources[request.type_name].schema.attributes
        replaced = [
            name
            for name, attribute in attributes.items()
            if prior and attribute.replaces and prior[name] != planned[name]
        ]
        for name, attribute in attributes.items():
            if attribute.write_only:
                planned[name] = None
            elif attribute.computed and (prior is None or replaced):
                planned[name] = _UNKNOWN
        paths = [messages.Path(steps=[messages.Step(attribute_name=name)]) for name in replaced]
        return messages.Planned(state=_encode(planned), requires_replace=paths)

    def _apply(self, request: Message) -> Message:
        resource = self._provider.resources[request.type_name]
        prior, planned = _decode(request.prior_state), _decode(request.wanted_state)
        if planned is None:
            assert prior is not None
            resource.delete(self._connection, prior)
            return messages.Applied(state=_encode(None))
        config = _decode(request.config) or {}
        hidden = {
            name: config[name]
            for name, attribute in resource.schema.attributes.items()
            if attribute.write_only
        }
        computed = resource.write(self._connection, {**planned, **hidden}, prior)
        return messages.Applied(state=_encode({**planned, **computed}))

    def _look_up(self, request: Message) -> Message:
        source = self._provider.data_sources[request.type_name]
        config = _decode(request.config) or {}
        return messages.ReadState(
            state=_encode({**config, **source.read(self._connection, config)})
        )

    def _open(self, request: Message) -> Message:
        source = self._provider.ephemeral_resources[request.type_name]
        config = _decode(request.config) or {}
        return messages.Opened(result=_encode({**config, **source.read(self._connection, config)}))


def _accept(_: Message) -> None:
    """Accept every configuration: OpenTofu itself has checked it against the schema."""


def _handler(asked: Message, answer: Message, call: Callable[[Message], Message]) -> Message:
    """Return the handler of one call.

    It answers with an empty message if the call returns None, and with a diagnostic for an error.
    """

    def answered(request: Message, _: grpc.ServicerContext) -> Message:
        try:
            return call(request) or answer()
        except RefusalError as refusal:
            diagnostic = messages.Diagnostic(
                severity=_ERROR, summary=refusal.summary, detail=refusal.detail
            )
            kept = {"state": request.prior_state} if answer is messages.Applied else {}
            return answer(diagnostics=[diagnostic], **kept)

    return grpc.unary_unary_rpc_method_handler(
        answered,
        request_deserializer=asked.FromString,
        response_serializer=answer.SerializeToString,
    )


def serve(provider: Provider) -> None:
    """Serve `provider` until asked to stop, on a socket whose path goes to standard output."""
    if "TF_PLUGIN_MAGIC_COOKIE" not in os.environ:
        sys.exit("This is a plugin of Terraform's tests: OpenTofu starts it.")
    asked_to_stop = threading.Event()
    calls = _Calls(provider, asked_to_stop.set)
    # One call at a time, because two threads must not create boto3 clients at once.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("tfplugin6.Provider", calls.handlers()),
            grpc.method_handlers_generic_handler(
                "plugin.GRPCController", {"Shutdown": calls.shut_down}
            ),
        )
    )
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory) / "provider.sock"
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        print(f"1|6|unix|{socket}|grpc", flush=True)  # noqa: T201 - the handshake
        asked_to_stop.wait()
        server.stop(grace=1).wait()


if __name__ == "__main__":
    serve(AWS)
