"""The queue of runs, which writes on each run whose it is: user (from the proxy's header), script and mode.

``dagster.yaml`` names the class. Who may launch a run is not decided here: the proxy sends
viewers to a read-only webserver (deploy/nginx).
"""

import re
from typing import Final

import dagster as dg

from leadscrub_pipeline.run_tags import missing_tags

USER_HEADER: Final = "X-Leadscrub-User"
"""The proxy sets it from the sign-in and drops what a client sends under this name."""

USER_TAG: Final = "leadscrub/user"

NOT_SIGNED_IN: Final = "(not signed in)"
"""Stands in place of a name that nobody vouches for; no user can be called so."""

_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


def signed_in_user(header: str | None) -> str | None:
    """The user that the proxy names, or None: no header, a longer one, or one that is no plain user name or address."""
    return header if header is not None and _USER.fullmatch(header) else None


class UserRunCoordinator(dg.QueuedRunCoordinator):
    """Dagster's queue of runs, with its settings; a run launched through the proxy is tagged with its user.

    A tag of that name that came with the launch is the client's word, and is overwritten. Runs
    of sensors and schedules have no user. A retry by the daemon, which nobody launched, keeps
    the user of the run it repeats.
    """

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        given = run.tags.get(USER_TAG)
        user = signed_in_user(context.get_request_header(USER_HEADER))
        if user is None and given is not None and given != self._user_of(run.parent_run_id):
            user = NOT_SIGNED_IN
        if run.status is dg.DagsterRunStatus.NOT_STARTED:
            tags = missing_tags(run.tags)
            if user is not None and user != given:
                tags[USER_TAG] = user
            if tags:
                self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)

    def _user_of(self, run_id: str | None) -> str | None:
        run = self._instance.get_run_by_id(run_id) if run_id is not None else None
        return run.tags.get(USER_TAG) if run is not None else None
