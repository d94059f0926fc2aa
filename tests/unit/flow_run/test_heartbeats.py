"""A run does not wait for its thread of heartbeats, which goes on beside the flow."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow_engine

from prefect_platform.flow_run import heartbeats


def test_the_engine_ends_while_its_thread_of_heartbeats_sleeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined: list[threading.Thread] = []

    class Thread(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            joined.append(self)
            super().join(timeout)

    sent = threading.Event()
    engine: Any = SimpleNamespace(
        heartbeat_seconds=30,
        flow_run=None,
        logger=SimpleNamespace(debug=lambda *_, **__: None),
        _build_heartbeat_event_template=lambda: ({}, []),
        _emit_flow_run_heartbeat=lambda *_: sent.set(),
    )
    monkeypatch.setattr(flow_engine, "_send_heartbeats", flow_engine._send_heartbeats)
    monkeypatch.setattr(threading, "Thread", Thread)

    heartbeats.end_without_waiting()
    with flow_engine._send_heartbeats(engine):
        assert sent.wait(timeout=30)

    assert joined == []
