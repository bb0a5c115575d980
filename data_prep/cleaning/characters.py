"""One form for a text: composed characters, plain line ends, no control characters, no blanks too many."""

import re
import sys
import unicodedata

# Form feed and vertical tab end a line as well: of a page, or of a cell.
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
# Inside a text some of them join emoji or shape Persian words: there they stay.
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u180e"
_BLANKS = "".join(chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace())
_AT_THE_ENDS = _BLANKS + ZERO_WIDTH
_RUN = re.compile(r"[^\S\n]+")
_AROUND_LINE_END = re.compile(r" ?\n ?")
_EMPTY_LINES = re.compile(r"\n{3,}")
_TIDY = re.compile(r"[!-~]+(?: [!-~]+)*")


def clean_text(text: str, *, keep_layout: bool = False) -> str:
    r"""The text in NFC without control characters; cleaned again it stays as it is.

    \r\n, \r, \v, \f, U+0085, U+2028 and U+2029 become \n; other control characters go. A run of blanks
    becomes one space, blanks beside a line end go, and at most one empty line stays, unless `keep_layout`.
    Blanks and zero-width characters (a byte order mark among them) at both ends go.
    """
    if _TIDY.fullmatch(text):  # most lines of ASCII: a third of the time
        return text
    text = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))
    # after the control characters: one may stand between a letter and its accent
    text = unicodedata.normalize("NFC", text)
    if not keep_layout:
        text = _RUN.sub(" ", text)
        text = _EMPTY_LINES.sub("\n\n", _AROUND_LINE_END.sub("\n", text))
    return text.strip(_AT_THE_ENDS)
