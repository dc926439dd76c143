"""The guard as a security boundary: what it stops, what it lets through, and what it makes of names."""

import contextlib

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain.dialects import carry_findings, to_duckdb
from leadscrub_pipeline.domain.guard import guard, judge
from leadscrub_pipeline.domain.scripts import script_paths
from leadscrub_pipeline.errors import RefusedError, UsageError
from leadscrub_pipeline_tests.script_making import ALLOWED, guarded, script_of

HOSTILE_STATEMENTS = """
INSERT INTO leads VALUES (1)
INSERT OVERWRITE INTO leads SELECT 1
UPDATE leads SET a = 1
DELETE FROM leads
MERGE INTO leads USING t ON a = b WHEN MATCHED THEN DELETE
TRUNCATE TABLE leads
CREATE TABLE x AS SELECT 1
CREATE OR REPLACE VIEW x AS SELECT 1
CREATE OR ALTER TABLE x (a INT)
CREATE FUNCTION f() RETURNS INT AS '1'
CREATE STAGE s
CREATE SECRET s (TYPE S3)
DROP TABLE leads
UNDROP TABLE leads
ALTER SESSION SET x = 1
ALTER TABLE leads ADD COLUMN a INT
GRANT SELECT ON leads TO ROLE x
REVOKE SELECT ON leads FROM ROLE x
USE DATABASE other
USE ROLE accountadmin
SET x = 1
SET VARIABLE x = 1
UNSET x
RESET memory_limit
CALL p()
EXECUTE IMMEDIATE 'SELECT 1'
EXECUTE IMMEDIATE $$ SELECT 1 $$
EXECUTE TASK t
BEGIN
BEGIN SELECT 1; END
COMMIT
ROLLBACK
DECLARE x INT; BEGIN RETURN 1; END
COPY INTO @stage FROM leads
COPY INTO leads FROM @stage
COPY leads TO 'leads.csv'
COPY (SELECT 1) TO 'x.csv'
PUT file:///etc/passwd @stage
GET @stage file:///tmp
LIST @stage
REMOVE @stage
EXPORT DATABASE 'x'
IMPORT DATABASE 'x'
ATTACH 'x.db' AS x
DETACH x
PRAGMA database_list
PRAGMA enable_profiling
INSTALL httpfs
LOAD httpfs
CHECKPOINT
VACUUM
ANALYZE
EXPLAIN SELECT 1
EXPLAIN ANALYZE SELECT 1
DESCRIBE leads
DESC TABLE leads
SUMMARIZE leads
SHOW TABLES
SHOW DATABASES
SHOW TABLES ->> SELECT * FROM $1
TABLE leads
FROM leads
FROM leads SELECT a
VALUES (1)
PIVOT leads ON a
UNPIVOT leads ON a
COMMENT ON TABLE leads IS 'x'
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE p
KILL 1
HANDLER leads OPEN
LOCK TABLE leads
SELECT 1; SELECT 2
SELECT 1; DROP TABLE leads
SELECT 1;; DROP TABLE leads
SELECT 1 /* ; */ ; DELETE FROM leads
SELECT a INTO x FROM leads
SELECT a FROM leads FOR UPDATE
SELECT a FROM leads FOR SHARE
SELECT a FROM leads CONNECT BY PRIOR a = b START WITH a = 1
SELECT a FROM leads CONNECT BY 1 = 1
SELECT a FROM leads PIVOT(SUM(a) FOR b IN ('x'))
SELECT a FROM leads UNPIVOT(v FOR n IN (a, b))
SELECT * FROM leads MATCH_RECOGNIZE (PATTERN (A) DEFINE A AS TRUE)
SELECT a FROM leads SAMPLE (10)
SELECT a FROM leads TABLESAMPLE BERNOULLI (10)
SELECT a FROM leads USING SAMPLE 10
SELECT a FROM leads AT (OFFSET => -60)
SELECT a FROM leads BEFORE (STATEMENT => 'x')
SELECT a FROM leads CHANGES (INFORMATION => DEFAULT) AT (OFFSET => -1)
SELECT a FROM leads, t WHERE leads.a = t.a (+)
SELECT a FROM leads ASOF JOIN t MATCH_CONDITION (leads.a >= t.a)
SELECT a FROM leads, LATERAL FLATTEN(input => leads.x) f
SELECT a FROM leads, LATERAL (SELECT 1 AS b) z
SELECT a FROM leads LIMIT (SELECT 1)
SELECT a FROM leads LIMIT $x
SELECT a FROM leads LIMIT NULL
SELECT DISTINCT ON (a) a FROM leads
SELECT a FROM leads UNION BY NAME SELECT b FROM t
SELECT * ILIKE 'a%' FROM leads
SELECT COLUMNS('a.*') FROM leads
SELECT * LIKE 'a%' FROM leads
SELECT a FROM leads GROUP BY GROUPING SETS ((a), ())
SELECT a FROM leads GROUP BY ROLLUP (a)
SELECT a FROM leads GROUP BY CUBE (a)
SELECT a FROM leads WINDOW w AS (ORDER BY a)
SELECT ROW_NUMBER() OVER w FROM leads
SELECT AS STRUCT 1
SELECT AS VALUE 1
WITH x AS (INSERT INTO leads VALUES (1)) SELECT * FROM x
WITH x AS (DELETE FROM leads RETURNING *) SELECT * FROM x
WITH x AS (UPDATE leads SET a = 1 RETURNING *) SELECT * FROM x
WITH x AS (SELECT 1) INSERT INTO leads SELECT * FROM x
WITH x AS (SELECT 1) DELETE FROM leads
WITH x AS (SELECT 1) UPDATE leads SET a = 1
WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT * FROM x
WITH x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT * FROM x
WITH FUNCTION f() RETURNS INT AS '1' SELECT f()
WITH x AS MATERIALIZED (SELECT 1) SELECT * FROM x
SELECT a FROM leads WHERE a NOT LIKE ANY ('x', 'y')
SELECT a FROM leads WHERE a not  ilike /* x */ all ('x', 'y')
SELECT {{ x }}
SELECT {% if x %} 1 {% endif %}
SELECT * FROM {{ ref('leads') }}
SELECT {'a': 1}
SELECT [1, 2]
SELECT a[1:2] FROM leads
SELECT x -> x + 1
SELECT a -> '$.b' FROM leads
SELECT a ->> '$.b' FROM leads
SELECT (
SELECT 1)
SELECT 'x
SELECT "x
SELECT /* x
SELECT $$ x
SELECT
WITH
(
)
;
!
\\\\
""".strip().splitlines()

HOSTILE_EXPRESSIONS = """
$x
$1
:x
?
@stage
@~/x
@stage/path.csv
&x
GETVARIABLE('X')
CURRENT_SETTING('x')
CURRENT_USER
CURRENT_USER()
CURRENT_ROLE()
CURRENT_ACCOUNT()
CURRENT_SESSION()
CURRENT_WAREHOUSE()
CURRENT_DATABASE()
LAST_QUERY_ID()
SYSTEM$WAIT(1)
SYSTEM$CANCEL_QUERY('x')
SYSTEM$SEND_EMAIL('a', 'b')
SYSTEM$STREAM_HAS_DATA('x')
SYSTEM$TYPEOF(1)
IDENTIFIER('x')
seq.NEXTVAL
leads.NEXTVAL
"SEQ"."nextval"
NEXTVAL('seq')
CURRVAL('seq')
AI_COMPLETE('m', 'x')
AI_CLASSIFY('m', 'x')
SNOWFLAKE.CORTEX.COMPLETE('m', 'x')
my_udf(1)
"my_udf"(1)
db.schema.my_udf(1)
schema.my_udf(1)
UPPER_(1)
BUILD_SCOPED_FILE_URL(@s, 'x')
GET_PRESIGNED_URL(@s, 'x')
GET_DDL('table', 'x')
GET_OBJECT_REFERENCES('a', 'b', 'c')
TO_FILE('@s', 'x')
FL_GET_SIZE('x')
ENCRYPT('a', 'b')
DECRYPT('a', 'b')
RESULT_SCAN('x')
VALIDATE(leads, JOB_ID => 'x')
READ_TEXT('/etc/passwd')
READ_BLOB('/etc/passwd')
READ_CSV('x.csv')
READ_PARQUET('x.parquet')
GLOB('*')
GETENV('HOME')
DUCKDB_SETTINGS()
PG_SLEEP(1)
PG_READ_FILE('x')
LOAD_EXTENSION('x')
CURRENT_QUERY()
QUERY('SELECT 1')
QUERY_TABLE('leads')
ENUM_RANGE(NULL)
HASH('a')
REPEAT('x', 1000000000)
RANDSTR(1000, 1)
SEQ4()
UUID_STRING()
OBJECT_CONSTRUCT('a', 1)
ARRAY_CONSTRUCT(1, 2)
TRANSFORM(a, x -> x + 1)
FILTER(a, x -> x > 1)
LIST_TRANSFORM(a, x -> x)
REDUCE(a, 0, (x, y) -> x + y)
ROW(1, 2)
STRUCT_PACK(a := 1)
ERROR('x')
WRITE_LOG('x')
CAST(a AS GEOGRAPHY)
CAST(a AS STRUCT(b INT))
CAST(a AS my_type)
a::MAP(VARCHAR, INT)
x'41'
'a' COLLATE 'en'
COLLATE('a', 'en')
PRIOR(a)
CONNECT_BY_ROOT a
LEVEL(1)
a.b.c.d.e
a(+)
INTERVAL '1 year, 3 months'
INTERVAL a DAY
DATEADD(nanosecond, 1, a)
DATEADD(my_part, 1, a)
(INSERT INTO leads VALUES (1))
(DELETE FROM leads)
EXISTS (DELETE FROM leads)
(SELECT a FROM secret_db.public.people)
(SELECT a FROM @stage)
(SELECT 1; SELECT 2)
"a""b"
""
nobody.a
""".strip().splitlines()

HOSTILE_SOURCES = """
'x.csv'
'https://example.com/x.csv'
'/etc/passwd'
@stage
@~
@%leads
@db.schema.stage/path
@stage (FILE_FORMAT => 'x')
$x
$1
:x
?
IDENTIFIER('leads')
IDENTIFIER($x)
TABLE('leads')
TABLE($x)
TABLE(?)
TABLE(RESULT_SCAN(LAST_QUERY_ID()))
TABLE(GENERATOR(ROWCOUNT => 10))
TABLE(FLATTEN(INPUT => PARSE_JSON('[1]')))
TABLE(my_function(1))
TABLE(INFORMATION_SCHEMA.QUERY_HISTORY())
TABLE(SPLIT_TO_TABLE('a,b', ','))
TABLE(INFER_SCHEMA(LOCATION => '@s', FILE_FORMAT => 'x'))
RESULT_SCAN(LAST_QUERY_ID())
DIRECTORY(@stage)
SEMANTIC_VIEW(x METRICS y)
FLATTEN(INPUT => a)
UNNEST([1, 2])
RANGE(10)
GENERATE_SERIES(1, 10)
READ_CSV('x')
READ_CSV_AUTO('x')
READ_PARQUET('x')
READ_JSON('x')
READ_TEXT('x')
GLOB('*')
SQLITE_SCAN('x', 'y')
POSTGRES_SCAN('x', 'y', 'z')
DUCKDB_TABLES()
PRAGMA_TABLE_INFO('leads')
QUERY('SELECT 1')
QUERY_TABLE('leads')
INFORMATION_SCHEMA.TABLES
information_schema.columns
leads_db.information_schema.tables
leads_db."information_schema".tables
LEADS_DB.PG_CATALOG.PG_TABLES
SYSTEM.INFORMATION_SCHEMA.TABLES
SNOWFLAKE.ACCOUNT_USAGE.USERS
secret_db.public.people
secret_db..people
"leads_db".public.leads
"Leads_Db".public.leads
"LEADS_DB.PUBLIC.LEADS"
"leads.csv"
"/etc/passwd"
"https://example.com/x"
"leads'; DROP TABLE x; --"
"x""y"
""
"".public.leads
a.leads_db.public.leads
memory.main.leads
temp.public.leads
(DELETE FROM leads)
(INSERT INTO leads VALUES (1) RETURNING *)
(DESCRIBE leads)
(SELECT * FROM secret_db.public.people)
(SELECT * FROM (SELECT * FROM secret_db.public.people))
(WITH x AS (SELECT * FROM secret_db.public.people) SELECT * FROM x)
(WITH leads AS (SELECT 1 AS a) SELECT * FROM secret_db.public.leads)
(SELECT 1 UNION SELECT * FROM secret_db.public.people)
(VALUES (my_udf(1)))
leads SAMPLE (1)
leads AT (TIMESTAMP => '2024-01-01'::TIMESTAMP)
leads TABLESAMPLE (1)
LATERAL (SELECT 1 AS a)
""".strip().splitlines()


def expression_places(expression):
    yield f"SELECT {expression} FROM leads"
    yield f"SELECT a FROM leads WHERE {expression} = 1"
    yield f"SELECT a FROM leads QUALIFY ROW_NUMBER() OVER (PARTITION BY {expression} ORDER BY a) = 1"
    yield f"WITH x AS (SELECT COALESCE({expression}, 1) AS a FROM leads) SELECT CASE WHEN a = 1 THEN 1 END FROM x"


def source_places(source):
    yield f"SELECT * FROM {source}"
    yield f"SELECT * FROM leads JOIN {source} AS y ON TRUE"
    yield f"WITH x AS (SELECT * FROM {source}) SELECT * FROM x"
    yield f"SELECT * FROM leads WHERE a IN (SELECT a FROM {source})"
    yield f"SELECT 1 AS a UNION ALL SELECT a FROM {source}"


def is_refused(statement):
    try:
        guarded(statement)
    except RefusedError:
        return True
    return False


@pytest.mark.parametrize("statement", HOSTILE_STATEMENTS)
def test_a_hostile_statement_is_refused(statement):
    assert is_refused(statement)


@pytest.mark.parametrize("expression", HOSTILE_EXPRESSIONS)
def test_a_hostile_expression_is_refused_wherever_it_stands(expression):
    assert [statement for statement in expression_places(expression) if not is_refused(statement)] == []


@pytest.mark.parametrize("source", HOSTILE_SOURCES)
def test_a_hostile_source_is_refused_wherever_it_stands(source):
    assert [statement for statement in source_places(source) if not is_refused(statement)] == []


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("SELECT a,\n  my_udf(b)\nFROM leads", "Line 2, column 3: Function MY_UDF"),
        ("SELECT a\nFROM secret_db.public.people", "Line 2, column"),
        ("SELECT 1;\nDROP TABLE leads", "Line 1, column 9: There is more than one statement"),
        ("SELECT SYSTEM$WAIT(1)", "Function SYSTEM$WAIT"),
        ("SELECT a FROM leads FOR UPDATE", "LOCKS"),
        ("SELECT s.NEXTVAL FROM s", "NEXTVAL"),
        ("DELETE FROM leads", "must start with SELECT or WITH"),
        ("", "no statement"),
        ("-- title: nothing else\n", "no statement"),
        ("SELECT FROM WHERE", "cannot be read"),
        ("SELECT a FROM leads GROUP BY HAVING COUNT(*) > 1", "GROUP BY needs either ALL or"),
        ("SELECT a FROM leads GROUP BY ALL a", "GROUP BY needs either ALL or"),
    ],
)
def test_a_refusal_names_the_place_and_the_thing(statement, place):
    with pytest.raises(RefusedError) as refusal:
        guarded(statement)
    assert place in str(refusal.value)
    assert "script.sql" in str(refusal.value)


def test_a_refusal_does_not_quote_the_texts_of_the_script():
    for statement in (
        "SELECT my_udf('Jane Roe') FROM leads",
        "SELECT a FROM 'Jane Roe'",
        "SELECT a FROM leads WHERE last_name = 'Jane Roe",
    ):
        with pytest.raises(RefusedError) as refusal:
            guarded(statement)
        assert "Jane" not in str(refusal.value)


def test_all_findings_are_told_and_not_only_the_first():
    _, findings = judge(
        script_of("SELECT f(a), g(b), $x FROM @stage"),
        allowed_databases=ALLOWED,
        default_database="LEADS_DB",
        default_schema="PUBLIC",
    )
    assert len(findings) == 4


# --- nesting -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [400, 10_000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("(", ")"),
        ("UPPER(", ")"),
        ("CASE WHEN TRUE THEN ", " END"),
        ("(SELECT ", ")"),
        ("NOT ", ""),
        ("- ", ""),
        ("[", "]"),
        ("{", "}"),
        ("1 + ", ""),
        ("COALESCE(ZEROIFNULL(", ", 1))"),
        ("(", ""),
        ("", ")"),
    ],
)
def test_deep_nesting_is_refused_and_does_not_break_the_process(opening, closing, count):
    with pytest.raises(RefusedError):
        guarded("SELECT " + opening * count + "1" + closing * count)


def test_functions_that_the_parser_copies_cannot_blow_up_the_memory():
    with pytest.raises(RefusedError, match="DIV0"):
        guarded("SELECT " + "DIV0NULL(1, " * 28 + "1" + ")" * 28)


def test_a_long_statement_is_refused():
    with pytest.raises(RefusedError, match="longer than"):
        guarded("SELECT a FROM leads WHERE a IN (" + "1," * 25_000 + "1)")


# --- names and scopes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("SELECT 1 AS a", []),
        ("SELECT a FROM leads", ["LEADS_DB.PUBLIC.LEADS"]),
        ("SELECT a FROM Leads l", ["LEADS_DB.PUBLIC.LEADS"]),
        ('SELECT a FROM "leads"', ["LEADS_DB.PUBLIC.leads"]),
        ('SELECT a FROM "Lead Table 2024"', ["LEADS_DB.PUBLIC.Lead Table 2024"]),
        ("SELECT a FROM crm.leads", ["LEADS_DB.CRM.LEADS"]),
        ("SELECT a FROM other_db.crm.leads", ["OTHER_DB.CRM.LEADS"]),
        ("SELECT a FROM other_db..leads", ["OTHER_DB.PUBLIC.LEADS"]),
        ("SELECT a FROM leads JOIN crm.t USING (id)", ["LEADS_DB.CRM.T", "LEADS_DB.PUBLIC.LEADS"]),
        ("WITH x AS (SELECT a FROM leads) SELECT a FROM x", ["LEADS_DB.PUBLIC.LEADS"]),
        ("WITH x AS (SELECT 1 AS a), y AS (SELECT a FROM x) SELECT a FROM y", []),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM X", []),
        ('WITH "x" AS (SELECT 1 AS a) SELECT a FROM x', ["LEADS_DB.PUBLIC.X"]),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM public.x", ["LEADS_DB.PUBLIC.X"]),
        ("WITH x AS (SELECT a FROM public.x) SELECT a FROM x", ["LEADS_DB.PUBLIC.X"]),
        (
            "SELECT a FROM (WITH x AS (SELECT 1 AS a) SELECT a FROM x) z UNION ALL SELECT a FROM x",
            ["LEADS_DB.PUBLIC.X"],
        ),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM (SELECT a FROM x WHERE a IN (SELECT a FROM x)) z", []),
        (
            "WITH x AS (WITH y AS (SELECT a FROM t) SELECT a FROM y) SELECT a FROM x, y",
            ["LEADS_DB.PUBLIC.T", "LEADS_DB.PUBLIC.Y"],
        ),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM x UNION SELECT a FROM x", []),
        ("SELECT a FROM ((leads))", ["LEADS_DB.PUBLIC.LEADS"]),
        ("SELECT l.a FROM (leads l JOIN t ON l.a = t.a)", ["LEADS_DB.PUBLIC.LEADS", "LEADS_DB.PUBLIC.T"]),
    ],
)
def test_every_name_in_from_is_a_cte_or_a_table_in_full(statement, tables):
    assert sorted(str(table) for table in guarded(statement).tables) == tables


@pytest.mark.parametrize(
    "statement",
    [
        "WITH x AS (SELECT a FROM x) SELECT a FROM x",
        "WITH x AS (SELECT a FROM y), y AS (SELECT 1 AS a) SELECT a FROM x",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM (WITH x AS (SELECT a FROM x) SELECT a FROM x) z",
    ],
)
def test_a_name_that_could_be_a_cte_or_a_table_is_refused(statement):
    with pytest.raises(RefusedError, match="while it is being defined"):
        guarded(statement)


def test_a_cte_does_not_hide_a_forbidden_table_of_its_name():
    with pytest.raises(RefusedError, match="SECRET_DB"):
        guarded("WITH people AS (SELECT 1 AS a) SELECT a FROM secret_db.public.people")


def test_a_short_name_without_a_default_is_refused_as_ambiguous():
    with pytest.raises(RefusedError, match=r"database\.schema\.table"):
        guarded("SELECT a FROM leads", database=None)
    with pytest.raises(RefusedError, match=r"database\.schema\.table"):
        guarded("SELECT a FROM leads", schema=None)
    assert guarded("SELECT a FROM other_db.crm.leads", database=None, schema=None).tables


def test_the_default_database_must_be_allowed_too():
    with pytest.raises(RefusedError, match="SECRET_DB may not be read"):
        guarded("SELECT a FROM leads", database="secret_db")


def test_the_header_narrows_the_databases_and_never_widens_them():
    assert guarded("-- databases: other_db\nSELECT a FROM other_db.crm.leads").tables
    with pytest.raises(RefusedError, match="LEADS_DB may not be read"):
        guarded("-- databases: other_db\nSELECT a FROM leads_db.crm.leads")
    with pytest.raises(RefusedError, match="does not allow: SECRET_DB"):
        guarded("-- databases: other_db, secret_db\nSELECT a FROM secret_db.crm.leads")


def test_nothing_may_be_read_when_no_database_is_allowed():
    with pytest.raises(RefusedError, match="LEADSCRUB_ALLOWED_DATABASES"):
        guarded("SELECT 1 AS a", allowed=())


def test_the_settings_spelling_of_a_database_does_not_matter_unless_quoted():
    assert guarded("SELECT a FROM leads_db.crm.t", allowed=("leads_db",)).tables
    assert guarded('SELECT a FROM "my leads".crm.t', allowed=("my leads",)).tables
    with pytest.raises(RefusedError):
        guarded('SELECT a FROM "leads_db".crm.t', allowed=("leads_db",))
    assert guarded('SELECT a FROM "leads_db".crm.t', allowed=('"leads_db"',)).tables


# --- what goes through ---------------------------------------------------------------

FRIENDLY = [
    "SELECT * FROM leads",
    "select first_name, last_name from leads_db.public.leads;",
    "SELECT * EXCLUDE (a) RENAME b AS c FROM leads",
    "SELECT l.* FROM leads l WHERE l.state ILIKE ANY ('ca', 'n%') AND NOT l.zip IS NULL",
    "SELECT a FROM leads QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC NULLS LAST) = 1",
    "SELECT IFF(a > 1, 'x', 'y') AS c FROM leads WHERE d > DATEADD(month, -6, CURRENT_DATE())",
    'SELECT "First Name" AS first_name, TRIM("Last Name") AS last_name FROM leads',
    "SELECT a FROM leads WHERE EXISTS (SELECT 1 FROM t WHERE t.id = leads.id) ORDER BY a LIMIT 10 OFFSET 5",
    "SELECT a, COUNT(*) AS n FROM leads GROUP BY ALL HAVING COUNT(*) > 1",
    "SELECT TOP 5 a FROM leads",
    "SELECT a FROM leads FETCH FIRST 5 ROWS ONLY",
    "SELECT a FROM leads UNION ALL SELECT a FROM t MINUS SELECT a FROM u",
    "SELECT DISTINCT a FROM leads l LEFT OUTER JOIN t USING (id) CROSS JOIN u NATURAL JOIN v",
    "SELECT v.a FROM (VALUES (1, 'x'), (2, 'y')) AS v (a, b)",
    "SELECT raw:person.name::STRING AS first_name FROM leads",
    "SELECT a FROM leads -- a comment; with DROP TABLE leads in it\n/* and ; another */ WHERE a = 'x;y--z'",
    "SELECT SUM(a) OVER (ORDER BY b ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s FROM leads",
    "SELECT LAG(a, 1, 0) IGNORE NULLS OVER (ORDER BY b) AS s FROM leads",
    "SELECT LISTAGG(DISTINCT a, ',') WITHIN GROUP (ORDER BY a) AS s FROM leads",
    "SELECT 1 AS a; -- DROP TABLE leads",
    "SELECT $$it's$$ AS s, 'it''s' AS t, 'it\\'s' AS u",
    "(SELECT a FROM leads) ORDER BY a",
    "SELECT a FROM leads WHERE d >= CURRENT_DATE - INTERVAL '30 days'",
]


@pytest.mark.parametrize("statement", FRIENDLY)
def test_an_everyday_lead_script_goes_through_and_its_text_means_the_same_again(statement):
    statement = guarded(statement)
    again = guarded(statement.sql)
    assert again.sql == statement.sql
    assert again.tables == statement.tables


def test_what_runs_is_written_anew_without_comments_and_with_full_quoted_names():
    statement = guarded("-- title: x\nSELECT a /* hidden */ FROM leads -- end")
    assert statement.sql == 'SELECT "A" FROM "LEADS_DB"."PUBLIC"."LEADS"'


@pytest.mark.parametrize(
    ("source", "written"), [("(SHOW TABLES)", '"SHOW" AS "TABLES"'), ("ONLY leads", '"ONLY" AS "LEADS"')]
)
def test_words_that_another_dialect_knows_become_plain_names(source, written):
    assert f'FROM "LEADS_DB"."PUBLIC".{written}' in guarded(f"SELECT a FROM {source}").sql.replace("(", "")


# --- property tests ------------------------------------------------------------------

WORDS = """SELECT SELECT FROM FROM WHERE WITH AS ( ( ) ) , , ; * a b leads x secret_db.public.people
leads_db.public.leads UNION ALL JOIN ON = 1 'x' "q"
INSERT INTO VALUES DELETE UPDATE SET DROP TABLE CREATE COPY TO 'f.csv' ATTACH PRAGMA
read_csv('f.csv') glob('*') @stage $x $1 :p ? UPPER( COUNT( my_udf( SYSTEM$WAIT( TABLE( IDENTIFIER( LATERAL
FLATTEN( FOR UPDATE LIMIT ORDER BY GROUP QUALIFY OVER ROW_NUMBER() NULL NOT IN EXISTS CASE WHEN THEN END -- /* */
$$ :: INT VARCHAR . a.b x.NEXTVAL CALL EXECUTE IMMEDIATE BEGIN USING SAMPLE AT CURRENT_USER GETVARIABLE('x')
'it''s' \\ '\\'' // # {{ }} -> => := || -"""


@st.composite
def statements(draw):
    """An everyday script with some of its words replaced by others, or words alone."""
    words = draw(st.sampled_from(["", *FRIENDLY])).split()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(words)))
        words[at : at + draw(st.integers(0, 2))] = draw(st.lists(st.sampled_from(WORDS.split()), max_size=4))
    return " ".join(words)


@pytest.fixture(scope="module")
def locked_down():
    connection = duckdb.connect(":memory:", config={"autoload_known_extensions": "false"})
    for name in ("LEADS_DB", "OTHER_DB"):
        connection.execute(f"ATTACH ':memory:' AS {name}")
        connection.execute(f"CREATE SCHEMA {name}.PUBLIC")
        connection.execute(f"CREATE TABLE {name}.PUBLIC.LEADS (A INTEGER, B VARCHAR)")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    with connection:
        yield connection


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=statements())
def test_whatever_the_words_only_one_select_over_allowed_databases_gets_through(locked_down, text):
    try:
        statement = guarded(text)
    except (RefusedError, UsageError):
        return
    assert {table.database for table in statement.tables} <= set(ALLOWED)
    if carry_findings(statement):
        return
    sql = to_duckdb(statement)
    try:
        (parsed,) = duckdb.extract_statements(sql)
    except duckdb.ParserException:
        return  # what the engine cannot read it does not run
    assert parsed.type == duckdb.StatementType.SELECT
    before = locked_down.execute("SELECT * FROM duckdb_tables()").fetchall()
    try:
        locked_down.execute(sql).fetchall()
    except duckdb.PermissionException:
        raise AssertionError("the statement tried to reach outside") from None
    except duckdb.Error:
        pass
    assert locked_down.execute("SELECT * FROM duckdb_tables()").fetchall() == before


@settings(max_examples=120, deadline=None)
@given(st.text(max_size=60))
def test_no_text_makes_the_guard_raise_anything_but_a_refusal(text):
    with contextlib.suppress(RefusedError, UsageError):
        guarded(text.encode("utf-8", "ignore").decode())


@settings(max_examples=120, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_a_text_in_quotes_reaches_duckdb_as_exactly_that_text(locked_down, text):
    literal = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    statement = guarded(f"SELECT {literal} AS a")
    assert guarded(statement.sql).sql == statement.sql
    assert locked_down.execute(to_duckdb(statement)).fetchall() == [(text,)]


@settings(max_examples=120, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_a_quoted_name_is_kept_or_refused_and_never_ends_early(text):
    name = '"' + text.replace('"', '""') + '"'
    try:
        statement = guarded(f"SELECT a AS {name} FROM leads")
    except RefusedError:
        return
    (parsed,) = duckdb.extract_statements(to_duckdb(statement))
    assert parsed.type == duckdb.StatementType.SELECT
    assert statement.expression.selects[0].alias in (text, text.upper())


def test_a_folder_of_scripts_is_guarded_one_by_one(tmp_path):
    (tmp_path / "good.sql").write_text("SELECT a FROM leads")
    (tmp_path / "bad.sql").write_text("DROP TABLE leads")
    assert list(script_paths(tmp_path)) == ["bad", "good"]
    with pytest.raises(RefusedError, match="bad"):
        guard(
            script_of("DROP TABLE leads", key="bad"),
            allowed_databases=ALLOWED,
            default_database=None,
            default_schema=None,
        )
