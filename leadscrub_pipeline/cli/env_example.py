"""``leadscrub settings``: every setting with its comment and default, as a .env file to start from.

The file ``.env.example`` is this command's output. Values in force are not shown: some are secrets.
"""

from itertools import groupby
from typing import Final

import orjson
import typer
from pydantic import SecretStr

from leadscrub_pipeline.cli.output import JsonOption, print_json
from leadscrub_pipeline.settings import Settings

_HEAD: Final = """\
# Settings of leadscrub. Copy to .env and set what you need; what is not set has its default.
# A value in .env wins over the environment. Another file is read when LEADSCRUB_ENV_FILE names it.
# This file is the output of: leadscrub settings
"""
_GROUPS: Final = {
    "LEADSCRUB": "Where things are",
    "DAGSTER": "Where things are",
    "LOG": "Where things are",
    "IDICORE": "idiCORE: phones and e-mails, paid by the lookup",
    "CCC": "CCC: litigators",
    "DNC": "Do-Not-Call registry",
    "INTERNAL": "The company's own list, and consents",
    "CONSENTS": "The company's own list, and consents",
    "ETL": "How a run works through its leads",
    "NTFY": "Alerts",
    "SNOWFLAKE": "Snowflake",
}


def settings(*, as_json: JsonOption = False) -> None:
    """Print every setting with its comment and default: the contents of .env.example."""
    if as_json:
        print_json(described_settings())
    else:
        typer.echo(env_example(), nl=False)


def described_settings() -> list[dict[str, object]]:
    """Name in the environment, default as it would be written there (None: no default), and what it is for."""
    return [
        {"name": name.upper(), "default": env_text(field.default), "description": field.description}
        for name, field in Settings.model_fields.items()
    ]


def env_example() -> str:
    parts = [_HEAD]
    for group, members in groupby(described_settings(), key=_group):
        parts.append(f"# ---- {group}\n")
        parts += [f"# {each['description']}\n#{each['name']}={each['default'] or ''}\n" for each in members]
    return "\n".join(parts)


def env_text(value: object) -> str | None:
    """A setting's value as the environment holds it; None when it is not set."""
    if value in (None, (), {}):
        return None
    if isinstance(value, tuple):
        return ",".join(str(env_text(item)) for item in value)
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _group(setting: dict[str, object]) -> str:
    return _GROUPS[str(setting["name"]).partition("_")[0]]
