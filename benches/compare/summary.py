"""Medians, spreads and ratios, and the tables made of them."""

import statistics
from collections import Counter
from dataclasses import dataclass

from peers import BASE


@dataclass(frozen=True)
class Spread:
    """A median between the least and the most."""

    median: float
    low: float
    high: float


def spread(values):
    """Of numbers, some of which may be missing; `None` if all are."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


def counted(runs):
    """The runs that count: those that others on the machine left alone, all if there is none."""
    return [run for run in runs if not run["disturbed"]] or runs


def values(runs, key):
    """A peer's figures, run by run."""
    return spread(run["figures"].get(key) for run in counted(runs))


def ratios(runs, name, key):
    """A peer's figure divided by Throng's of the same round."""
    both = list(zip(runs[name], runs[BASE]))
    calm = [pair for pair in both if not any(run["disturbed"] for run in pair)]
    figures = [[run["figures"].get(key) for run in pair] for pair in calm or both]
    return spread(own / base for own, base in figures if own and base and min(own, base) > 0)


def own_spread(runs, key):
    """Throng's figures divided by their median: how far the same thing repeats."""
    found = values(runs[BASE], key)
    if found is None or found.median <= 0:
        return None
    return Spread(1.0, found.low / found.median, found.high / found.median)


def is_doubtful(runs):
    """Whether most of a peer's runs that count are not what they seem."""
    runs = counted(runs)
    return sum(bool(run["remarks"]) for run in runs) * 2 > len(runs)


def number(value):
    """Three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def text(found):
    """A spread in words: median, least and most."""
    if found is None:
        return "–", "–"
    return number(found.median), f"{number(found.low)}–{number(found.high)}"


def rows(workload, runs):
    """Per figure its rows: peer, median, spread, ratio, its spread."""
    for figure in workload.figures:
        lines = []
        for name, own in runs.items():
            ratio = ratios(runs, name, figure.key) if name != BASE else None
            mark = "*" if is_doubtful(own) else ""
            lines.append((name + mark, *text(values(own, figure.key)), *text(ratio)))
        yield figure, lines


def heading(figure):
    """A figure's name, unit and direction."""
    better = "more is better" if figure.more else "less is better"
    return f"{figure.title}, {figure.unit} ({better})"


def remarks(runs):
    """What must be known of the runs, a line per peer."""
    found = []
    for name, own in runs.items():
        # Numbers differ from run to run; what kind of remark it is does not.
        said = [remark for run in own for remark in run["remarks"]]
        counts = Counter(map(kind, said))
        examples = {kind(remark): remark for remark in reversed(said)}
        if counts:
            texts = (f"{examples[it]} ({count} of {len(own)} runs)" for it, count in counts.items())
            found.append(f"{name}: {'; '.join(texts)}")
    return found


def kind(remark):
    """A remark without its numbers."""
    return "".join(letter for letter in remark if not letter.isdigit() and letter not in ",.")


def verdicts(workload, runs):
    """The bounds, each with what was measured and whether it holds."""
    found = []
    for bound in workload.bounds:
        figure = next(it for it in workload.figures if it.key == bound.key)
        if bound.peer is None:
            measured = values(runs.get(BASE, []), bound.key)
            against = f"{figure.unit}"
        elif bound.peer in runs:
            inverse = ratios(runs, bound.peer, bound.key)
            measured = inverse and Spread(1 / inverse.median, 1 / inverse.high, 1 / inverse.low)
            against = f"× {bound.peer}'s"
        else:
            continue
        if measured is None:
            continue
        low = bound.sign == "<="
        kept = measured.median <= bound.value if low else measured.median >= bound.value
        middle, ends = text(measured)
        found.append(f"{figure.title}: {middle} ({ends}) {against}, required "
                     f"{'≤' if low else '≥'} {number(bound.value)}: "
                     f"{'holds' if kept else 'FAILS'}")
    return found


def print_workload(workload, runs):
    """Everything about a workload, as Markdown."""
    print(f"\n## {workload.name}: {workload.title}")
    for figure, lines in rows(workload, runs):
        cells = [("peer", "median", "least–most", "÷ Throng", "least–most"), *lines]
        widths = [max(len(row[column]) for row in cells) for column in range(5)]
        print(f"\n{heading(figure)}\n")
        for index, row in enumerate(cells):
            aligned = [cell.ljust(width) if column == 0 else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(row, widths))]
            print(f"| {' | '.join(aligned)} |")
            if index == 0:
                print("|" + "|".join("-" * (width + 1) + (":" if column else "-")
                                     for column, width in enumerate(widths)) + "|")
    for line in verdicts(workload, runs):
        print(f"\nrequired: {line}")
    for line in remarks(runs):
        print(f"\n* {line}")
