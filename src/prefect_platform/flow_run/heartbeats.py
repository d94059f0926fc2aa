"""The engine of a synchronous flow ends without its thread of heartbeats, as an asynchronous does.

The thread sends nothing after the flow has ended, but it may sleep for up to a second before it
notices. Prefect waits for it, so the pod of each run would end up to a second later.
"""

from functools import partial

from prefect import flow_engine


def end_without_waiting() -> None:
    """Let the engines that this process starts from now on not wait for their heartbeats."""
    flow_engine._send_heartbeats = partial(flow_engine._send_heartbeats, join_on_exit=False)
