"""The agent of one node: it keeps the node's rules in line with the cluster's NetworkPolicies.

When the agent stops, the rules stay in force, and new pods stay closed until it runs again.
"""

import os
import sys
import threading
import traceback
from functools import partial
from queue import SimpleQueue

from network_policy.announcements import Announcement, listen
from network_policy.kernel import RefusedError, put_in_force
from network_policy.ruleset import ruleset
from network_policy.view import WATCHED, View
from network_policy.watch import Change, follow

_Inbox = SimpleQueue[Announcement | tuple[str, Change]]


def main() -> None:
    """Follow the API and the CNI plugin, and put every change in force; never returns."""
    threading.excepthook = _end
    inbox: _Inbox = SimpleQueue()
    threading.Thread(target=listen, args=(inbox.put,)).start()
    for path in WATCHED:
        threading.Thread(target=partial(_forward, path, inbox)).start()
    try:
        _enforce(inbox, os.environ["NODE_NAME"])
    except RefusedError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)


def _forward(path: str, inbox: _Inbox) -> None:
    for change in follow(path):
        inbox.put((path, change))


def _enforce(inbox: _Inbox, node: str) -> None:
    view, in_force = View(), ""
    waiting: list[Announcement] = []
    while True:
        received = [inbox.get()]
        while not inbox.empty():  # one transaction for all pending changes
            received.append(inbox.get())
        announced = [each for each in received if isinstance(each, Announcement)]
        for each in received:
            if isinstance(each, Announcement):
                view.announce(each)
            else:
                view.take(*each)
        waiting += announced
        if not view.complete():
            continue
        rules = ruleset(view.cluster(), node)
        # The plugin closes an announced address in the kernel, so the rules are loaded again even
        # if they have not changed.
        if rules != in_force or announced:
            put_in_force(rules)
            in_force = rules
        for each in waiting:
            if view.knows(each.uid):
                each.in_force.set()
        waiting = [each for each in waiting if not each.in_force.is_set()]


def _end(failure: threading.ExceptHookArgs) -> None:
    """Stop the agent when one of its threads fails, so that the kubelet restarts it."""
    traceback.print_exception(failure.exc_value)
    os._exit(1)
