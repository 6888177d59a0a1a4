"""One page with everything: plots, tables, what is doubtful, and where it was measured."""

import base64
from html import escape

from plots import IS_THERE, draw, panel
from summary import heading, remarks, rows, verdicts
from workloads import HEADLINES

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1080px;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; } img { width: 100%; }
.small { color: #52606d; font-size: .9rem; } .scroll { overflow-x: auto; }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; }
table { border-collapse: collapse; } th { text-align: right; font-weight: 600; color: #52606d; }
td, th { padding: .15rem .9rem .15rem 0; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
td { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; } .holds { color: #1b7f3b; }
.fails { color: #b42318; font-weight: 600; } .remark { color: #8a5a00; }
"""
HOW_TO_READ = """Every number is a peer's divided by Throng's of the same round; Throng is at 1.
A point is the median of the rounds, a line goes from the least to the most, and Throng's own line
says how far one and the same server repeats. The tinted side is better than Throng. A hollow point
has remarks in most of its runs: read them before the number."""


def picture(svg, about):
    """An SVG as an image within the page."""
    if svg is None:
        return ""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(about)}" src="data:image/svg+xml;base64,{data}">'


def plots_of(workloads, results):
    """Name -> SVG: the overview, then one per workload."""
    overview = [
        panel(workloads[name], figure, results[name], True)
        for name, key in HEADLINES if name in results
        for figure in workloads[name].figures if figure.key == key
    ]
    found = {"overview": draw([it for it in overview if it])}
    for name, runs in results.items():
        panels = [panel(workloads[name], it, runs, False) for it in workloads[name].figures]
        found[name] = draw([it for it in panels if it])
    return {name: svg for name, svg in found.items() if svg}


def table(lines):
    """Rows of a figure as an HTML table."""
    head = ("peer", "median", "least–most", "÷ Throng", "least–most")
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
                   for row in lines)
    return (f"<div class=scroll><table><tr>{''.join(f'<th>{it}</th>' for it in head)}</tr>"
            f"{body}</table></div>")


def section(workload, runs, svg):
    """A workload: plot, bounds, remarks, tables."""
    parts = [f"<h2 id='{workload.name}'>{workload.name}</h2>",
             f"<p class=small>{escape(workload.title)}</p>",
             picture(svg, f"ratios of {workload.name}")]
    for line in verdicts(workload, runs):
        kept = "holds" if line.endswith("holds") else "fails"
        parts.append(f"<div class={kept}>Required: {escape(line)}</div>")
    parts += [f"<div class=remark>* {escape(line)}</div>" for line in remarks(runs)]
    tables = (f"<div><h3>{escape(heading(figure))}</h3>{table(lines)}</div>"
              for figure, lines in rows(workload, runs))
    parts.append(f"<div class=tables>{''.join(tables)}</div>")
    return "\n".join(parts)


def page(workloads, results, about, svgs):
    """The whole page."""
    facts = "".join(f"<tr><td>{escape(key)}</td><td style='text-align:left;white-space:normal'>"
                    f"{escape(str(value))}</td></tr>" for key, value in about.items())
    without = "" if IS_THERE else "<p class=remark>matplotlib is missing: tables only.</p>"
    sections = [section(workloads[name], runs, svgs.get(name)) for name, runs in results.items()]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Throng and its peers</title><style>{STYLE}</style>
<h1>Throng and its peers</h1>
<p class=small>{HOW_TO_READ}</p>{without}
{picture(svgs.get("overview"), "the ratios that say the most")}
{"".join(sections)}
<h2>Where and how</h2><div class=scroll><table>{facts}</table></div>
</html>
"""
