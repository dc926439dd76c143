"""Lead scripts as files: the comment header, the key, the hash, and reading a folder of them.

Whether a script may run belongs to ``guard.py``, how it reaches DuckDB to ``dialects.py``,
and which of its columns say what to ``columns.py``.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from sqlglot.dialects.snowflake import Snowflake
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from leadscrub_pipeline.errors import UsageError

MAX_BYTES: Final = 1_000_000
MAX_KEY: Final = 100
HEADER_KEYS: Final = ("title", "owner", "description", "purpose", "databases", "columns", "schedule")
NIGHTLY: Final = "nightly"
IDENTITY_FIELDS: Final = ("first_name", "last_name", "address", "city", "state", "zip_code")

_HASHED_KEYS: Final = tuple(key for key in HEADER_KEYS if key != "schedule")
"""When a script runs by itself changes nothing of what it selects."""
_MAX_VALUE: Final = 2_000
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
_HEADER_LINE: Final = re.compile(r"--\s*(?P<key>[A-Za-z][A-Za-z_ -]{0,40}?)\s*:(?:\s+(?P<value>.*))?\Z")
_LATE_HEADER: Final = re.compile(rf"\s*--\s*(?P<key>{'|'.join(HEADER_KEYS)})\s*:\s", re.IGNORECASE)
_NAME: Final = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[A-Za-z_][A-Za-z0-9_$]*))\Z')
_ITEM: Final = re.compile(r'(?:"(?:[^"]|"")*"|[^",])+')


@dataclass(frozen=True, slots=True)
class ColumnName:
    """A column as the header writes it. An unquoted name is Snowflake's upper-case one."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class LeadScript:
    """One script. ``databases`` narrows what it may read, None leaves that to the deployment.

    A ``nightly`` one is run by the schedule of all such scripts.
    """

    key: str
    path: Path
    title: str
    owner: str | None
    description: str | None
    purpose: str | None
    databases: frozenset[str] | None
    columns: Mapping[str, ColumnName]
    sql: str = field(repr=False)
    script_hash: str
    is_nightly: bool = False


def read_script(path: Path) -> LeadScript:
    """The script in a file, its header understood and its statement not yet judged.

    Raises:
        UsageError: the file is gone, too large, no UTF-8 text, badly named, or its header is wrong.
    """
    script, errors = inspect_script(path)
    if script is None:
        raise UsageError(f"{path.name}: " + " ".join(errors))
    return script


def read_scripts(folder: Path) -> list[LeadScript]:
    """Every script of a folder, by key.

    Raises:
        UsageError: as for one script, and when the folder cannot be read or holds one key twice.
    """
    return [read_script(path) for path in script_paths(folder).values()]


def find_script(folder: Path, key: str) -> LeadScript:
    """The script with this key.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    paths = script_paths(folder)
    if key not in paths:
        known = ", ".join(paths) or "none"
        raise UsageError(f"There is no lead script {key!r} in {folder} (there are: {known}).")
    return read_script(paths[key])


def script_paths(folder: Path) -> dict[str, Path]:
    """The files of a folder that are lead scripts, by key, in order.

    Raises:
        UsageError: the folder cannot be read, a name is no key, or two files have one key.
    """
    paths, problems = sound_script_paths(folder)
    if problems:
        raise UsageError(problems[0])
    return paths


def sound_script_paths(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The same without the files whose names are wrong, and what is wrong with those: they keep no other from running.

    Raises:
        UsageError: the folder cannot be read.
    """
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() == ".sql" and entry.name[0] != ".")
    except OSError as error:
        raise UsageError(f"Cannot read the folder of lead scripts {folder}: {type(error).__name__}.") from None
    by_key: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        if not path.is_dir():
            by_key[path.stem.lower()].append(path)
    paths: dict[str, Path] = {}
    problems: list[str] = []
    for key, (path, *others) in sorted(by_key.items()):
        if others:
            problems.append(f"{path.name} and {others[0].name} have one key, {key!r}. Rename one of them.")
            continue
        try:
            _script_key(path)
        except UsageError as error:
            problems.append(str(error))
        else:
            paths[key] = path
    return paths, problems


def inspect_script(path: Path) -> tuple[LeadScript | None, list[str]]:
    """The script, or None and everything that is wrong with its file and header."""
    try:
        key = _script_key(path)
        text = _read_text(path)
    except UsageError as error:
        return None, [str(error)]
    header, errors = _read_header(text)
    databases = _read_databases(header, errors)
    columns = _read_columns(header, errors)
    if header.get("schedule", NIGHTLY) != NIGHTLY:
        errors.append(f"Header schedule: {header['schedule']!r} is not known; it can only be {NIGHTLY}.")
    if errors:
        return None, errors
    return LeadScript(
        key=key,
        path=path,
        title=header.get("title", key),
        owner=header.get("owner"),
        description=header.get("description"),
        purpose=header.get("purpose"),
        databases=databases,
        columns=MappingProxyType(columns),
        sql=text,
        script_hash=_script_hash(header, text),
        is_nightly="schedule" in header,
    ), []


def new_script_text(key: str, *, title: str | None = None, owner: str | None = None) -> str:
    """A first version of a script, for its writer to fill.

    Raises:
        UsageError: the key is no slug, or a value does not fit on a header line.
    """
    _check_key(key, key)
    lines = {"title": title or key.replace("_", " ").replace("-", " ").capitalize(), "owner": owner}
    for name, value in lines.items():
        if value is not None and (not value.strip() or not value.isprintable()):
            raise UsageError(f"The {name} must be one line of printable text.")
    header = "".join(f"-- {name}: {value.strip()}\n" for name, value in lines.items() if value is not None)
    return header + _TEMPLATE


def database_name(text: str) -> str | None:
    """A database as a setting or a header names it, in Snowflake's own form.

    A plain name becomes upper case, a quoted one stays as it is. None when it is neither.
    """
    match = _NAME.match(text.strip())
    if match is None:
        return None
    quoted: str | None = match["quoted"]
    return quoted.replace('""', '"') if quoted is not None else match["plain"].upper()


_TEMPLATE: Final = """\
-- description: Say here whom this script selects, and why.

-- One SELECT in Snowflake's dialect. Needed columns: first name, last name, address, and a
-- ZIP code or city and state. Other columns travel along in additional_data. When a column
-- is not recognised, say which it is in the header:
--   -- columns: address = property_address, zip_code = "Zip"
SELECT
    first_name,
    last_name,
    address,
    city,
    state,
    zip_code
FROM my_database.public.my_table
"""


def _script_key(path: Path) -> str:
    _check_key(path.stem, path.name)
    return path.stem


def _check_key(key: str, shown: str) -> None:
    if len(key) > MAX_KEY or _SLUG.match(key) is None:
        raise UsageError(
            f"{shown!r} cannot be the name of a lead script. Use small letters, digits, _ and -, "
            f"starting with a letter or digit, at most {MAX_KEY} characters."
        )


def _read_text(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            raise UsageError("It is not a regular file.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError("The file is not there, or has just been removed.") from None
    except OSError as error:
        raise UsageError(f"The file cannot be read: {type(error).__name__}.") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"The file is larger than {MAX_BYTES:,} bytes.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"The file is not UTF-8 text: byte {error.start} cannot be read.") from None
    if "\0" in text:
        raise UsageError("The file holds a NUL character, so it is no SQL text.")
    return text


def _read_header(text: str) -> tuple[dict[str, str], list[str]]:
    header: dict[str, str] = {}
    errors: list[str] = []
    in_header = True
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if in_header and stripped and not stripped.startswith("--"):
            in_header = False
        if not in_header:
            if late := _LATE_HEADER.match(line):
                errors.append(f"Line {number}: {late['key'].lower()!r} stands below the statement; move it to the top.")
            continue
        match = _HEADER_LINE.match(stripped)
        if match is None:
            continue
        key, value = match["key"].lower(), (match["value"] or "").strip()
        if key not in HEADER_KEYS:
            errors.append(f"Line {number}: unknown header key {key!r}; the keys are {', '.join(HEADER_KEYS)}.")
        elif key in header:
            errors.append(f"Line {number}: header key {key!r} comes twice.")
        elif not value:
            errors.append(f"Line {number}: header key {key!r} has no value.")
        elif len(value) > _MAX_VALUE or not value.replace("\t", " ").isprintable():
            errors.append(f"Line {number}: the value of {key!r} is too long or holds control characters.")
        else:
            header[key] = value
    return header, errors


def _read_databases(header: Mapping[str, str], errors: list[str]) -> frozenset[str] | None:
    if "databases" not in header:
        return None
    names: set[str] = set()
    for item in _ITEM.findall(header["databases"]):
        name = database_name(item)
        if name is None:
            errors.append(f"Header databases: {item.strip()!r} is no database name.")
        else:
            names.add(name)
    return frozenset(names)


def _read_columns(header: Mapping[str, str], errors: list[str]) -> dict[str, ColumnName]:
    columns: dict[str, ColumnName] = {}
    for item in _ITEM.findall(header.get("columns", "")):
        place, equals, text = (part.strip() for part in item.partition("="))
        name = _NAME.match(text)
        if not equals or name is None:
            errors.append(f'Header columns: {item.strip()!r} should read like: zip_code = "Zip".')
        elif place not in IDENTITY_FIELDS:
            errors.append(f"Header columns: there is no field {place!r}; the fields are {', '.join(IDENTITY_FIELDS)}.")
        elif place in columns:
            errors.append(f"Header columns: {place} comes twice.")
        else:
            quoted: str | None = name["quoted"]
            column = (
                ColumnName(quoted.replace('""', '"'), True) if quoted is not None else ColumnName(name["plain"].upper())
            )
            if column in columns.values():
                errors.append(f"Header columns: {text} is given to two fields.")
            columns[place] = column
    if "columns" in header and not columns and not errors:
        errors.append("Header columns: nothing is mapped.")
    return columns


def _script_hash(header: Mapping[str, str], text: str) -> str:
    """SHA-256 over header and tokens: comments, blanks and the case of unquoted words do not count.

    Tokens and not the parsed tree, so that the hash outlives a parser's release.
    """
    try:
        tokens = Snowflake().tokenize(text)
    except (SqlglotError, RecursionError):
        words = [text]
    else:
        while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
            tokens.pop()
        words = [_word(token.token_type, token.text) for token in tokens]
    parts = [f"{key}: {header[key]}" for key in _HASHED_KEYS if key in header]
    return hashlib.sha256("\x1f".join([*parts, "\x1e", *words]).encode()).hexdigest()


def _word(kind: TokenType, text: str) -> str:
    if kind is TokenType.IDENTIFIER:
        return f'"{text}"'
    if kind in _TEXTS:
        return f"'{text}'"
    return text.upper()


_TEXTS: Final = {
    TokenType.STRING,
    TokenType.RAW_STRING,
    TokenType.HEREDOC_STRING,
    TokenType.NATIONAL_STRING,
    TokenType.HEX_STRING,
}
