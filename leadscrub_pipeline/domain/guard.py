"""The guard: lets through a script that is one SELECT over allowed databases, and nothing else.

A security boundary: it denies by default, by the lists in ``grammar.py``, and hands on what
it has understood, written anew, never the text it was given. What the embedded warehouse
cannot run faithfully belongs to ``dialects.py``.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from sqlglot import exp
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from leadscrub_pipeline.domain.grammar import DATE_PARTS, FUNCTIONS, PARTS, TYPES, WORDS
from leadscrub_pipeline.domain.scripts import LeadScript, database_name
from leadscrub_pipeline.domain.tables import TableName, TableReader, children, place
from leadscrub_pipeline.errors import RefusedError

MAX_TOKENS: Final = 50_000
MAX_NESTING: Final = 30
"""Open brackets and CASEs. The parser needs some 20 Python frames for each, of 1,000 that there are."""
MAX_DEPTH: Final = 300
"""Longest path in the parsed statement, which a chain of operators also makes long."""
MAX_SHOWN: Final = 10

MAX_COPYING: Final = 6
_COPYING: Final = {"DIV0", "DIV0NULL", "NULLIFZERO", "ZEROIFNULL"}
"""Functions whose argument the parser copies, so that nesting them grows the tree by powers."""

_QUERY: Final = (exp.Select, exp.SetOperation, exp.Subquery)
_OPENING: Final = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.CASE}
_CLOSING: Final = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.END}
_SEQUENCE_WORDS: Final = {"nextval", "currval"}
_TABLE_NAME: Final = re.compile(r"[\w$ -]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class GuardedStatement:
    """What the guard has let through: the parsed statement, what it reads, and its text in Snowflake's dialect.

    Every name is quoted and every table is written in full, so that no session can change what it means.
    """

    expression: exp.Query
    tables: tuple[TableName, ...]
    sql: str


def guard(
    script: LeadScript,
    *,
    allowed_databases: Collection[str],
    default_database: str | None,
    default_schema: str | None,
) -> GuardedStatement:
    """The script's statement, when it is harmless.

    Raises:
        RefusedError: it is not, or nobody has judged a part of it yet. Names each place.
    """
    statement, findings = judge(
        script,
        allowed_databases=allowed_databases,
        default_database=default_database,
        default_schema=default_schema,
    )
    if statement is None:
        raise RefusedError(refusal(script, findings))
    return statement


def judge(
    script: LeadScript,
    *,
    allowed_databases: Collection[str],
    default_database: str | None,
    default_schema: str | None,
) -> tuple[GuardedStatement | None, list[str]]:
    """The guarded statement, or None and everything that speaks against it."""
    allowed = {database_name(name) or name for name in allowed_databases}
    findings = _unallowed(script, allowed)
    if script.databases is not None:
        allowed &= script.databases
    try:
        tree = _parse(script.sql)
        findings += _strangers(tree)
        tables: tuple[TableName, ...] = ()
        if not findings:
            _settle_names(tree)
            reader = TableReader(allowed, default_database, default_schema)
            tables = reader.read(tree)
            findings += reader.findings
        if findings:
            return None, findings
        return GuardedStatement(tree, tables, _written_back(tree)), []
    except RefusedError as error:
        return None, [*findings, str(error)]
    except RecursionError:
        return None, [*findings, "The statement is nested too deeply."]


def refusal(script: LeadScript, findings: list[str]) -> str:
    """The text of a refusal: the file, and the first findings."""
    shown = list(dict.fromkeys(findings))
    more = f" (and {len(shown) - MAX_SHOWN} more)" if len(shown) > MAX_SHOWN else ""
    return f"{script.path.name} is refused. {' '.join(shown[:MAX_SHOWN])}{more}"


def _unallowed(script: LeadScript, allowed: set[str]) -> list[str]:
    if not allowed:
        return ["No database may be read by lead scripts; name them in LEADSCRUB_ALLOWED_DATABASES."]
    outside = sorted((script.databases or frozenset()) - allowed)
    if outside:
        return [f"The header names databases that this deployment does not allow: {', '.join(outside)}."]
    return []


def _parse(sql: str) -> exp.Query:
    """The one query of the text, with a check of its tokens before the parser sees them."""
    try:
        tokens = Snowflake().tokenize(sql)
    except SqlglotError:
        raise RefusedError("The text cannot be read as SQL: a quote or comment is not closed.") from None
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    _check_tokens(tokens)
    try:
        trees = Snowflake().parser().parse(tokens, sql)
    except ParseError as error:
        raise RefusedError(_syntax_error(error)) from None
    except SqlglotError as error:
        raise RefusedError(f"The statement cannot be read: {type(error).__name__}.") from None
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, _QUERY):
        raise RefusedError("It must be exactly one SELECT, or WITH ... SELECT.")
    return tree


def _check_tokens(tokens: list[Token]) -> None:
    if not tokens:
        raise RefusedError("There is no statement in the file.")
    if len(tokens) > MAX_TOKENS:
        raise RefusedError(f"The statement is longer than {MAX_TOKENS:,} words.")
    starts = (token for token in tokens if token.token_type is not TokenType.L_PAREN)
    first = next(starts, tokens[0])
    if first.token_type not in (TokenType.SELECT, TokenType.WITH):
        raise RefusedError(f"{_spot(first)}The statement must start with SELECT or WITH.")
    for negation, like, choice in zip(tokens, tokens[1:], tokens[2:], strict=False):
        # Whether NOT applies to each pattern or to the whole is not plain, and the parser would decide it.
        if [negation.text.upper(), choice.text.upper()] in (
            ["NOT", "ANY"],
            ["NOT", "ALL"],
        ) and "LIKE" in like.text.upper():
            raise RefusedError(f"{_spot(negation)}Write NOT (x LIKE ANY (...)) instead of x NOT LIKE ANY (...).")
    _check_nesting(tokens)


def _check_nesting(tokens: list[Token]) -> None:
    depth = 0
    copying: list[bool] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.token_type is TokenType.SEMICOLON:
            raise RefusedError(f"{_spot(token)}There is more than one statement; a script is one SELECT.")
        if token.token_type in (TokenType.L_BRACE, TokenType.BLOCK_START):
            raise RefusedError(f"{_spot(token)}Templates and braces are not allowed in a lead script.")
        depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
        if depth > MAX_NESTING:
            raise RefusedError(f"{_spot(token)}The statement is nested more than {MAX_NESTING} deep.")
        if token.token_type is TokenType.L_PAREN:
            copying.append(before is not None and before.text.upper() in _COPYING)
            if copying.count(True) > MAX_COPYING:
                raise RefusedError(f"{_spot(token)}{', '.join(sorted(_COPYING))} may stand at most {MAX_COPYING} deep.")
        elif token.token_type is TokenType.R_PAREN and copying:
            copying.pop()


def _spot(token: Token) -> str:
    return f"Line {token.line}, column {max(token.col - len(token.text) + 1, 1)}: "


def _syntax_error(error: ParseError) -> str:
    first = error.errors[0] if error.errors else {}
    where = f"Line {first['line']}, column {first['col']}: " if first.get("line") else ""
    what = str(first.get("description") or "it cannot be understood").split("<class")[0].strip().rstrip(".")
    return f"{where}The SQL cannot be read: {what}."


def _strangers(tree: exp.Expr) -> list[str]:
    """Every part of the statement that the lists do not name."""
    findings: list[str] = []
    stack: list[tuple[exp.Expr, int]] = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_DEPTH:
            return [*findings, f"{place(node)}The statement is nested more than {MAX_DEPTH} deep."]
        problem = _problem(node)
        if problem is not None:
            findings.append(place(node) + problem)
            continue
        stack += [(child, depth + 1) for child in children(node)]
    return findings[::-1]


def _problem(node: exp.Expr) -> str | None:
    kind = type(node)
    if kind not in FUNCTIONS and kind not in PARTS:
        return f"{_called(node)} is not allowed in a lead script."
    for part, value in node.args.items():
        for item in value if isinstance(value, list) else (value,):
            if item is None or item is False or item in ("", []):
                continue
            if kind in PARTS and part not in PARTS[kind]:
                return f"{_called(node)}: {part.strip('_').upper()} is not allowed in a lead script."
            if isinstance(item, str) and not _known_word(node, part, item):
                return f"{_called(node)}: this {part.strip('_')} is not allowed in a lead script."
            if not isinstance(item, exp.Expr | str | bool | int | exp.DType):
                return f"{_called(node)} is not allowed in this form."
    check = _CHECKS.get(kind)
    return check(node) if check else None


def _known_word(node: exp.Expr, part: str, word: str) -> bool:
    if isinstance(node, exp.Literal | exp.RawString | exp.Identifier):
        return "\0" not in word
    if isinstance(node, exp.Var):
        return word.upper() in DATE_PARTS
    if isinstance(node, exp.JSONPathKey):
        return re.fullmatch(r"[\w $-]+", word) is not None
    if isinstance(node, exp.Trim) and part == "position":
        return word in ("LEADING", "TRAILING", "BOTH")
    return word.upper() in WORDS.get((type(node), part), ())


def _called(node: exp.Expr) -> str:
    """What the writer of the script would call it."""
    if isinstance(node, exp.Anonymous):
        return f"Function {str(node.this).upper()[:60]}"
    if isinstance(node, exp.Func):
        return f"Function {node.sql_name()}"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__)
    return _NAMES.get(type(node), words.upper())


_NAMES: Final[dict[type[exp.Expr], str]] = {
    exp.Parameter: "A variable or stage ($ or @)",
    exp.Placeholder: "A placeholder (? or :name)",
    exp.Dot: "A function or name with more than one dot",
    exp.TableFromRows: "TABLE(...)",
    exp.DynamicIdentifier: "IDENTIFIER(...)",
    exp.Kwarg: "A named argument (=>)",
    exp.Into: "INTO",
    exp.Command: "This statement",
    exp.DataType: "This data type",
}


def _check_table(node: exp.Expr) -> str | None:
    parts = [node.args.get(part) for part in ("this", "db", "catalog")]
    for part in parts:
        if isinstance(part, exp.Identifier):
            if part.name and _TABLE_NAME.match(part.name) is None:
                return "This name cannot be a table's, a schema's or a database's."
        elif part:
            return "Only tables can be read: no stages, files, variables or table functions."
    return None


def _check_identifier(node: exp.Expr) -> str | None:
    name = node.name
    parent = node.parent
    if isinstance(parent, exp.Table) and node.arg_key == "db" and not name:
        return None
    if not name or len(name) > 255 or '"' in name or not name.isprintable():
        return "A name must have 1 to 255 printable characters and no double quote."
    return None


def _check_column(node: exp.Expr) -> str | None:
    if not isinstance(node.this, exp.Identifier | exp.Star):
        return "This is not allowed as a column."
    if node.name.lower() in _SEQUENCE_WORDS:
        return "Sequences (NEXTVAL) are not allowed in a lead script."
    return None


def _check_type(node: exp.Expr) -> str | None:
    if node.this not in TYPES or node.args.get("nested"):
        return "This data type is not allowed in a lead script."
    return None


def _check_number(node: exp.Expr) -> str | None:
    count = node.args.get("expression") or node.args.get("count")
    if not isinstance(count, exp.Literal) or count.is_string or not count.name.isdigit():
        return "LIMIT and OFFSET take a plain number."
    return None


def _check_interval(node: exp.Expr) -> str | None:
    amount = node.this
    plain = isinstance(amount, exp.Literal) and re.fullmatch(r"-?\d{1,6}", amount.name) is not None
    if not plain or node.args.get("unit") is None:
        return "An INTERVAL is one whole number and one unit, like INTERVAL '30 days'."
    return None


def _check_source(node: exp.Expr) -> str | None:
    allowed: tuple[type[exp.Expr], ...] = (exp.Table, exp.Subquery)
    if isinstance(node, exp.Subquery):
        allowed = (exp.Table, *_QUERY)
    elif isinstance(node, exp.From | exp.Join):
        allowed = (exp.Table, exp.Subquery, exp.Values)
    elif isinstance(node, exp.CTE | exp.Exists):
        allowed = _QUERY
    if not isinstance(node.this, allowed):
        return "Only tables and queries can be read from: no stages, files, variables or table functions."
    return None


def _check_rows(node: exp.Expr) -> str | None:
    if all(isinstance(row, exp.Tuple | exp.Paren) for row in node.expressions):
        return None
    return "VALUES takes rows in brackets."


def _check_literal(node: exp.Expr) -> str | None:
    if node.args.get("is_string") or re.fullmatch(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", node.name):
        return None
    return "This is not a plain number."


def _check_select(node: exp.Expr) -> str | None:
    return None if node.args.get("expressions") else "A SELECT needs at least one column."


def _check_group(node: exp.Expr) -> str | None:
    given = [name for name, value in node.args.items() if value]
    return None if len(given) == 1 else "GROUP BY needs either ALL or at least one column."


def _check_star(node: exp.Expr) -> str | None:
    fits = isinstance(node.parent, exp.Select | exp.Column | exp.Count) and node.arg_key in ("expressions", "this")
    return None if fits else "A star may stand for columns only, not inside an expression."


def _check_choice(node: exp.Expr) -> str | None:
    fits = isinstance(node.parent, exp.Binary) and node.arg_key == "expression"
    return None if fits else "ANY and ALL may stand only to the right of a comparison."


def _check_path(node: exp.Expr) -> str | None:
    """``col:path`` and GET_PATH, not DuckDB's and PostgreSQL's arrows."""
    if not isinstance(node.expression, exp.JSONPath) or "only_json_types" in node.args:
        return "This operator is not allowed in a lead script."
    return None


def _check_bracket(node: exp.Expr) -> str | None:
    fits = len(node.expressions) == 1 and isinstance(node.expressions[0], exp.Literal)
    return None if fits else "Brackets take one plain number or name."


_CHECKS: Final[dict[type[exp.Expr], Callable[[exp.Expr], str | None]]] = {
    exp.Literal: _check_literal,
    exp.Select: _check_select,
    exp.Group: _check_group,
    exp.Star: _check_star,
    exp.Any: _check_choice,
    exp.All: _check_choice,
    exp.JSONExtract: _check_path,
    exp.Bracket: _check_bracket,
    exp.Table: _check_table,
    exp.Identifier: _check_identifier,
    exp.Column: _check_column,
    exp.DataType: _check_type,
    exp.Limit: _check_number,
    exp.Offset: _check_number,
    exp.Fetch: _check_number,
    exp.Interval: _check_interval,
    exp.From: _check_source,
    exp.Join: _check_source,
    exp.Subquery: _check_source,
    exp.CTE: _check_source,
    exp.Exists: _check_source,
    exp.Values: _check_rows,
}


def _settle_names(tree: exp.Expr) -> None:
    """Write every name as Snowflake stores it: unquoted ones in upper case, and all in quotes from here on."""
    for node in tree.find_all(exp.Identifier):
        if not node.args.get("quoted"):
            node.set("this", node.name.upper())
            node.set("quoted", True)
    for raw in list(tree.find_all(exp.RawString)):
        raw.replace(exp.Literal.string(raw.name))


def _written_back(tree: exp.Query) -> str:
    """The statement's text, which must mean to the parser what the tree means."""
    sql = tree.sql("snowflake", identify=True, comments=False)
    try:
        again = _parse(sql)
    except RefusedError:
        again = None
    if again is None or _strangers(again) or again.sql("snowflake", identify=True, comments=False) != sql:
        raise RefusedError("The statement cannot be written back faithfully; write it more simply.")
    return sql
