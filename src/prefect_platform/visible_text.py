"""Show text from elsewhere without letting it control the terminal.

Flows choose the names of their runs, their log lines and the messages of their states. A control
sequence in them could clear the screen, hide a line, or write to the clipboard of the person who
reads it.
"""

_PICTURES = 0x2400  # where Unicode's pictures of the control characters begin
_DELETE, _PICTURE_OF_DELETE = 0x7F, 0x2421
_KEPT = "\n\t"
_C1 = range(0x80, 0xA0)  # among them a one-character form of ESC [
# Characters that reverse the order in which the rest of a line is shown (UAX #9).
_DIRECTIONS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {
    **{code: _PICTURES + code for code in range(0x20) if chr(code) not in _KEPT},
    **dict.fromkeys((*_C1, *_DIRECTIONS), 0xFFFD),
    _DELETE: _PICTURE_OF_DELETE,
}


def visible(text: str) -> str:
    """Return the text with a visible character in place of each one that controls a terminal.

    Line breaks and tabs are kept. The length of the text does not change.
    """
    return text.translate(_SHOWN)
