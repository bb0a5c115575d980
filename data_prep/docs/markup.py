"""Strips reStructuredText, Markdown and doctest markup from docstrings of all the usual styles."""

import inspect
import re

# Sections that are code, links or citations: nothing in them describes the object itself.
_DROPPED = re.compile(
    r"examples?|(?:example |sample )?usages?|usage examples?|references?|citations?|credits|see also"
    r"|demo|doctest|tutorial"
)
_KEPT = re.compile(
    r"(?:keyword )?(?:args?|arguments)|(?:other )?param(?:eter)?s?|attributes|methods|returns?|return values?"
    r"|yields?|raises?|warns|warnings?|notes?|shapes?|inputs?|outputs?|tip|important"
)
_HEADING = re.compile(r"^(?:\*\*|#+ |_)?([A-Za-z][A-Za-z ]{2,24}?)(?:\*\*|_)?\s*:{0,2}\s*(?:\*\*)?$")
_EXAMPLE = re.compile(r"^(?:\*\*|#+ )?Examples?\b[^.]{0,60}:(?:\*\*)?$")
_RULE = re.compile(r"^\s*([-=~^*#+_`\"'.:])\1{2,}[\s\-=~+|]*$")
_FIELD = re.compile(
    r"^:(?:param|parameter|arg|key|keyword|return|returns|rtype|raise|raises|type|var|ivar)\b[^:]*:"
)
_DIRECTIVE = re.compile(r"^\.\. *([A-Za-z][\w:-]*?) ?::\s*(.*)$")
_TEXT_DIRECTIVES = re.compile(
    r"note|warnings?|important|tip|caution|attention|hint|admonition|danger|topic|container"
)
_OPTION = re.compile(r"^:[\w-]+:(\s|$)")
_INLINE: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"<!--.*?-->|</?(?:Tip|Added|Changed|Deprecated|br|p|div|img|a|ul|li|code|pre|b|i)\b[^>]*>", re.S
        ),
        " ",
    ),
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), " "),  # image
    (re.compile(r"\[([^\][]+)\]\((?:[^()]|\([^()]*\))*\)"), r"\1"),  # markdown link
    (re.compile(r":[a-z][\w:+-]*:`([^`<]*?)\s*<[^`>]*>`"), r"\1"),  # :ref:`text <target>`
    (re.compile(r":[a-z][\w:+-]*:`[~!.]*([^`]*)`"), r"\1"),  # :class:`~a.b`
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?"), r"\1"),  # `text <url>`_
    (re.compile(r"\s?\[[\w#*]{1,12}\]_"), ""),  # footnote mark
    (re.compile(r"\[`+[~!]?([^`]*)`+\]"), r"\1"),  # [`~Class`]
    (re.compile(r"``([^`]*)``"), r"\1"),
    (re.compile(r"`[~!]?([^`]*)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*\n]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([A-Za-z][^*\n]*[\w.])\*(?![\w*])"), r"\1"),
    (re.compile(r"https?://[^\s)>\]]+"), ""),
    (re.compile(r"\|([A-Za-z]\w*)\|"), r"\1"),  # substitution
    (re.compile(r"\\+ ?(?=(?:s|es|d|th)\b)|`"), ""),  # what is left of ``code``\ s, and unbalanced quotes
    (re.compile(r"\\(?:[ _*\\])"), " "),
    (re.compile(r"\(\s*\)(?=[\s.,])"), ""),  # what a removed link leaves
)
_TEMPLATE = re.compile(r"%\(\w+\)s|(?<![\w\\^}_])\{[a-z_]{3,}\}")  # filled in when the package is imported


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _skip_block(lines: list[str], start: int, indent: int) -> int:
    """Index of the first line at or after start that is not blank and not deeper than indent."""
    while start < len(lines) and (not lines[start].strip() or _indent(lines[start]) > indent):
        start += 1
    return start


def _skip_doctest(lines: list[str], start: int) -> int:
    """Index after a doctest: its prompts, and their output up to a blank line."""
    while start < len(lines) and lines[start].strip():
        start += 1
    return start


def _heading(lines: list[str], i: int) -> str | None:
    """The section that starts at line i, lower case, or None: underlined, with a colon, or in markdown."""
    if _EXAMPLE.match(lines[i].strip()):
        return "example"
    match = _HEADING.match(lines[i].strip())
    if match is None:
        return None
    name = match[1].strip().lower()
    underlined = i + 1 < len(lines) and _RULE.match(lines[i + 1]) is not None
    known = _KEPT.fullmatch(name) or _DROPPED.fullmatch(name)
    return name if underlined or (known and lines[i].strip() != match[1]) else None


def _end_of_section(lines: list[str], start: int, indent: int) -> int:
    """Index of the next heading (or reST field) at the same or a shallower indent."""
    for i in range(start, len(lines)):
        if (
            lines[i].strip()
            and _indent(lines[i]) <= indent
            and (_heading(lines, i) or _FIELD.match(lines[i].strip()))
        ):
            return i
    return len(lines)


def _handle_directive(lines: list[str], i: int, kept: list[str]) -> int:
    """Keep the text of notes and warnings, drop every other directive, comment or target with its content."""
    match = _DIRECTIVE.match(lines[i].strip())
    if match is None or not _TEXT_DIRECTIVES.fullmatch(match[1].lower()):
        return _skip_block(lines, i + 1, _indent(lines[i]))
    kept += ["", match[2]]
    i += 1
    while i < len(lines) and _OPTION.match(lines[i].strip()):
        i += 1
    return i


def _plain_lines(lines: list[str]) -> list[str]:
    """The lines that are prose: no examples, citations, doctests, code blocks, directives or rules."""
    kept: list[str] = []
    i = 0
    while i < len(lines):
        line, text = lines[i], lines[i].strip()
        name = _heading(lines, i)
        if text.startswith(("```", "~~~")):
            i = next(
                (j + 1 for j in range(i + 1, len(lines)) if lines[j].strip().startswith(text[:3])), len(lines)
            )
        elif name and _DROPPED.fullmatch(name):
            i = _end_of_section(lines, i + 1, _indent(line))
        elif name is not None:
            kept += ["", name.capitalize() + ":"]
            i += 1
        elif text.startswith((">>>", "In [1]")):
            i = _skip_doctest(lines, i)
        elif text.startswith("!!! abstract"):  # a link into a manual
            i = _skip_block(lines, i + 1, _indent(line))
        elif text.startswith(".. ") or text == "..":
            i = _handle_directive(lines, i, kept)
        elif text.endswith("::"):
            kept.append(text[:-1] if text != "::" else "")
            i = _skip_block(lines, i + 1, _indent(line))
        elif (
            _RULE.match(line)
            or text.startswith(("<!--", "# Copied from", "@", "!!!", "> [!"))
            or _TEMPLATE.search(text)
        ):
            i += 1
        else:
            kept += ["", text] if _FIELD.match(text) else [text]
            i += 1
    return kept


def plain_text(docstring: str) -> str:
    """The prose of a docstring: no examples, no markup; paragraphs stay separated by empty lines."""
    text = "\n".join(_plain_lines(inspect.cleandoc(docstring).split("\n")))
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text
