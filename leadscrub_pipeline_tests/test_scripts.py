"""Lead scripts as files: header, key, hash, folder, identity columns, lint and the template."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadscrub_pipeline.domain.columns import recognise_columns
from leadscrub_pipeline.domain.lint import lint_script
from leadscrub_pipeline.domain.scripts import (
    HEADER_KEYS,
    MAX_BYTES,
    ColumnName,
    database_name,
    find_script,
    inspect_script,
    new_script_text,
    read_script,
    read_scripts,
    script_paths,
)
from leadscrub_pipeline.errors import LeadscrubError, RefusedError, UsageError
from leadscrub_pipeline_tests.script_making import guarded, script_of

HEADER = """\
-- title: Spring mailing
-- owner: data-team@example.com
-- description: Everyone: new in spring
-- purpose: marketing
-- databases: leads_db, "Other Db"
-- columns: address = property_address, zip_code = "Zip, five"

SELECT 1 AS a
"""


# --- header --------------------------------------------------------------------------


def test_the_header_says_what_the_script_is():
    script = script_of(HEADER, key="spring_mailing")
    assert script.key == "spring_mailing"
    assert script.title == "Spring mailing"
    assert script.owner == "data-team@example.com"
    assert script.description == "Everyone: new in spring"
    assert script.purpose == "marketing"
    assert script.databases == {"LEADS_DB", "Other Db"}
    assert script.columns == {
        "address": ColumnName("PROPERTY_ADDRESS"),
        "zip_code": ColumnName("Zip, five", quoted=True),
    }


def test_a_script_without_a_header_is_titled_by_its_key():
    script = script_of("SELECT 1 AS a", key="plain-one")
    assert (script.title, script.owner, script.purpose, script.databases) == ("plain-one", None, None, None)
    assert script.columns == {}


def test_comments_that_are_no_header_lines_may_stand_in_the_header():
    script = script_of("-- Who we write to in spring\n--\n--title: Spring\n\n-- (see the handbook)\nSELECT 1 AS a")
    assert script.title == "Spring"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("-- titel: Spring", "unknown header key 'titel'; the keys are title, owner"),
        ("-- title: a\n-- title: b", "Line 2: header key 'title' comes twice"),
        ("-- title:", "'title' has no value"),
        ("-- title: a\x07b", "control characters"),
        ("-- title: " + "x" * 2001, "too long"),
        ("-- databases: a.b", "'a.b' is no database name"),
        ("-- databases: 1a", "'1a' is no database name"),
        ("-- columns: address", "should read like"),
        ("-- columns: address = a b", "should read like"),
        ("-- columns: street = a", "there is no field 'street'"),
        ("-- columns: city = a, city = b", "city comes twice"),
        ("-- columns: city = a, state = A", "given to two fields"),
        ("-- columns: ,", "nothing is mapped"),
        ("SELECT 1 AS a\n-- purpose: marketing", "Line 2: 'purpose' stands below the statement"),
    ],
)
def test_a_wrong_header_is_an_error_that_names_the_line(header, message):
    with pytest.raises(UsageError) as error:
        script_of(f"{header}\nSELECT 1 AS a")
    assert message in str(error.value)
    assert "script.sql" in str(error.value)


def test_every_error_of_a_header_is_told(tmp_path):
    path = tmp_path / "x.sql"
    path.write_text("-- a: 1\n-- b: 2\n-- databases: ?\nSELECT 1")
    script, errors = inspect_script(path)
    assert script is None
    assert len(errors) == 3


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80))
def test_no_text_makes_reading_a_script_raise_anything_but_a_usage_error(text):
    try:
        script = script_of("-- title: " + text.encode("utf-8", "ignore").decode())
    except UsageError:
        return
    assert script.title


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("leads_db", "LEADS_DB"),
        (' "leads_db" ', "leads_db"),
        ('"a""b"', 'a"b'),
        ("a b", None),
        ("", None),
        ("a;b", None),
    ],
)
def test_a_database_is_named_as_in_snowflake(text, name):
    assert database_name(text) == name


# --- hash ----------------------------------------------------------------------------

STATEMENT = "SELECT a, 'Text' AS t FROM leads WHERE b = 1"


@pytest.mark.parametrize(
    "same",
    [
        "select A, 'Text' as T\n  from LEADS\n where b=1",
        "-- just a comment\nSELECT a, /* here */ 'Text' AS t FROM leads WHERE b = 1 -- there",
        STATEMENT + ";",
        STATEMENT + " ;\n;\n",
        STATEMENT.replace(" ", "\r\n"),
    ],
)
def test_reformatting_a_script_does_not_change_its_hash(same):
    assert script_of(same).script_hash == script_of(STATEMENT).script_hash


@pytest.mark.parametrize(
    "other",
    [
        STATEMENT.replace("Text", "text"),
        STATEMENT.replace("1", "2"),
        STATEMENT.replace("a,", '"a",'),
        STATEMENT.replace("'Text'", '"Text"'),
        "-- title: new\n" + STATEMENT,
        "-- purpose: marketing\n" + STATEMENT,
    ],
)
def test_another_meaning_or_header_changes_the_hash(other):
    assert script_of(other).script_hash != script_of(STATEMENT).script_hash


def test_a_script_that_is_no_sql_still_has_a_hash():
    assert len(script_of("SELECT 'never closed").script_hash) == 64


# --- files ---------------------------------------------------------------------------


def test_a_folder_gives_its_scripts_by_key_and_nothing_else(tmp_path):
    for name in ("b.sql", "a-2.sql", "notes.txt", ".hidden.sql"):
        (tmp_path / name).write_text("SELECT 1 AS a")
    (tmp_path / "folder.sql").mkdir()
    assert [script.key for script in read_scripts(tmp_path)] == ["a-2", "b"]


def test_a_folder_that_is_not_there_is_an_error_and_not_an_empty_set(tmp_path):
    with pytest.raises(UsageError, match="Cannot read the folder"):
        read_scripts(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot read the folder"):
        read_scripts(tmp_path / "file")


def test_two_files_with_one_key_are_refused_by_name(tmp_path):
    (tmp_path / "leads.sql").write_text("SELECT 1")
    (tmp_path / "leads.SQL").write_text("SELECT 2")
    with pytest.raises(UsageError, match=r"leads\.SQL and leads\.sql have one key"):
        script_paths(tmp_path)


@pytest.mark.parametrize("name", ["A b.sql", "Leads.sql", "_x.sql", "ä.sql", "a.b.sql", "x" * 101 + ".sql"])
def test_a_file_whose_name_is_no_key_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(UsageError) as error:
        read_scripts(tmp_path)
    assert name in str(error.value)


def test_a_script_that_disappears_after_it_was_listed_is_a_clear_error(tmp_path):
    path = tmp_path / "gone.sql"
    with pytest.raises(UsageError, match=r"gone\.sql: The file is not there, or has just been removed"):
        read_script(path)
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="just been removed"):
        read_scripts(tmp_path)


def test_an_unknown_key_is_answered_with_the_keys_there_are(tmp_path):
    (tmp_path / "leads.sql").write_text("SELECT 1")
    assert find_script(tmp_path, "leads").key == "leads"
    with pytest.raises(UsageError, match="there are: leads"):
        find_script(tmp_path, "../leads")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SELECT '\xff'", "not UTF-8 text: byte 8"),
        (b"SELECT 1\0", "NUL"),
        (b"-" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_sql_text_is_a_clear_error(tmp_path, content, message):
    path = tmp_path / "x.sql"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_script(path)


def test_a_byte_order_mark_does_not_hide_the_header(tmp_path):
    path = tmp_path / "x.sql"
    path.write_bytes(b"\xef\xbb\xbf-- title: Marked\r\nSELECT 1 AS a\r\n")
    assert read_script(path).title == "Marked"


def test_a_pipe_in_the_folder_does_not_block_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe.sql")
    with pytest.raises(UsageError, match="not a regular file"):
        read_scripts(tmp_path)


# --- identity columns ----------------------------------------------------------------

PLAIN = ("FIRST_NAME", "LAST_NAME", "ADDRESS", "CITY", "STATE", "ZIP_CODE")


@pytest.mark.parametrize(
    "columns",
    [
        PLAIN,
        ("First Name", "Last Name", "Street Address", "City", "State", "Zip Code"),
        ("FNAME", "LNAME", "ADDRESS1", "CITY", "ST", "ZIP"),
        ("FIRST", "LAST", "STREET", "TOWN", "STATE_CODE", "POSTAL_CODE"),
        ("firstname", "lastname", "property_address", "property_city", "property_state", "property_zip"),
        ("GIVEN_NAME", "SURNAME", "MAILING_ADDRESS", "MAILING_CITY", "MAILING_STATE", "MAILING_ZIP_CODE"),
    ],
)
def test_common_spellings_of_the_identity_columns_are_recognised(columns):
    found = recognise_columns([*columns, "SCORE"], script_of("SELECT 1"))
    assert found[:6] == columns
    assert found.extras == ("SCORE",)


def test_a_zip_alone_or_city_and_state_are_enough():
    assert recognise_columns(["FIRST", "LAST", "STREET", "ZIP"], script_of("SELECT 1")).city is None
    assert recognise_columns(["FIRST", "LAST", "STREET", "CITY", "ST"], script_of("SELECT 1")).zip_code is None


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (["LAST_NAME", "ADDRESS", "ZIP"], "-- columns: first_name = given"),
        (["FIRST_NAME", "LAST_NAME", "ZIP"], "-- columns: address = property_address"),
        (["FIRST_NAME", "LAST_NAME", "ADDRESS"], '-- columns: zip_code = "Zip"'),
        (["FIRST_NAME", "LAST_NAME", "ADDRESS", "CITY"], '-- columns: zip_code = "Zip"'),
        ([], '-- columns: first_name = given, last_name = family, address = property_address, zip_code = "Zip"'),
    ],
)
def test_a_missing_column_is_refused_with_the_columns_there_are_and_the_line_that_would_fix_it(columns, line):
    with pytest.raises(RefusedError) as refusal:
        recognise_columns(columns, script_of("SELECT 1"))
    assert line in str(refusal.value)
    for column in columns:
        assert column in str(refusal.value)


def test_two_columns_that_claim_one_meaning_are_refused_and_the_header_settles_it():
    columns = [*PLAIN, "PROPERTY_ADDRESS"]
    with pytest.raises(RefusedError, match="-- columns: address = ADDRESS"):
        recognise_columns(columns, script_of("SELECT 1"))
    found = recognise_columns(columns, script_of("-- columns: address = property_address\nSELECT 1"))
    assert found.address == "PROPERTY_ADDRESS"
    assert found.extras == ("ADDRESS",)


def test_a_column_given_to_a_field_by_the_header_claims_no_other():
    script = script_of("-- columns: first_name = last, last_name = first\nSELECT 1")
    found = recognise_columns(["FIRST", "LAST", "STREET", "ZIP"], script)
    assert (found.first_name, found.last_name) == ("LAST", "FIRST")


def test_a_mapped_column_is_found_in_the_spelling_of_the_source_file():
    script = script_of('-- columns: address = prop_adr, zip_code = "Zip"\nSELECT 1')
    found = recognise_columns(["first_name", "last_name", "Prop_Adr", "Zip"], script)
    assert (found.address, found.zip_code) == ("Prop_Adr", "Zip")


def test_a_mapped_column_that_is_not_there_is_refused():
    with pytest.raises(RefusedError, match="takes address from PROP_ADR"):
        recognise_columns(PLAIN, script_of("-- columns: address = prop_adr\nSELECT 1"))


@pytest.mark.parametrize("twice", [["A", "A"], ["Zip", "ZIP"]])
def test_a_column_that_comes_twice_is_refused(twice):
    with pytest.raises(RefusedError, match="more than one column named"):
        recognise_columns([*PLAIN[:5], *twice], script_of("SELECT 1"))


def test_three_hundred_columns_are_kept_and_a_refusal_does_not_list_them_all():
    many = [f"C{number}" for number in range(300)]
    assert len(recognise_columns([*PLAIN, *many], script_of("SELECT 1")).extras) == 300
    with pytest.raises(RefusedError, match="and 260 more"):
        recognise_columns(many, script_of("SELECT 1"))


def test_a_column_named_by_its_expression_is_not_quoted_in_a_refusal():
    for columns in (["concat('Jane Roe', x)", "'Jane Roe'"], [*PLAIN, "upper('Jane Roe')", "upper('Jane Roe')"]):
        with pytest.raises(RefusedError) as refusal:
            recognise_columns(columns, script_of("SELECT 1"))
        assert "Jane" not in str(refusal.value)


# --- lint and template ---------------------------------------------------------------


def lint(path, **changes):
    terms = {"allowed_databases": ["LEADS_DB"], "default_database": "LEADS_DB", "default_schema": "PUBLIC"}
    return lint_script(path, **(terms | changes))


def test_lint_tells_everything_that_is_wrong(tmp_path):
    path = tmp_path / "x.sql"
    path.write_text("-- purpose: raffle\nSELECT f(a), $x FROM leads")
    errors = lint(path, purposes={"marketing"})
    assert [key for key in ("raffle", "F is not allowed", "variable") if not any(key in text for text in errors)] == []
    path.write_text("SELECT INITCAP(a) AS a FROM leads")
    assert len(lint(path)) == 1
    assert lint(path, for_duckdb=False) == []
    path.unlink()
    assert lint(path) == ["The file is not there, or has just been removed."]


def test_the_template_of_a_new_script_is_a_script_that_lints_clean(tmp_path):
    path = tmp_path / "spring-mailing.sql"
    path.write_text(new_script_text("spring-mailing", owner="data-team@example.com"))
    assert lint(path, allowed_databases=["MY_DATABASE"]) == []
    script = read_script(path)
    assert (script.title, script.owner) == ("Spring mailing", "data-team@example.com")
    assert script.columns == {}
    assert guarded(script.sql, allowed=("my_database",)).tables


@pytest.mark.parametrize(("key", "title"), [("Spring mailing", None), ("spring", "two\nlines"), ("spring", " ")])
def test_a_template_is_not_made_from_what_does_not_fit(key, title):
    with pytest.raises(LeadscrubError):
        new_script_text(key, title=title)


def test_the_keys_of_the_header_are_those_of_the_design():
    assert HEADER_KEYS == ("title", "owner", "description", "purpose", "databases", "columns", "schedule")
