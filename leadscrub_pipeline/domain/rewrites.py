"""How a part of a Snowflake statement is put so that DuckDB gives Snowflake's result.

Each rewrite changes one node in place, before sqlglot writes the statement in DuckDB's
dialect; a test runs each. What is refused instead belongs to ``dialects.py``.
"""

from collections.abc import Callable
from typing import Final

from sqlglot import exp

MAX_NODES: Final = 200_000
"""Largest statement after carrying over. Copied arguments multiply when they nest."""

TEXT_TYPES: Final = (exp.DType.TEXT, exp.DType.VARCHAR, exp.DType.NVARCHAR)

_COPIES: Final[dict[type[exp.Expr], int]] = {
    exp.AddMonths: 4,
    exp.ConcatWs: 2,
    exp.DecodeCase: 2,
    exp.GroupConcat: 2,
    exp.Greatest: 2,
    exp.Least: 2,
    exp.Left: 2,
    exp.Length: 3,
    exp.RegexpCount: 2,
    exp.RegexpExtract: 2,
    exp.Right: 2,
    exp.SplitPart: 6,
    exp.StrPosition: 6,
    exp.Substring: 2,
    exp.ToBoolean: 5,
    exp.ToDouble: 2,
    exp.ToNumber: 2,
}
"""How often the DuckDB form of a function holds one of its arguments."""

_TEXT_COPIES: Final = 6

_TEXT_FUNCTIONS: Final = (
    exp.Concat,
    exp.DPipe,
    exp.Left,
    exp.Lower,
    exp.MD5,
    exp.Pad,
    exp.RegexpReplace,
    exp.Replace,
    exp.Reverse,
    exp.Right,
    exp.SplitPart,
    exp.Substring,
    exp.Translate,
    exp.Trim,
    exp.Upper,
)


def written_size(tree: exp.Expr) -> int:
    """About how many nodes the statement has once carried over; counting stops beyond the limit."""
    size = 0
    stack: list[tuple[exp.Expr, int]] = [(tree, 1)]
    while stack and size <= MAX_NODES:
        node, copies = stack.pop()
        size += copies
        stack += [(child, copies * _copies(node, child)) for child in node.iter_expressions()]
    return size


def _copies(node: exp.Expr, child: exp.Expr) -> int:
    if isinstance(node, exp.Div | exp.Mod):
        return 2 if child is node.expression else 1
    if isinstance(node, exp.Like | exp.ILike) and isinstance(node.expression, exp.Any | exp.All):
        return max(len(node.expression.this.expressions), 1) if child is node.this else 1
    if isinstance(node, exp.Cast | exp.TryCast) and node.args["to"].this not in TEXT_TYPES:
        return 2
    if isinstance(node, exp.Cast | exp.TryCast | exp.ToChar | exp.DPipe | exp.Concat | exp.Pad):
        return 1 if _is_text(child) else _TEXT_COPIES
    return _COPIES.get(type(node), 1)


def _call(name: str, *arguments: exp.Expr | str) -> exp.Anonymous:
    """A call of DuckDB's own function. A plain string is a text argument."""
    given = [exp.Literal.string(item) if isinstance(item, str) else item.copy() for item in arguments]
    return exp.Anonymous(this=name, expressions=given)


def _spread_any(node: exp.Expr) -> None:
    """``x LIKE ANY (a, b)``, in brackets: sqlglot writes the OR without, and NOT or AND beside it would bind first."""
    choice = node.args["expression"]
    if not isinstance(choice, exp.Any | exp.All):
        return
    patterns = choice.this.expressions if isinstance(choice.this, exp.Tuple) else [choice.this.unnest()]
    each = [type(node)(this=node.this.copy(), expression=pattern.copy()) for pattern in patterns]
    joined = exp.or_(*each, copy=False) if isinstance(choice, exp.Any) else exp.and_(*each, copy=False)
    node.replace(exp.paren(joined, copy=False))


def _stop_at_zero(node: exp.Expr) -> None:
    """Division by zero is an error in Snowflake; DuckDB gives infinity or NULL."""
    divisor = node.args["expression"]
    if isinstance(divisor, exp.Literal) and not divisor.is_string and float(divisor.name) != 0:
        return
    zero = exp.EQ(this=exp.paren(divisor), expression=exp.Literal.number(0))
    stop = exp.If(this=zero, true=_call("ERROR", "Division by zero"))
    divisor.replace(exp.Case(ifs=[stop], default=divisor.copy()))


def _wide_numbers(node: exp.Expr) -> None:
    """Snowflake's integers have 38 digits whatever their name, and its FLOAT is a double."""
    if node.this in (exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT):
        node.replace(exp.DataType.build("DECIMAL(38, 0)"))
    elif node.this is exp.DType.FLOAT:
        node.replace(exp.DataType.build("DOUBLE"))


def _as_text(value: exp.Expr) -> exp.Expr:
    """The value as Snowflake writes it: a whole double without ".0", a time with its milliseconds.

    Its type is known to DuckDB only, which settles the CASE when it plans the query.
    """
    text = _text_cast(value)
    if _is_text(value):
        return text
    number = _call("REGEXP_REPLACE", text, r"\.0$", "")
    time = _call("STRFTIME", exp.TryCast(this=text, to=exp.DataType.build("TIMESTAMP")), "%Y-%m-%d %H:%M:%S.%g")
    zoned = _call("ERROR", "A time with zone has no text that Snowflake and DuckDB write alike; cast it first")
    branches = {"DOUBLE": number, "FLOAT": number, "TIMESTAMP": time, "TIMESTAMP WITH TIME ZONE": zoned}
    return exp.Case(
        this=_call("TYPEOF", value),
        ifs=[exp.If(this=exp.Literal.string(kind), true=form.copy()) for kind, form in branches.items()],
        default=text,
    )


def _is_text(value: exp.Expr) -> bool:
    """Whether its text is the same in both, because it is text already or a plain literal."""
    value = value.unnest()
    if isinstance(value, exp.Case):
        return isinstance(value.this, exp.Anonymous) and value.this.name == "TYPEOF"
    if isinstance(value, exp.Cast | exp.TryCast):
        return value.args["to"].this in TEXT_TYPES
    return isinstance(value, (exp.Literal, exp.Null, *_TEXT_FUNCTIONS))


def _text_cast(value: exp.Expr) -> exp.Expr:
    return exp.Cast(this=value.copy(), to=exp.DataType.build("TEXT"))


def _cast(node: exp.Expr) -> None:
    to = node.args["to"].this
    if to in TEXT_TYPES:
        node.replace(_as_text(node.this))
    elif to in (exp.DType.DECIMAL, exp.DType.DOUBLE):
        _read_number(node)


def _read_number(node: exp.Expr) -> None:
    """DuckDB reads 1_000 as a number, Snowflake does not."""
    value = node.this
    if isinstance(value, exp.Literal) and "_" not in value.name:
        return
    lenient = isinstance(node, exp.TryCast) or node.args.get("safe")
    stop = exp.Null() if lenient else _call("ERROR", "Numeric value is not recognized")
    marked = exp.If(this=_call("CONTAINS", _text_cast(value), "_"), true=stop)
    node.set("this", exp.Case(ifs=[marked], default=value.copy()))


def _write_as_text(node: exp.Expr) -> None:
    node.replace(_as_text(node.this))


def _join_as_text(node: exp.Expr) -> None:
    for part in [node.this, node.expression] if isinstance(node, exp.DPipe) else node.expressions:
        if not _is_text(part):
            part.replace(_as_text(part))


def _pad_as_text(node: exp.Expr) -> None:
    node.set("this", _as_text(node.this))


def _first_match(node: exp.Expr) -> None:
    """Without a match Snowflake's REGEXP_SUBSTR is NULL, DuckDB's an empty text."""
    found = exp.If(
        this=_call("REGEXP_MATCHES", node.this, node.expression),
        true=_call("REGEXP_EXTRACT", node.this, node.expression),
    )
    node.replace(exp.Case(ifs=[found]))


def _empty_list(node: exp.Expr) -> None:
    """LISTAGG over nothing is an empty text in Snowflake, NULL in DuckDB."""
    whole = node.parent if isinstance(node.parent, exp.WithinGroup) else node
    whole = whole.parent if isinstance(whole.parent, exp.Window) else whole
    whole.replace(exp.Coalesce(this=whole.copy(), expressions=[exp.Literal.string("")]))


def _count_true(node: exp.Expr) -> None:
    """COUNT_IF over nothing is 0 in Snowflake, NULL in DuckDB."""
    true = exp.Case(ifs=[exp.If(this=node.this.copy(), true=exp.Literal.number(1))])
    node.replace(exp.Count(this=true, big_int=True))


def _with_null(name: str) -> Callable[[exp.Expr], None]:
    """DuckDB's plain form passes over rows whose first value is NULL; Snowflake's does not."""

    def rewrite(node: exp.Expr) -> None:
        node.replace(_call(name, node.this, node.expression))

    return rewrite


def _whole_amount(node: exp.Expr) -> None:
    """Snowflake rounds the amount, DuckDB cuts it. A date stays a date in Snowflake, DuckDB makes it a time."""
    amount = node.args["expression"]
    if not (isinstance(amount, exp.Literal) and amount.name.isdigit()):
        amount.replace(exp.Round(this=amount.copy()))
    if node.args["unit"].name.upper().rstrip("S") in ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY"):
        _keep_date(node)


def _keep_date(node: exp.Expr) -> None:
    if _is_date(node.this):
        node.replace(exp.Cast(this=node.copy(), to=exp.DataType.build("DATE")))


def _is_date(node: exp.Expr) -> bool:
    node = node.unnest()
    if isinstance(node, exp.Cast):
        return bool(node.args["to"].this is exp.DType.DATE)
    return isinstance(node, exp.CurrentDate | exp.DateFromParts | exp.LastDay | exp.TsOrDsToDate)


REWRITES: Final[dict[type[exp.Expr], Callable[[exp.Expr], None]]] = {
    exp.ArgMax: _with_null("ARG_MAX_NULL"),
    exp.ArgMin: _with_null("ARG_MIN_NULL"),
    exp.Cast: _cast,
    exp.Concat: _join_as_text,
    exp.CountIf: _count_true,
    exp.DPipe: _join_as_text,
    exp.DataType: _wide_numbers,
    exp.DateAdd: _whole_amount,
    exp.DateTrunc: _keep_date,
    exp.Div: _stop_at_zero,
    exp.GroupConcat: _empty_list,
    exp.ILike: _spread_any,
    exp.Like: _spread_any,
    exp.Mod: _stop_at_zero,
    exp.Pad: _pad_as_text,
    exp.RegexpExtract: _first_match,
    exp.TimestampTrunc: _keep_date,
    exp.ToChar: _write_as_text,
    exp.ToDouble: _read_number,
    exp.ToNumber: _read_number,
    exp.TryCast: _cast,
}
