"""What is carried over to DuckDB gives Snowflake's result there; the rest is refused by name.

The expected values are Snowflake's, from its documentation; none of this was run on a Snowflake account.
"""

import re
from datetime import date, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain import dialects
from leadscrub_pipeline.domain.dialects import to_duckdb
from leadscrub_pipeline.domain.grammar import FUNCTIONS
from leadscrub_pipeline.errors import RefusedError
from leadscrub_pipeline_tests.script_making import guarded


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect(":memory:", config={"autoload_known_extensions": "false"}) as opened:
        opened.execute("ATTACH ':memory:' AS LEADS_DB")
        opened.execute("CREATE SCHEMA LEADS_DB.PUBLIC")
        opened.execute(
            'CREATE TABLE LEADS_DB.PUBLIC.LEADS ("First Name" VARCHAR, last_name VARCHAR, ZIP INTEGER, added DATE, '
            "score DOUBLE, seen TIMESTAMP)"
        )
        opened.executemany(
            "INSERT INTO LEADS_DB.PUBLIC.LEADS VALUES (?, ?, ?, ?, ?, ?)",
            [
                ("Ann", "Able", 2134, date(2024, 1, 31), 1.0, datetime.fromisoformat("2024-01-02 03:04:05")),
                ("Bob", "Able", 90210, date(2024, 3, 1), 2.5, datetime.fromisoformat("2024-01-02 23:00:00")),
                (None, "Cole", None, None, None, None),
            ],
        )
        opened.execute("SET enable_external_access = false")
        opened.execute("SET lock_configuration = true")
        yield opened


def rows(connection, text):
    return connection.execute(to_duckdb(guarded(text))).fetchall()


def value(connection, expression, source=""):
    ((only,),) = rows(connection, f"SELECT {expression} AS result {source}")
    return only


VALUES = [
    # text
    ("CONCAT('a', NULL, 'b')", None),
    ("CONCAT('a', 1, 'b')", "a1b"),
    ("'a' || NULL", None),
    ("CONCAT_WS('-', 'a', NULL)", None),
    ("CONCAT_WS('-', 'a', 'b')", "a-b"),
    ("TRIM('  a ')", "a"),
    ("TRIM('xax', 'x')", "a"),
    ("LTRIM('0012', '0')", "12"),
    ("RTRIM('12..', '.')", "12"),
    ("LPAD(2134, 5, '0')", "02134"),
    ("LPAD('123456', 5, '0')", "12345"),
    ("RPAD('ab', 4)", "ab  "),
    ("LEFT('abc', 2)", "ab"),
    ("LEFT('abc', -1)", ""),
    ("RIGHT('abc', 2)", "bc"),
    ("SUBSTR('abc', 0, 2)", "ab"),
    ("SUBSTR('abcdef', -3, 2)", "de"),
    ("SPLIT_PART('a,b,c', ',', -1)", "c"),
    ("SPLIT_PART('a,b,c', ',', 0)", "a"),
    ("SPLIT_PART('a,b,c', ',', 9)", ""),
    ("REPLACE('abc', 'b')", "ac"),
    ("REGEXP_REPLACE('(212) 555-0123', '[^0-9]')", "2125550123"),
    ("REGEXP_REPLACE('a1b2', '[0-9]', 'x')", "axbx"),
    ("REGEXP_REPLACE('john smith', '(\\\\w+) (\\\\w+)', '\\\\2 \\\\1')", "smith john"),
    ("REGEXP_LIKE('abc', 'b')", False),
    ("'abc' RLIKE '.*b.*'", True),
    ("REGEXP_SUBSTR('ab12', '[0-9]+')", "12"),
    ("REGEXP_SUBSTR('ab', '[0-9]+')", None),
    ("REGEXP_COUNT('a1b2', '[0-9]')", 2),
    ("CHARINDEX('b', 'abcb', 3)", 4),
    ("POSITION('b' IN 'abc')", 2),
    ("TRANSLATE('abcz', 'abz', 'x')", "xc"),
    ("CONTAINS('abc', 'b')", True),
    ("STARTSWITH('abc', 'a')", True),
    ("ENDSWITH('abc', 'c')", True),
    ("EDITDISTANCE('kitten', 'sitting')", 3),
    ("LENGTH('abc')", 3),
    ("UPPER('é')", "É"),
    ("REVERSE('abc')", "cba"),
    ("MD5('a')", "0cc175b9c0f1b6a831c399e269772661"),
    ("SHA2('a', 256)", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
    ("'a_b' LIKE 'a^_b' ESCAPE '^'", True),
    ("'axb' LIKE 'a^_b' ESCAPE '^'", False),
    ("'a' LIKE ANY ('b%', 'a%') AND FALSE", False),
    ("NOT 'a' ILIKE ANY ('A', 'b%')", False),
    ("NOT ('a' LIKE ALL ('a%', '%b'))", True),
    ("NOT 'a' LIKE ALL ('a%', '%b') AND FALSE", False),
    ("'ab' ILIKE 'A%'", True),
    ("$$it's$$", "it's"),
    ("'a\\\\b'", "a\\b"),
    # choice and NULL
    ("IFF(NULL, 1, 2)", 2),
    ("NVL(NULL, 1)", 1),
    ("NVL2(NULL, 1, 2)", 2),
    ("ZEROIFNULL(NULL)", 0),
    ("NULLIFZERO(0)", None),
    ("DECODE(NULL, NULL, 'x', 'y')", "x"),
    ("DECODE(3, 1, 'x', 2, 'z')", None),
    ("GREATEST(1, NULL)", None),
    ("LEAST(2, 1)", 1),
    ("EQUAL_NULL(NULL, NULL)", True),
    ("1 IS DISTINCT FROM NULL", True),
    # numbers
    ("7 / 2", 3.5),
    ("DIV0(1, 0)", 0),
    ("DIV0(NULL, 0)", None),
    ("DIV0NULL(1, NULL)", 0),
    ("MOD(-5, 3)", -2),
    ("ROUND(2.5)", 3),
    ("ROUND(-2.5)", -3),
    ("ROUND(1.005, 2)", Decimal("1.01")),
    ("TRUNC(-1.5)", -1),
    ("CEIL(-1.2)", -1),
    ("'12.5'::INT", 13),
    ("'2125550123'::INT", 2125550123),
    ("TRY_CAST('x' AS INT)", None),
    ("TO_NUMBER('12.75', 10, 1)", Decimal("12.8")),
    ("TRY_TO_NUMBER('1,000')", None),
    ("TRY_TO_NUMBER('1_000')", None),
    ("TRY_CAST('1_000' AS INT)", None),
    ("TRY_TO_DOUBLE('1_000.5')", None),
    ("0.1::FLOAT", 0.1),
    ("TO_BOOLEAN('on')", True),
    ("TRY_TO_BOOLEAN('maybe')", None),
    ("TRY_CAST('off' AS BOOLEAN)", False),
    # values as text
    ("1::DOUBLE::VARCHAR", "1"),
    ("1.5::DOUBLE::VARCHAR", "1.5"),
    ("1.50::VARCHAR", "1.50"),
    ("TRUE::VARCHAR", "true"),
    ("'2024-01-02'::DATE::VARCHAR", "2024-01-02"),
    ("'2024-01-02 03:04:05'::TIMESTAMP::VARCHAR", "2024-01-02 03:04:05.000"),
    ("'on ' || '2024-01-02 03:04:05'::TIMESTAMP", "on 2024-01-02 03:04:05.000"),
    ("TO_CHAR('2024-01-02'::DATE, 'MM/DD/YYYY')", "01/02/2024"),
    # dates
    ("TO_DATE('01/02/2024', 'MM/DD/YYYY')", date(2024, 1, 2)),
    ("TRY_TO_DATE('13/13/2024', 'MM/DD/YYYY')", None),
    ("DATEADD(month, 1, '2024-01-31'::DATE)", date(2024, 2, 29)),
    ("DATEADD(year, -1, '2024-02-29'::DATE)", date(2023, 2, 28)),
    ("DATEADD(day, 1.6, '2024-01-31'::DATE)", date(2024, 2, 2)),
    ("DATEADD(hour, 1, '2024-01-31'::DATE)", datetime.fromisoformat("2024-01-31 01:00:00")),
    ("DATEADD('day', -30, CURRENT_DATE()) < CURRENT_DATE", True),
    ("ADD_MONTHS('2024-02-29'::DATE, 1)", date(2024, 3, 31)),
    ("DATEDIFF(year, '2023-12-31'::DATE, '2024-01-01'::DATE)", 1),
    ("DATEDIFF(week, '2023-12-31'::DATE, '2024-01-01'::DATE)", 1),
    ("DATEDIFF(hour, '2024-01-01 00:59:00'::TIMESTAMP, '2024-01-01 01:01:00'::TIMESTAMP)", 1),
    ("DATE_TRUNC('month', '2024-01-31'::DATE)", date(2024, 1, 1)),
    ("DATE_TRUNC(week, '2024-01-31 05:00:00'::TIMESTAMP)", datetime.fromisoformat("2024-01-29 00:00:00")),
    ("LAST_DAY('2024-02-10'::DATE)", date(2024, 2, 29)),
    ("DAYOFWEEK('2024-01-07'::DATE)", 0),
    ("DAYNAME('2024-01-07'::DATE)", "Sun"),
    ("MONTHNAME('2024-01-07'::DATE)", "Jan"),
    ("DATE_FROM_PARTS(2024, 2, 30)", date(2024, 3, 1)),
    ("'2024-01-31'::DATE - 1", date(2024, 1, 30)),
    ("'2024-01-31'::DATE - '2024-01-01'::DATE", 30),
    ("CURRENT_DATE - INTERVAL '30 days' < CURRENT_DATE", True),
    ("SYSDATE() > '2020-01-01'::TIMESTAMP", True),
]


@pytest.mark.parametrize(("expression", "result"), VALUES)
def test_an_expression_gives_snowflakes_value_on_duckdb(connection, expression, result):
    assert value(connection, expression) == result


@pytest.mark.parametrize(("expression", "result"), [pair for pair in VALUES if pair[1] is not None])
def test_a_value_has_snowflakes_type_on_duckdb(connection, expression, result):
    got = value(connection, expression)
    assert isinstance(got, (int, float, Decimal)) if isinstance(result, (int, Decimal)) else type(got) is type(result)


LIST = "FROM (VALUES ('x', 1), ('y', 3), (NULL, 2)) AS v (a, n)"
NOTHING = f"{LIST} WHERE FALSE"


@pytest.mark.parametrize(
    ("expression", "source", "result"),
    [
        ("LISTAGG(a, ',') WITHIN GROUP (ORDER BY a DESC)", LIST, "y,x"),
        ("LISTAGG(a)", "FROM (VALUES ('x')) AS v (a)", "x"),
        ("LISTAGG(a, ',')", NOTHING, ""),
        ("COUNT_IF(n > 1)", LIST, 2),
        ("COUNT_IF(n > 1)", NOTHING, 0),
        ("COUNT(DISTINCT a, n)", LIST, 2),
        ("MAX_BY(a, n)", LIST, "y"),
        ("MAX_BY(a, n)", "FROM (VALUES (NULL, 5), ('x', 3)) AS v (a, n)", None),
        ("MIN_BY(a, n)", "FROM (VALUES ('x', 5), ('y', NULL)) AS v (a, n)", "x"),
        ("MEDIAN(n)", LIST, 2),
        ("AVG(n)", LIST, 2),
        ("SUM(n)", NOTHING, None),
    ],
)
def test_an_aggregate_gives_snowflakes_value_on_duckdb(connection, expression, source, result):
    assert value(connection, expression, source) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (f"SELECT n {LIST} ORDER BY a", [(1,), (3,), (2,)]),
        (f"SELECT n {LIST} ORDER BY a DESC", [(2,), (3,), (1,)]),
        (f"SELECT n {LIST} QUALIFY ROW_NUMBER() OVER (ORDER BY a DESC) = 1", [(2,)]),
        (f"SELECT LAST_VALUE(n) OVER (ORDER BY n) AS x {LIST}", [(3,), (3,), (3,)]),
        (f"SELECT NTH_VALUE(n, 2) OVER (ORDER BY n) AS x {LIST}", [(2,), (2,), (2,)]),
        (f"SELECT SUM(n) OVER (ORDER BY n) AS x {LIST} ORDER BY x", [(1,), (3,), (6,)]),
        (f"SELECT LAG(a) IGNORE NULLS OVER (ORDER BY n DESC) AS x {LIST} ORDER BY n DESC", [(None,), ("y",), ("y",)]),
        (f"SELECT * EXCLUDE (a) RENAME n AS m {LIST} ORDER BY m", [(1,), (2,), (3,)]),
        (f"SELECT TOP 1 n {LIST} ORDER BY n", [(1,)]),
        (f"SELECT n + 1 AS m, m + 1 AS o {LIST} WHERE m > 3", [(4, 5)]),
        ("SELECT 1 AS a UNION SELECT 2 UNION SELECT 2 MINUS SELECT 1", [(2,)]),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM x UNION ALL SELECT a + 1 FROM x ORDER BY a", [(1,), (2,)]),
    ],
)
def test_a_statement_gives_snowflakes_rows_on_duckdb(connection, text, result):
    assert rows(connection, text) == result


@pytest.mark.parametrize("expression", ["1 / 0", "n / (n - n)", "MOD(5, 0)", "n % (n - n)", "1.5 / (n - n)"])
def test_division_by_zero_stops_the_script_as_in_snowflake(connection, expression):
    with pytest.raises(duckdb.InvalidInputException, match="Division by zero"):
        rows(connection, f"SELECT {expression} AS x {LIST}")


def test_a_time_with_zone_is_not_written_as_text_in_another_form(connection):
    with pytest.raises(duckdb.InvalidInputException, match="zone"):
        value(connection, "'at ' || CURRENT_TIMESTAMP()")


def test_the_types_of_columns_decide_how_they_are_written_as_text(connection):
    text = "SELECT LPAD(zip, 5, '0') AS z, score::VARCHAR AS s, seen || '' AS t, added || '' AS d FROM leads"
    assert rows(connection, text + " WHERE zip = 2134") == [("02134", "1", "2024-01-02 03:04:05.000", "2024-01-31")]


def test_the_promised_constructs_work_together(connection):
    text = """
        -- title: All of them
        WITH recent AS (
            SELECT "First Name", last_name, LPAD(zip, 5, '0') AS zip
            FROM leads_db.public.leads
            WHERE added > DATEADD(month, -2, '2024-03-15'::DATE) AND last_name ILIKE 'a%'
        )
        SELECT "First Name", last_name, zip, IFF(zip LIKE '0%', 'east', 'west') AS coast
        FROM recent
        QUALIFY ROW_NUMBER() OVER (PARTITION BY last_name ORDER BY zip DESC) = 1
    """
    result = connection.execute(to_duckdb(guarded(text)))
    # DuckDB tells a column as its table spells it, where Snowflake has upper case.
    assert [column[0] for column in result.description] == ["First Name", "last_name", "ZIP", "COAST"]
    assert result.fetchall() == [("Bob", "Able", "90210", "west")]


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("SELECT raw:person.name::STRING AS a FROM leads", "col:path"),
        ("SELECT PARSE_JSON(a) AS a FROM leads", "PARSE_JSON"),
        ("SELECT TO_VARCHAR(a, 'YYYY-MM-DD') AS a FROM leads", "TO_VARCHAR"),
        ("SELECT TO_CHAR('2024-01-02'::DATE, 'DD-MON-YY') AS a", "date format"),
        ("SELECT TO_DATE(a, 'DD-MON-YYYY') AS a FROM leads", "date format"),
        ("SELECT TRY_TO_DATE(a) AS a FROM leads", "guesses"),
        ("SELECT TRY_CAST(a AS DATE) AS a FROM leads", "guesses"),
        ("SELECT a::VARCHAR(2) AS a FROM leads", "LEFT"),
        ("SELECT a::CHAR AS a FROM leads", "CHAR"),
        ("SELECT a::TIMESTAMP_LTZ AS a FROM leads", "zone"),
        ("SELECT TO_NUMBER(a, '999') AS a FROM leads", "TO_NUMBER"),
        ("SELECT INITCAP(a) AS a FROM leads", "INITCAP"),
        ("SELECT SOUNDEX(a) AS a FROM leads", "SOUNDEX"),
        ("SELECT JAROWINKLER_SIMILARITY(a, b) AS a FROM leads", "JAROWINKLER"),
        ("SELECT EDITDISTANCE(a, b, 2) AS a FROM leads", "EDITDISTANCE"),
        ("SELECT REGEXP_LIKE(a, 'b', 'i') AS a FROM leads", "REGEXP_LIKE"),
        ("SELECT REGEXP_REPLACE(a, 'b', 'c', 1, 1) AS a FROM leads", "REGEXP_REPLACE"),
        ("SELECT REGEXP_SUBSTR(a, 'b', 1, 2) AS a FROM leads", "REGEXP_SUBSTR"),
        ("SELECT SHA2(a, 512) AS a FROM leads", "256"),
        ("SELECT a FROM leads ORDER BY RANDOM()", "RANDOM"),
        ("SELECT LPAD(a, n, '0') AS a FROM leads", "LPAD"),
        ("SELECT LPAD(a, 1000000000, '0') AS a FROM leads", "LPAD"),
        ("SELECT WEEK(a) AS a FROM leads", "WEEK"),
        ("SELECT DATE_PART(epoch_second, a) AS a FROM leads", "EPOCH"),
        ("SELECT LAST_DAY(a, 'year') AS a FROM leads", "LAST_DAY"),
        ("SELECT a FROM (VALUES (1)) AS v", "VALUES"),
        ("SELECT (a / 3)::VARCHAR AS a FROM leads", "ROUND"),
        ("SELECT AVG(a) || '' AS a FROM leads", "ROUND"),
        ("SELECT LPAD(a / b, 5, '0') AS a FROM leads", "ROUND"),
        ("SELECT a FROM (SELECT zip AS a, score AS a FROM leads) x", "comes twice"),
        ("SELECT a FROM leads_db.public.csv", "look for a file"),
        ("SELECT a LIKE ANY (SELECT 'x') AS a FROM leads", "ANY"),
        ("SELECT zip FROM leads FULL JOIN t USING (zip)", "FULL JOIN"),
        ("SELECT zip FROM leads NATURAL RIGHT JOIN t", "NATURAL"),
        ('SELECT "a", A FROM leads', "differ only by case"),
        ('WITH x AS (SELECT 1 AS a), "x" AS (SELECT 2 AS a) SELECT a FROM "x"', "differ only by case"),
        ("SELECT " + "SPLIT_PART(" * 12 + "'a'" + ", 'b', 1)" * 12 + " AS a", "too long"),
        ("SELECT " + "TO_BOOLEAN(" * 20 + "'a'" + ")" * 20 + " AS a", "too long"),
    ],
)
def test_what_cannot_be_carried_over_faithfully_is_refused_by_name(statement, name):
    checked = guarded(statement)
    with pytest.raises(RefusedError, match=re.escape(name)):
        to_duckdb(checked)


def test_every_carried_function_is_one_that_the_guard_knows():
    assert dialects._CARRIED <= FUNCTIONS
    assert set(dialects._REFUSED) - FUNCTIONS <= {dialects.exp.JSONExtract, dialects.exp.Bracket}


def test_a_function_that_the_guard_knows_and_nobody_has_carried_over_is_refused():
    for function in ("STDDEV(zip)", "VARIANCE(zip)", "EXP(zip)", "LN(zip)", "MONTHS_BETWEEN(a, b)", "STRTOK(a)"):
        with pytest.raises(RefusedError, match="cannot be carried over"):
            to_duckdb(guarded(f"SELECT {function} AS a FROM leads"))


def test_a_number_with_an_underscore_is_no_number(connection):
    with pytest.raises(duckdb.InvalidInputException, match="not recognized"):
        value(connection, "'1_000'::INT")


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(
        st.one_of(st.none(), st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=5)), max_size=4
    )
)
def test_joined_texts_are_null_as_soon_as_one_is(connection, parts):
    written = ["NULL" if part is None else "'" + part.replace("\\", "\\\\").replace("'", "''") + "'" for part in parts]
    expected = None if None in parts else "".join(parts)
    joined = " || ".join(["''", *written])
    assert value(connection, joined) == expected


@settings(max_examples=60, deadline=None)
@given(days=st.integers(-5000, 5000), start=st.dates(date(1950, 1, 1), date(2100, 1, 1)))
def test_adding_days_and_counting_them_back_agree(connection, days, start):
    expression = f"DATEDIFF(day, '{start}'::DATE, DATEADD(day, {days}, '{start}'::DATE))"
    assert value(connection, expression) == days


def test_a_missing_table_is_not_taken_from_the_process_when_replacements_are_off():
    # DuckDB looks even for DATABASE.SCHEMA.TABLE among the variables of the Python code that calls it.
    LEADS = pa.table({"A": [1]})  # noqa: N806, F841
    sql = to_duckdb(guarded("SELECT a FROM memory.main.leads", allowed=("memory",)))
    config = {"enable_external_access": "false", "python_enable_replacements": "false"}
    with duckdb.connect(":memory:", config=config) as locked, pytest.raises(duckdb.CatalogException):
        locked.execute(sql)


def test_the_statement_that_was_guarded_is_not_changed_by_carrying_it_over():
    statement = guarded("SELECT a / b AS c, a LIKE ANY ('x', 'y') AS d, a::INT AS e FROM leads")
    before = statement.expression.sql("snowflake", identify=True)
    assert to_duckdb(statement) == to_duckdb(statement)
    assert statement.expression.sql("snowflake", identify=True) == before == statement.sql
