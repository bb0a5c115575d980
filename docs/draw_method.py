"""Draws docs/method.svg, the picture of the method in README.md: `python docs/draw_method.py`.

Plain SVG of our own instead of a plotting library's: the same bytes on every machine, and colours that
follow the reader's light or dark mode. A test says when the committed file is stale.
"""

from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("method.svg")
WIDTH, HEIGHT = 1000, 640

STYLE = """
  svg { --paper:#ffffff; --card:#f6f8fa; --soft:#eaeef2; --line:#d1d9e0; --ink:#1f2328; --dim:#59636e;
        --ir:#0969da; --sts:#bc4c00; --good:#1a7f37; --bad:#cf222e;
        --ir-soft:#ddf4ff; --sts-soft:#fff1e5; --good-soft:#dafbe1; --bad-soft:#ffebe9 }
  @media (prefers-color-scheme: dark) {
    svg { --paper:#0d1117; --card:#151b23; --soft:#262c36; --line:#3d444d; --ink:#f0f6fc; --dim:#9aa4af;
          --ir:#4493f8; --sts:#f0883e; --good:#3fb950; --bad:#f85149;
          --ir-soft:#12263f; --sts-soft:#33200f; --good-soft:#12301c; --bad-soft:#3a1a1c } }
  text { font:13px -apple-system,"Segoe UI","Noto Sans","Noto Sans CJK SC","PingFang SC",sans-serif;
         fill:var(--ink) }
  .head { font-size:15px; font-weight:600 }  .bold { font-weight:600 }
  .small { font-size:12px; fill:var(--dim) }  .white { fill:var(--paper); font-weight:600 }
  .middle { text-anchor:middle }  .end { text-anchor:end }
  .c-ir { fill:var(--ir) }  .c-sts { fill:var(--sts) }
  .c-good { fill:var(--good) }  .c-bad { fill:var(--bad) }
  .line { fill:none; stroke:var(--dim); stroke-width:1.5 }  .dash { stroke-dasharray:5 4; stroke:var(--sts) }
  .cross { stroke:var(--dim); stroke-width:1.2 }
"""


def rect(x: float, y: float, width: float, height: float, fill: str, line: str = "none", r: float = 4) -> str:
    """A box; `fill` and `line` are names of colours in STYLE, or "none"."""
    colours = [name if name == "none" else f"var(--{name})" for name in (fill, line)]
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{r:g}" '
        f'fill="{colours[0]}" stroke="{colours[1]}"/>'
    )


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text; `kind` names classes of STYLE."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>'


def lines(x: float, y: float, words: str, kind: str = "small", step: float = 16) -> str:
    """Several lines of text, cut at "|"."""
    return "".join(text(x, y + step * i, line, kind) for i, line in enumerate(words.split("|")))


def arrow(points: str, kind: str = "") -> str:
    """A line through "x,y x,y ..." with a head at its end."""
    return f'<polyline points="{points}" class="line {kind}" marker-end="url(#head)"/>'


def cross(x: float, y: float, size: float) -> str:
    """Two diagonals of a square: a cell that does not count."""
    return f'<path class="cross" d="M{x:g} {y:g}l{size:g} {size:g}m0 {-size:g}l{-size:g} {size:g}"/>'


def stream(x: float, y: float, colour: str, texts: list[tuple[int, int, str]]) -> str:
    """The packed texts, (width of the prompt, width of the text, colour), end to end."""
    parts = []
    for prompt, length, fill in texts:
        parts.append(rect(x, y, prompt + length, 20, fill, colour, r=2))
        if prompt:
            parts.append(rect(x, y, prompt, 20, colour, colour, r=2))
        x += prompt + length
    return "".join(parts)


def heads() -> str:
    """The five columns."""
    names = ((16, "1  Sources"), (196, "2  A batch of one task"), (506, "3  Encoder"), (672, "4  Vectors"))
    return "".join(text(x, 30, name, "head") for x, name in (*names, (800, "5  Loss of the task")))


def sources() -> str:
    """What a step may draw from, by task."""
    parts = []
    for y, colour, title, files in (
        (66, "ir", "IR: retrieval", ("question, passages", "title, body", "text, label")),
        (326, "sts", "STS: similarity", ("scored pairs", "scored pairs, zh")),
    ):
        parts.append(text(16, y, title, f"bold c-{colour}"))
        for i, name in enumerate(files):
            parts.append(rect(16, y + 12 + 36 * i, 134, 28, f"{colour}-soft", colour))
            parts.append(text(83, y + 31 + 36 * i, name, "middle"))
    parts += [arrow("154,128 188,128"), arrow("154,370 188,370")]
    return "".join(parts)


def ir_batch() -> str:
    """Queries with what answers them and what only looks like it."""
    parts = [rect(196, 50, 284, 234, "card", "line", r=8)]
    rows = (
        (62, 0, "ir", "query", "reset my password"),
        (88, 20, "good", "positive", "Open Settings, then Reset."),
        (114, 20, "bad", "hard negative", "reset the router"),
        (146, 0, "ir", "query", "余额不足怎么办？"),
        (172, 20, "good", "positive", "转账前请先充值。"),
    )
    for y, indent, colour, role, words in rows:
        parts.append(rect(206 + indent, y, 264 - indent, 22, f"{colour}-soft", colour))
        parts.append(text(214 + indent, y + 16, words))
        parts.append(text(464, y + 16, role, f"small end c-{colour}"))
    packed = [(0, 30, "bad-soft"), (0, 44, "good-soft"), (22, 30, "ir-soft"), (22, 36, "ir-soft")]
    parts.append(stream(206, 222, "ir", [*packed, (0, 80, "good-soft")]))
    parts.append(arrow("338,198 338,218"))
    parts.append(text(206, 260, "one stream, no padding, equal texts once", "small"))
    parts.append(rect(206, 265, 12, 11, "ir", r=2) + text(223, 275, "tokens of the instruction", "small"))
    return "".join(parts)


def sts_batch() -> str:
    """Pairs with a score, which form one list."""
    parts = [rect(196, 310, 284, 216, "card", "line", r=8), text(464, 330, "score", "small end c-sts")]
    rows = (
        ("a cat sits", "a cat is sitting", "0.9"),
        ("他在跑步", "他在游泳", "0.4"),
        ("a dog runs", "the law passed", "0.0"),
    )
    for i, (left, right, score) in enumerate(rows):
        y = 338 + 30 * i
        parts += [rect(206, y, 100, 22, "sts-soft", "sts"), text(256, y + 16, left, "middle")]
        parts += [rect(318, y, 112, 22, "sts-soft", "sts"), text(374, y + 16, right, "middle")]
        parts += [f'<path class="line" d="M306 {y + 11}h12"/>', text(464, y + 16, score, "bold end c-sts")]
    packed = [(14, 22), (14, 28), (14, 28), (14, 34), (14, 34), (14, 40)]
    parts.append(stream(206, 452, "sts", [(a, b, "sts-soft") for a, b in packed]))
    parts.append(arrow("338,428 338,448"))
    parts.append(lines(206, 492, "scores in [0, 1]; the instruction stands on|both sides", step=15))
    return "".join(parts)


def encoder() -> str:
    """Attention inside each text, layers, and pooling over the text's own tokens."""
    parts = [rect(506, 50, 140, 476, "card", "line", r=8)]
    parts += [arrow("482,232 502,232"), arrow("482,462 502,462")]
    parts.append(rect(530, 66, 92, 92, "soft", r=2))
    place = 0
    for size in (14, 20, 26, 32):  # one square a text, on the diagonal
        parts.append(rect(530 + place, 66 + place, size, size, "dim", r=1))
        place += size
    parts.append(lines(576, 178, "attention inside each|text, both directions", "small middle"))
    for i in range(6):
        fill, line = ("sts-soft", "sts") if i == 3 else ("soft", "line")
        parts.append(rect(526, 228 + 22 * i, 100, 17, fill, line, r=3))
    parts.append(text(576, 307, "middle layer", "small middle c-sts"))
    for i in range(7):
        parts.append(rect(523 + 15 * i, 392, 14, 18, "ir" if i < 2 else "ir-soft", "ir", r=2))
    parts.append('<path class="line" d="M553 416v6h73v-6"/>' + arrow("589,422 589,442"))
    parts.append(rect(553, 446, 73, 14, "ink", r=2))
    parts.append(
        lines(
            576, 478, "mean over the text,|not the instruction;|scaled to length 1", "small middle", step=15
        )
    )
    parts += [arrow("576,204 576,222"), arrow("576,359 576,386")]
    return "".join(parts)


def vectors() -> str:
    """What the ranks share before the loss."""
    parts = [arrow("648,142 668,142"), arrow("648,392 668,392")]
    for i in range(3):
        y = 66 + 50 * i
        parts.append(rect(674, y, 92, 42, "card", "line"))
        parts.append(text(680, y + 26, f"rank {i}", "small"))
        for j in range(3):
            parts.append(rect(720, y + 6 + 11 * j, 38, 7, ("ir", "good", "bad")[j], r=2))
    parts.append(lines(674, 236, "gathered from all|ranks, with their|gradient"))
    for i, share in enumerate((0.9, 0.6, 0.5, 0.2)):
        y = 340 + 26 * i
        parts.append(rect(674, y, 92, 20, "card", "line"))
        parts.append(rect(678, y + 3, 84 * share, 6, "sts", r=2))
        parts.append(rect(678, y + 11, 84 * (0.95, 0.4, 0.7, 0.1)[i], 6, "dim", r=2))
    parts.append(lines(674, 462, "cosine (orange) and|score (grey) of the|pairs of all ranks"))
    return "".join(parts)


def ir_loss() -> str:
    """The similarities of queries and documents, and which of them count."""
    parts = [arrow("770,142 792,142"), rect(796, 50, 190, 234, "card", "line", r=8)]
    parts.append(text(808, 74, "InfoNCE", "bold c-ir"))
    owner = (0, 0, 0, 1, 1, 2, 2, 3)  # of the documents; the third one is a hard negative
    for query in range(4):
        for document, of in enumerate(owner):
            x, y = 832 + 18 * document, 92 + 18 * query
            positive = of == query and document not in (2, 4)
            parts.append(rect(x, y, 15, 15, "good" if positive else "soft", "line", r=2))
            if (query, document) in ((1, 7), (3, 3)):  # an equal text: no negative
                parts.append(cross(x + 3, y + 3, 9))
    parts.append(text(904, 181, "documents", "small middle"))
    parts.append('<text class="small middle" transform="translate(822,127) rotate(-90)">queries</text>')
    parts.append(lines(808, 206, "each positive must beat all|negatives of all ranks", ""))
    parts.append(rect(808, 238, 13, 13, "good", r=2) + text(826, 249, "positive", "small"))
    parts.append(rect(878, 238, 13, 13, "soft", "line", r=2) + text(896, 249, "negative", "small"))
    parts.append(cross(809, 260, 11) + text(826, 270, "masked: the same text", "small"))
    return "".join(parts)


def sts_loss() -> str:
    """The four terms over the list."""
    parts = [arrow("770,418 792,418"), rect(796, 310, 190, 216, "card", "line", r=8)]
    terms = (
        ("1 × InfoNCE, middle layer", "on pairs with score 1"),
        ("2 × Pearson", "cosines follow the scores"),
        ("5/32 × RankKL", "cosines in the scores' order"),
        ("0.5 × PRO", "larger gaps weigh more"),
    )
    for i, (name, about) in enumerate(terms):
        y = 334 + 48 * i
        parts += [text(808, y, name, "bold c-sts"), text(808, y + 17, about, "small")]
    parts.append(arrow("626,302 782,302 782,332 792,332", "dash"))
    return "".join(parts)


def steps() -> str:
    """The order of training."""
    parts = [text(16, 563, "Steps", "head")]
    for i, task in enumerate(("ir", "sts", "ir", "ir", "sts", "ir", "sts", "ir", "ir")):
        x = 70 + 46 * i
        parts += [rect(x, 546, 40, 26, task, r=4), text(x + 20, 564, task.upper(), "white middle")]
    parts.append(text(488, 563, "one source and one task a step, the same on all ranks"))
    parts.append(
        text(
            70,
            598,
            "The order depends on seed and step alone: not on the number of ranks or workers. ",
            "small",
        )
    )
    parts.append(
        text(
            70,
            618,
            "The loss and the gradient are those of the whole batch, on one device or on many.",
            "small",
        )
    )
    return "".join(parts)


def picture() -> str:
    """The whole file."""
    title = "CoDiEmb: batches of one task, packed without padding, one encoder, a loss for each task"
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="var(--dim)"/></marker></defs>'
    )
    drawn = (heads, sources, ir_batch, sts_batch, encoder, vectors, ir_loss, sts_loss, steps)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n{marker}",
            rect(0, 0, WIDTH, HEIGHT, "paper", r=10),
            *(part().replace("><", ">\n<") for part in drawn),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), "utf-8")
