"""Pieces of a static page: one style sheet, tables, bars and pictures, no script."""

import base64
from html import escape

import numpy as np

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d6570; --line: #d9dde2;
  --back: #ffffff; --panel: #f5f6f8; --bar: #d55e00; --link: #0062a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a2aab4;
  --line: #3a4048; --back: #16181b; --panel: #202328; --bar: #e8772e;
  --link: #7cc4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem clamp(0.8rem, 3vw, 2.5rem) 4rem;
  font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 0.3rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.3rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.4rem; }
p { margin: 0.3rem 0 0.8rem; max-width: 46rem; }
a { color: var(--link); }
.soft { color: var(--soft); font-size: 0.9rem; }
code { font-size: 0.88em; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  font-size: 0.92rem; }
th, td { text-align: left; padding: 0.22rem 0.9rem 0.22rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
td.list { min-width: 11rem; }
table.nowrap td, table.nowrap th { white-space: nowrap; }
h4 { font-size: 0.95rem; margin: 1rem 0 0.2rem; }
img.plot { display: block; width: 100%; max-width: 42rem; height: auto; }
img.plot.whole { max-width: none; }
.cards { display: grid; gap: 0.8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); }
.cards.wider {
  grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); }
.cards.pictures { grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
.card { background: var(--panel); border-radius: 6px; padding: 0.6rem 0.8rem;
  margin: 0; }
.card figcaption { font-size: 0.9rem; margin-bottom: 0.4rem; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
ol.bars { list-style: none; margin: 0; padding: 0; font-size: 0.88rem;
  font-variant-numeric: tabular-nums; }
ol.bars li { display: flex; flex-wrap: wrap; justify-content: space-between;
  column-gap: 0.8rem; margin-bottom: 0.35rem; }
.bar { flex: 0 0 100%; height: 0.45rem; }
.bar span { display: block; height: 100%; min-width: 1px; background: var(--bar);
  border-radius: 2px; }
.pair { display: flex; gap: 0.4rem; }
.pixels { image-rendering: pixelated; width: 100%; height: auto; min-width: 0;
  border-radius: 2px; }
.pair .pixels, .photo { flex: 1 1 0; }
.photo { width: 100%; height: auto; min-width: 0; border-radius: 2px; }
table.gallery td, table.gallery th { border: 0; padding: 0.12rem 0.25rem 0.12rem 0;
  vertical-align: middle; }
table.gallery th { padding-right: 0.8rem; position: sticky; left: 0;
  background: var(--back); }
table.gallery .pixels { display: block; width: 3.6rem; }
"""


def page(title, body):
    """Return a whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def table(header, rows, caption=None, numeric=(), lists=(), nowrap=False):
    """Return a table; cells are text, the first of a row is its heading."""
    kinds = {**dict.fromkeys(numeric, "number"), **dict.fromkeys(lists, "list")}
    classes = [kinds.get(k, "") for k in range(len(header))]
    attribute = [f' class="{name}"' if name else "" for name in classes]
    cells = [
        f'<th scope="col"{attribute[k]}>{escape(name)}</th>'
        for k, name in enumerate(header)
    ]
    lines = [f'<p class="soft">{escape(caption)}</p>'] if caption else []
    kind = ' class="nowrap"' if nowrap else ""
    lines.append(f'<div class="wide" tabindex="0"><table{kind}>')
    lines += ["<thead><tr>", *cells, "</tr></thead><tbody>"]
    for row in rows:
        line = []
        for k, cell in enumerate(row):
            tag, scope = ("th", ' scope="row"') if k == 0 else ("td", "")
            line.append(f"<{tag}{scope}{attribute[k]}>{escape(str(cell))}</{tag}>")
        lines.append("<tr>" + "".join(line) + "</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def facts(rows):
    """Return a table of two columns, what and how much, without a header."""
    lines = [
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        for name, value in rows
    ]
    return (
        '<div class="wide" tabindex="0"><table><tbody>'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def bars(rows):
    """Return a list of bars: name, what stands beside it, and a length in 0..1."""
    lines = [
        f'<li><span>{escape(name)}</span><span class="soft">{escape(beside)}</span>'
        f'<span class="bar" role="img" aria-label="{share:.0%} of the largest">'
        f'<span style="width:{max(0.0, share):.1%}"></span></span></li>'
        for name, beside, share in rows
    ]
    return '<ol class="bars">' + "\n".join(lines) + "</ol>"


def picture(light, dark, alt):
    """Return a plot that follows the reader's colour scheme; two PNG files."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_uri(dark)}">'
        f'<img class="plot" src="{_uri(light)}" alt="{escape(alt)}"></picture>'
    )


def wide_picture(light, dark, narrow_light, narrow_dark, alt):
    """Return a plot over the whole width; on narrow screens another; PNG files."""
    sources = [
        ("(max-width: 700px) and (prefers-color-scheme: dark)", narrow_dark),
        ("(max-width: 700px)", narrow_light),
        ("(prefers-color-scheme: dark)", dark),
    ]
    lines = [f'<source media="{m}" srcset="{_uri(png)}">' for m, png in sources]
    return (
        f'<picture>{"".join(lines)}<img class="plot whole" src="{_uri(light)}" '
        f'alt="{escape(alt)}"></picture>'
    )


def photo(jpeg, alt):
    """Return a picture that is enlarged smoothly."""
    return f'<img class="photo" src="{_uri(jpeg, "jpeg")}" alt="{escape(alt)}">'


def pixels(png, alt):
    """Return a small picture whose dots stay square when it is enlarged."""
    return f'<img class="pixels" src="{_uri(png)}" alt="{escape(alt)}">'


def card(caption, content):
    """Return a framed piece with a caption above it."""
    return f'<figure class="card"><figcaption>{caption}</figcaption>{content}</figure>'


def _uri(content, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def number(value, figures=4):
    """Return a number with a few figures and no long tail of zeros."""
    text = f"{value:.{figures}g}"
    if "e" in text and 1 <= abs(value) < 1e7:
        text = f"{value:.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def numbers(values):
    """Return a column of numbers with the same number of decimals."""
    largest = np.max(np.abs(values))
    if not 1e-3 <= largest < 1e7:
        return [f"{value:.3e}".replace("-", "\N{MINUS SIGN}") for value in values]
    decimals = max(0, 3 - int(np.floor(np.log10(largest))))
    return [f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for value in values]
