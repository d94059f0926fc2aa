"""A pull step that changes the environment of the run, as a step may."""

import os


def set_variable() -> None:
    """Set a variable that the flow reads."""
    os.environ["OF_A_STEP"] = "set"
