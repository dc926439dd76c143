"""Which tables a parsed statement reads: CTE names told from tables, every table written in full.

Also where a node stands in the text. Whether a part of a statement is allowed at all belongs
to ``guard.py``.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from sqlglot import exp

from leadscrub_pipeline.domain.scripts import database_name

_SYSTEM_SCHEMAS: Final = {"information_schema", "pg_catalog", "system"}


class TableName(NamedTuple):
    """A table in full, as Snowflake spells it."""

    database: str
    schema: str
    table: str

    def __str__(self) -> str:
        return ".".join(self)


def place(node: exp.Expr) -> str:
    """Where a node stands, as far as the parser remembers: "Line 3, column 7: " or nothing."""
    for part in node.walk():
        if "line" in part.meta:
            column = part.meta["col"] - (part.meta["end"] - part.meta["start"])
            return f"Line {part.meta['line']}, column {column}: "
    return ""


def children(node: exp.Expr) -> Iterator[exp.Expr]:
    """Every node that stands directly in this one, whatever part of it."""
    for value in node.args.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, exp.Expr):
                yield item


class TableReader:
    """Finds what each name in FROM means, writes tables in full, and notes those outside the allowed databases."""

    def __init__(self, allowed: set[str], default_database: str | None, default_schema: str | None) -> None:
        self.findings: list[str] = []
        self._allowed = allowed
        self._database = default_database and (database_name(default_database) or default_database)
        self._schema = default_schema and (database_name(default_schema) or default_schema)

    def read(self, tree: exp.Query) -> tuple[TableName, ...]:
        tables: dict[TableName, None] = {}
        sources: set[str] = set()
        for table, visible, pending in _named_tables(tree):
            sources.add(table.alias_or_name)
            bare = table.args.get("db") is None and table.args.get("catalog") is None
            if bare and table.name in pending:
                self.findings.append(
                    f"{place(table)}{table.name} is named while it is being defined. Recursion is not allowed; "
                    "when a table of this name is meant, write it with its database and schema."
                )
            elif not bare or table.name not in visible:
                name = self._full_name(table)
                if name is not None:
                    tables[name] = None
        for node in tree.find_all(exp.Subquery, exp.Values):
            sources.add(node.alias)
        self._check_qualifiers(tree, sources)
        return tuple(tables)

    def _full_name(self, table: exp.Table) -> TableName | None:
        database = table.catalog or self._database
        # "db..table" is Snowflake's short form for the schema PUBLIC.
        schema = table.db or ("PUBLIC" if table.args.get("catalog") is not None else self._schema)
        if not database or not schema:
            self.findings.append(
                f"{place(table)}Table {table.name} has no {'schema' if database else 'database'} and there is no "
                "default for it: write database.schema.table."
            )
            return None
        if database not in self._allowed:
            self.findings.append(
                f"{place(table)}Database {database} may not be read "
                f"(allowed: {', '.join(sorted(self._allowed)) or 'none'})."
            )
            return None
        if schema.lower() in _SYSTEM_SCHEMAS:
            self.findings.append(f"{place(table)}Schema {schema} may not be read: it describes the warehouse itself.")
            return None
        table.set("db", exp.to_identifier(schema, quoted=True))
        table.set("catalog", exp.to_identifier(database, quoted=True))
        return TableName(database, schema, table.name)

    def _check_qualifiers(self, tree: exp.Query, sources: set[str]) -> None:
        for column in tree.find_all(exp.Column):
            if column.table and column.table not in sources:
                self.findings.append(f"{place(column)}There is no table or alias {column.table} in the statement.")


def _named_tables(tree: exp.Query) -> Iterator[tuple[exp.Table, frozenset[str], frozenset[str]]]:
    """Each table with the CTE names visible where it stands, and those that are only being defined there."""
    nothing: frozenset[str] = frozenset()
    stack: list[tuple[exp.Expr, frozenset[str], frozenset[str]]] = [(tree, nothing, nothing)]
    while stack:
        node, visible, pending = stack.pop()
        clause = node.args.get("with_")
        if isinstance(clause, exp.With):
            names = [cte.alias for cte in clause.expressions]
            outer = visible
            for position, cte in enumerate(clause.expressions):
                earlier = outer.union(names[:position])
                stack.append((cte, earlier.difference(names[position:]), pending.union(names[position:])))
            visible, pending = outer.union(names), pending.difference(names)
        if isinstance(node, exp.Table):
            yield node, visible, pending
        stack += [(child, visible, pending) for child in children(node) if child is not clause]
