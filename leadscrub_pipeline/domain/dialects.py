"""From Snowflake's dialect to DuckDB's, for statements that the guard has let through.

Carries over what gives the same result there, each construct shown by a test that runs it,
and refuses the rest by name. It never lets a statement run with another meaning.
"""

from collections.abc import Callable
from typing import Final

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from leadscrub_pipeline.domain.grammar import FUNCTIONS, UNITS
from leadscrub_pipeline.domain.guard import MAX_SHOWN, GuardedStatement
from leadscrub_pipeline.domain.rewrites import MAX_NODES, REWRITES, TEXT_TYPES, written_size
from leadscrub_pipeline.domain.tables import place
from leadscrub_pipeline.errors import RefusedError

MAX_PAD: Final = 1_000

Check = Callable[[exp.Expr], str | None]


def to_duckdb(guarded: GuardedStatement) -> str:
    """The statement in DuckDB's dialect, with the same meaning.

    Raises:
        RefusedError: a part of it cannot be carried over faithfully. Names each, and what to write instead.
    """
    findings = carry_findings(guarded)
    if findings:
        more = f" (and {len(findings) - MAX_SHOWN} more)" if len(findings) > MAX_SHOWN else ""
        raise RefusedError(
            "The embedded warehouse would not run this script as Snowflake does. "
            f"{' '.join(findings[:MAX_SHOWN])}{more}"
        )
    try:
        return _carried(guarded.expression)
    except RecursionError:
        raise RefusedError("The statement is nested too deeply for the embedded warehouse.") from None
    except SqlglotError as error:
        raise RefusedError(f"The statement cannot be carried over to DuckDB: {type(error).__name__}.") from None


def carry_findings(guarded: GuardedStatement) -> list[str]:
    """Everything in the statement that DuckDB would do differently, or cannot do."""
    findings: list[str] = []
    for node in guarded.expression.walk():
        kind = type(node)
        problem: str | None = None
        if kind in _REFUSED:
            problem = _REFUSED[kind]
        elif kind in FUNCTIONS and kind not in _CARRIED:
            problem = f"Function {_written(node)} cannot be carried over."
        elif kind in _CHECKS:
            problem = _CHECKS[kind](node)
        if problem is not None:
            findings.append(place(node) + problem)
    if not findings and written_size(guarded.expression) > MAX_NODES:
        findings.append("It becomes too long in DuckDB's dialect: functions that stand many deep in each other.")
    return [*dict.fromkeys(findings), *_confusable_names(guarded.expression), *_repeated_names(guarded.expression)]


def _carried(expression: exp.Query) -> str:
    tree = expression.copy()
    # Inner parts first: a rewritten part may be copied into the one around it.
    for node in reversed(list(tree.walk(bfs=False))):
        if type(node) in REWRITES:
            REWRITES[type(node)](node)
    return tree.sql("duckdb", identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)


def _written(node: exp.Expr) -> str:
    """The function's name in Snowflake's dialect, as a script would write it."""
    return node.sql("snowflake", comments=False).split("(")[0].strip()[:60].upper()


def _confusable_names(tree: exp.Expr) -> list[str]:
    """Names that Snowflake keeps apart and DuckDB, which ignores case, does not."""
    findings: list[str] = []
    sources = [node.alias_or_name for node in tree.find_all(exp.Table, exp.Subquery, exp.Values, exp.CTE)]
    groups = [sources, *([item.alias_or_name for item in select.expressions] for select in tree.find_all(exp.Select))]
    for group in groups:
        seen: dict[str, str] = {}
        findings += [
            f'"{name}" and "{seen[name.lower()]}" differ only by case, which DuckDB does not see.'
            for name in group
            if seen.setdefault(name.lower(), name) != name
        ]
    return findings


def _repeated_names(tree: exp.Expr) -> list[str]:
    """A name given twice in one SELECT: ambiguous in Snowflake when it is used, the first one in DuckDB."""
    findings = []
    for select in tree.find_all(exp.Select):
        names = [item.alias_or_name for item in select.expressions if item.alias_or_name not in ("", "*")]
        twice = sorted({name for name in names if names.count(name) > 1})
        findings += [f'{place(select)}"{name}" comes twice in one SELECT; give each its own name.' for name in twice]
    return findings


_JSON = "Semi-structured values (col:path, PARSE_JSON) cannot be carried over: DuckDB keeps the quotes of JSON text."

_REFUSED: Final[dict[type[exp.Expr], str]] = {
    exp.JSONExtract: _JSON,
    exp.ParseJSON: _JSON,
    exp.Bracket: _JSON,
    exp.JarowinklerSimilarity: "Function JAROWINKLER_SIMILARITY gives other numbers in DuckDB.",
    exp.Rand: "Function RANDOM gives other numbers in DuckDB.",
    exp.Initcap: "Function INITCAP cannot be carried over.",
    exp.Soundex: "Function SOUNDEX cannot be carried over.",
}

_DAY_FORMAT_TOKENS: Final = ("%Y", "%m", "%d", "%H", "%M", "%S")


def _check_format(node: exp.Expr) -> str | None:
    """The parser holds the format in strftime's letters; what stays besides these is not understood alike."""
    given = node.args.get("format")
    if given is None:
        return None
    text = given.name
    for token in _DAY_FORMAT_TOKENS:
        text = text.replace(token, "")
    if not isinstance(given, exp.Literal) or any(letter not in "-/ :." for letter in text):
        return "This date format cannot be carried over; use YYYY, MM, DD, HH24, MI, SS and the signs - / : . only."
    return None


def _check_to_char(node: exp.Expr) -> str | None:
    if node.args.get("format") is None:
        return _check_written_number(node)
    return "TO_VARCHAR and TO_CHAR with a format cannot be carried over unless the value is plainly a date."


def _check_to_number(node: exp.Expr) -> str | None:
    return "TO_NUMBER with a format cannot be carried over." if node.args.get("format") is not None else None


def _check_to_date(node: exp.Expr) -> str | None:
    if node.args.get("format") is None:
        return "TO_DATE without a format guesses in Snowflake; give the format."
    return _check_format(node)


def _check_cast(node: exp.Expr) -> str | None:
    to = node.args["to"]
    kind = to.this
    if kind in TEXT_TYPES and to.expressions:
        return "A cast to VARCHAR with a length cannot be carried over: DuckDB does not enforce it. Use LEFT(x, n)."
    if kind in TEXT_TYPES:
        return _check_written_number(node)
    if isinstance(node, exp.TryCast) and kind in _GUESSED_TYPES:
        return f"TRY_CAST to {kind.value} guesses in Snowflake; use TRY_TO_DATE or TRY_TO_TIMESTAMP with a format."
    return _REFUSED_TYPES.get(kind)


_CHAR: Final = "A cast to CHAR cannot be carried over. Use LEFT(x, 1)."
_ZONE: Final = "A cast to a time with zone cannot be carried over. Use TIMESTAMP_NTZ."
_REFUSED_TYPES: Final[dict[exp.DType, str]] = {
    exp.DType.CHAR: _CHAR,
    exp.DType.NCHAR: _CHAR,
    exp.DType.TIMESTAMPLTZ: _ZONE,
    exp.DType.TIMESTAMPTZ: _ZONE,
    exp.DType.VARIANT: _JSON,
    exp.DType.OBJECT: _JSON,
    exp.DType.ARRAY: _JSON,
}
_GUESSED_TYPES: Final = (
    exp.DType.DATE,
    exp.DType.TIME,
    exp.DType.TIMESTAMP,
    exp.DType.TIMESTAMPNTZ,
    exp.DType.DATETIME,
)


def _only(*parts: str) -> Check:
    """A check that refuses every argument but these: the others mean something else in DuckDB, or nothing."""

    def check(node: exp.Expr) -> str | None:
        for part, value in node.args.items():
            if part not in parts and isinstance(value, exp.Expr):
                return f"Function {_written(node)} with these arguments cannot be carried over."
        return None

    return check


def _check_pad(node: exp.Expr) -> str | None:
    width = node.args.get("expression")
    if isinstance(width, exp.Literal) and width.name.isdigit() and int(width.name) <= MAX_PAD:
        return _check_written_number(node)
    return f"LPAD and RPAD need a plain width of at most {MAX_PAD}."


def _check_regexp_substr(node: exp.Expr) -> str | None:
    """The parser adds the defaults by itself: whole match, from the first character, first occurrence."""
    defaults = {"position": "1", "occurrence": "1", "parameters": "c", "group": "0"}
    for part, default in defaults.items():
        value = node.args.get(part)
        if value is not None and value.name != default:
            return "Function REGEXP_SUBSTR with these arguments cannot be carried over."
    return None


def _check_hash(node: exp.Expr) -> str | None:
    length = node.args.get("length")
    return None if length is None or length.name == "256" else "Function SHA2 is carried over with 256 bits only."


def _check_choice(node: exp.Expr) -> str | None:
    """ANY and ALL: over patterns in brackets beside LIKE, over a query beside a comparison."""
    among = node.this
    if isinstance(node.parent, exp.Like | exp.ILike):
        fits = isinstance(among, exp.Tuple) or (isinstance(among, exp.Paren) and not among.find(exp.Query))
    else:
        fits = isinstance(among, exp.Subquery) or (isinstance(among, exp.Paren) and among.find(exp.Query) is not None)
    return None if fits else "This use of ANY or ALL cannot be carried over."


def _check_escape(node: exp.Expr) -> str | None:
    return "ESCAPE together with LIKE ANY or LIKE ALL cannot be carried over." if node.find(exp.Any, exp.All) else None


def _check_values(node: exp.Expr) -> str | None:
    alias = node.args.get("alias")
    if alias is None or not alias.args.get("columns"):
        return "VALUES needs names for its columns: (VALUES ...) AS name (column, ...)."
    return None


def _check_table(node: exp.Expr) -> str | None:
    """DuckDB takes DB.SCHEMA.CSV for a file of that name when there is no such table."""
    if node.name.lower() in _FILE_ENDINGS:
        return f"A table named {node.name} cannot be read by the embedded warehouse, which would look for a file."
    return None


_FILE_ENDINGS: Final = frozenset(
    {"csv", "tsv", "txt", "gz", "zst", "parquet", "json", "jsonl", "ndjson", "db", "duckdb", "xlsx", "arrow", "avro"}
)


def _check_written_number(node: exp.Expr) -> str | None:
    """The value that becomes text must not be a quotient: Snowflake keeps six decimals of it, DuckDB all it has."""
    if any(isinstance(part.unnest(), exp.Div | exp.Avg | exp.Median) for part in node.iter_expressions()):
        return "A quotient or average has other decimals as text in DuckDB; ROUND it first."
    return None


def _check_join(node: exp.Expr) -> str | None:
    if node.args.get("side") in ("RIGHT", "FULL") and (node.args.get("using") or node.args.get("method")):
        return "RIGHT and FULL JOIN with USING or NATURAL cannot be carried over; join with ON."
    return None


def _check_unit(node: exp.Expr) -> str | None:
    unit = node.args.get("unit")
    if unit is None and isinstance(node, exp.Extract):
        unit = node.this
    if unit is not None and unit.name.upper() not in _UNITS:
        return f"The date part {unit.name.upper()} cannot be carried over."
    return None


_UNITS: Final = UNITS | {unit + "S" for unit in UNITS}

_CHECKS: Final[dict[type[exp.Expr], Check]] = {
    exp.Cast: _check_cast,
    exp.TryCast: _check_cast,
    exp.ToChar: _check_to_char,
    exp.ToNumber: _check_to_number,
    exp.ToDouble: _only("this"),
    exp.TimeToStr: _check_format,
    exp.StrToTime: _check_format,
    exp.TsOrDsToDate: _check_to_date,
    exp.Pad: _check_pad,
    exp.Escape: _check_escape,
    exp.Table: _check_table,
    exp.Concat: _check_written_number,
    exp.DPipe: _check_written_number,
    exp.Join: _check_join,
    exp.Values: _check_values,
    exp.Levenshtein: _only("this", "expression"),
    exp.RegexpLike: _only("this", "expression"),
    exp.RegexpReplace: _only("this", "expression", "replacement"),
    exp.RegexpExtract: _check_regexp_substr,
    exp.SHA2: _check_hash,
    exp.Any: _check_choice,
    exp.All: _check_choice,
    exp.RegexpCount: _only("this", "expression"),
    exp.Ceil: _only("this"),
    exp.Floor: _only("this"),
    exp.Round: _only("this", "decimals"),
    exp.LastDay: _only("this"),
    exp.Max: _only("this"),
    exp.Min: _only("this"),
    exp.ArgMax: _only("this", "expression"),
    exp.ArgMin: _only("this", "expression"),
    exp.CurrentTimestamp: _only(),
    exp.DateAdd: _check_unit,
    exp.DateDiff: _check_unit,
    exp.DateTrunc: _check_unit,
    exp.TimestampTrunc: _check_unit,
    exp.TimestampAdd: _check_unit,
    exp.TimeAdd: _check_unit,
    exp.Extract: _check_unit,
    exp.Interval: _check_unit,
}

_CARRIED: Final[frozenset[type[exp.Expr]]] = frozenset(
    {
        exp.Abs, exp.AddMonths, exp.AnyValue, exp.ArgMax, exp.ArgMin, exp.Ascii, exp.Avg, exp.Ceil, exp.Chr,
        exp.Coalesce, exp.Concat, exp.ConcatWs, exp.Contains, exp.Count, exp.CountIf, exp.CumeDist, exp.CurrentDate,
        exp.CurrentTimestamp, exp.DateAdd, exp.DateDiff, exp.DateFromParts, exp.DateTrunc, exp.Day, exp.DayOfMonth,
        exp.DayOfWeek, exp.DayOfWeekIso, exp.DayOfYear, exp.Dayname, exp.DecodeCase, exp.DenseRank, exp.EndsWith,
        exp.EqualNull, exp.Extract, exp.FirstValue, exp.Floor, exp.Greatest, exp.GroupConcat, exp.Hour, exp.Lag,
        exp.LastDay, exp.LastValue, exp.Lead, exp.Least, exp.Left, exp.Length, exp.Levenshtein, exp.Lower, exp.MD5,
        exp.Max, exp.Median, exp.Min, exp.Minute, exp.Month, exp.Monthname, exp.NthValue, exp.Ntile, exp.Nullif,
        exp.Nvl2, exp.Pad, exp.PercentRank, exp.Pow, exp.Quarter, exp.Rank, exp.RegexpCount, exp.RegexpExtract,
        exp.RegexpLike, exp.RegexpReplace, exp.Replace, exp.Reverse, exp.Right, exp.Round, exp.RowNumber, exp.SHA,
        exp.SHA2, exp.Second, exp.Sign, exp.SplitPart, exp.Sqrt, exp.StartsWith, exp.StrPosition, exp.StrToTime,
        exp.Substring, exp.Sum, exp.TimeToStr, exp.TimestampTrunc, exp.ToBoolean, exp.ToChar, exp.ToDouble,
        exp.ToNumber, exp.Translate, exp.Trim, exp.Trunc, exp.TsOrDsToDate, exp.Upper, exp.Year,
    }
)  # fmt: skip
"""Functions whose DuckDB form was run and found to give Snowflake's result."""
