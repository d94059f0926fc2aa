"""The exception that is shown to users: what failed, why, and what to type next."""


class PlatformError(Exception):
    """A failure that the user can act on, printed without a traceback.

    `message` names the object and the cause in one sentence; `next_step` is the command to type
    or the change to make.
    """

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\nNext: {self.next_step}"
