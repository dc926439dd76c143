"""The deployment's settings, read anew for every step: a change takes effect at the next run."""

import dagster as dg
from pydantic import Field

from leadscrub_pipeline.settings import Settings, load_settings


class SettingsResource(dg.ConfigurableResource[None]):
    """Settings from the environment and the settings file; secrets stay there and never enter run config.

    The other resources extend it, because each makes its part of the deployment from them.
    """

    env_file: str | None = Field(
        default=None, description="Settings file to read instead of the one that LEADSCRUB_ENV_FILE names (.env)."
    )

    def load(self) -> Settings:
        return load_settings(env_file=self.env_file)
