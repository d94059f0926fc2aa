"""Failures that a person can act on: what is wrong with which object, and what to do next."""


class Refusal(Exception):  # noqa: N818 - it is what the flow says, not a fault of the flow
    """The flow cannot go on, and trying again would not help.

    `message` is one sentence with the object and the cause, `next_step` the command or change
    that gets the reader further.
    """

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(f"{message}\nNext: {next_step}")
        self.message = message
        self.next_step = next_step


class NotYet(Refusal):
    """Like its parent, but time may cure it: tasks try again before they give up."""
