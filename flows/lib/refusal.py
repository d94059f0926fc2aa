"""Failures that a person can act on: what is wrong with which object, and what to do next."""


class Refusal(Exception):  # noqa: N818 - it is what the flow says, not a fault of the flow
    """The flow cannot go on, and a retry would not help.

    `message` names the object and the cause in one sentence; `next_step` is the command to type or
    the change to make.
    """

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(f"{message}\nNext: {next_step}")
        self.message = message
        self.next_step = next_step


class NotYet(Refusal):
    """A refusal that may pass with time, so tasks retry before they give up."""
