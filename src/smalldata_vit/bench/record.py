"""Tables on the terminal and in a file, and whether a later file is worse than an earlier one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smalldata_vit.bench.harness import Row, Table
from smalldata_vit.bench.machine import machine, machine_line
from smalldata_vit.results import read_json, write_json

SCHEMA = 1


def shown(table: Table) -> str:
    """A table as text."""
    first = table.rows[0].name
    lines = [f"{table.title} ({table.clock}, median of {table.rounds} rounds, x = against {first})"]
    width = max(len(row.name) for row in table.rows) + 2
    for row in table.rows:
        rate = f"{row.rate:>10,.0f}" if row.rate >= 100 else f"{row.rate:>10.2f}"
        more = "".join(f"  {name} {value:,.3g}" for name, value in row.more.items())
        numbers = f"{rate} {table.unit} ±{row.spread:4.0%}  {row.ratio:6.2f}x ±{row.ratio_spread:4.0%}"
        lines.append(f"  {row.name:{width}}{numbers}{more}{'  ' + row.note if row.note else ''}")
    return "\n".join(lines)


def keep(tables: Sequence[Table], command: str, write: Path | None) -> None:
    """Print tables under the machine's line, and put them into a file."""
    facts = machine()
    print(machine_line(facts))
    print(command)
    for table in tables:
        print("\n" + shown(table))
    if write is not None:
        write.parent.mkdir(parents=True, exist_ok=True)
        plain = {"schema": SCHEMA, "command": command, "machine": facts, "tables": [asdict(t) for t in tables]}
        write_json(write, plain)
        print(f"\nwritten to {write}")


def rows_of(file: Path) -> dict[tuple[str, str], Row]:
    """The rows of a file by table and contender; ValueError if it is none of ours."""
    data: Mapping[str, Any] = read_json(file)
    if data.get("schema") != SCHEMA or "tables" not in data:
        raise ValueError(f"{file} holds no tables of schema {SCHEMA}: it is not what a benchmark writes here")
    return {(table["title"], row["name"]): Row(**row) for table in data["tables"] for row in table["rows"]}


def fallen(before: Path, after: Path) -> tuple[list[str], bool]:
    """A line for each row that both files have, and whether a ratio fell by more than the two spreads together.

    ValueError if they have none in common: then nothing was compared.
    """
    old, new = rows_of(before), rows_of(after)
    both = [key for key in old if key in new]
    if not both:
        raise ValueError(f"{before} and {after} have no row in common: they are of different benchmarks")
    lines, worse = [], False
    for key in both:
        one, two = old[key], new[key]
        change = two.ratio / one.ratio - 1
        fell = change < -(one.ratio_spread + two.ratio_spread)
        worse |= fell
        verdict = "  FELL by more than the two spreads" if fell else ""
        lines.append(f"  {key[0]}: {key[1]}: {one.ratio:.2f}x -> {two.ratio:.2f}x ({change:+.0%}){verdict}")
    return lines, worse
