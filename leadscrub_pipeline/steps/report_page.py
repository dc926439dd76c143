"""A readable page in one piece: its style, its tables, and values as they stand in them.

Nothing is loaded from elsewhere. What a page tells does not belong here. Every function that takes a value escapes it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Final

from leadscrub_pipeline.errors import UnavailableError
from leadscrub_pipeline.warehouse.exports import whole_file

_STYLE: Final = """
:root { color-scheme: light dark; --text: #1c2126; --soft: #586069; --line: #d5dae0; --page: #ffffff; --band: #f4f6f8;
  --good: #17603a; --bad: #a11b1b; --good-band: #e9f5ee; --bad-band: #fbecec;
  --chart-a: #2b6cb0; --chart-b: #1f7a6d; --chart-c: #b35f12;
  --chart-clear: #23748f; --chart-listed: #b4371f; --chart-unknown: #6b747d; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e6e9; --soft: #a2abb5; --line: #3a424b; --page: #14181c;
  --band: #1d2329; --good: #7ccf9f; --bad: #ff9d94; --good-band: #15291f; --bad-band: #331a1a;
  --chart-a: #7db4ec; --chart-b: #66c9b8; --chart-c: #f0a45c;
  --chart-clear: #74c3dd; --chart-listed: #ff9a82; --chart-unknown: #a8b1ba; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 74rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
p, li { max-width: 48rem; }
.soft { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.figures div { background: var(--band); border-radius: 6px; padding: .7rem .9rem; }
.figures b { display: block; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: .85rem; }
.box { border-left: 4px solid var(--good); background: var(--good-band); padding: .7rem 1rem; border-radius: 4px;
  margin: 1rem 0; max-width: 50rem; }
.box.bad { border-color: var(--bad); background: var(--bad-band); }
.box > :first-child { margin-top: 0; } .box > :last-child { margin-bottom: 0; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; line-height: 1.4; }
th, td { text-align: left; vertical-align: top; padding: .38rem .65rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.t { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.h { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .78rem; overflow-wrap: anywhere;
  min-width: 9rem; }
tr.total td { font-weight: 600; border-top: 2px solid var(--line); border-bottom: 0; }
.bad-text { color: var(--bad); font-weight: 600; }
@media print { :root { --text: #000; --soft: #444; --line: #bbb; --page: #fff; --band: #f4f4f4; --good: #17603a;
    --bad: #a11b1b; --good-band: #f2f8f4; --bad-band: #fbf2f2;
    --chart-a: #2b6cb0; --chart-b: #1f7a6d; --chart-c: #b35f12;
    --chart-clear: #23748f; --chart-listed: #b4371f; --chart-unknown: #6b747d; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } h2 { break-after: avoid; } tr, .box { break-inside: avoid; }
  .wide { overflow: visible; } table { font-size: 8pt; } th { white-space: normal; } }
"""


def page(title: str, sections: Iterable[str], *, style: str = "") -> str:
    """The whole document, with further rules of style; a browser is told to load nothing and run nothing."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n{''.join(sections)}</body>\n</html>\n"
    )


def save(path: Path, text: str) -> None:
    """Write a page to a file of mode 0600, whole or not at all; its folder is made, closed to others.

    Raises:
        UsageError: the path is something other than a file.
        UnavailableError: the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"{path.parent} cannot be made ({type(error).__name__}).") from None
    with whole_file(path) as stream:
        stream.write(text.encode())


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, total: Sequence[str] | None = None, numbers: int
) -> str:
    """A table of cells that are HTML already; the last so many columns are numbers."""
    first = len(heads) - numbers

    def cells(tag: str, values: Sequence[str]) -> str:
        marked = ((' class="n"' if place >= first else "", value) for place, value in enumerate(values))
        return "".join(
            value.replace("<td", f"<td{mark}", 1) if value.startswith("<td") else f"<{tag}{mark}>{value}</{tag}>"
            for mark, value in marked
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    last = f'<tr class="total">{cells("td", total)}</tr>\n' if total is not None else ""
    return f'<div class="wide"><table><tr>{cells("th", heads)}</tr>\n{body}{last}</table></div>'


def numbers_of(*values: int) -> list[str]:
    return [number(value) for value in values]


def plain(text: str | None) -> str:
    return "-" if text is None else escape(text)


def code(text: str | None) -> str:
    return "-" if text is None else f'<td class="h">{escape(text)}</td>'


def time_cell(moment: datetime | None) -> str:
    return "-" if moment is None else f'<td class="t">{moment:%Y-%m-%d %H:%M}</td>'


def bad(text: str) -> str:
    return f'<span class="bad-text">{escape(text)}</span>'


def number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
