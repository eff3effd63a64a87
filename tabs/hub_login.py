"""Logging in to the Hub instead of giving a token: on a Space whose README says `hf_oauth: true`, and only there.

Gradio keeps what the Hub grants in a signed cookie of the visitor's browser and hands it to the one handler that asks
for it; nothing here stores it. The Hub's page opens in a tab of its own, so that this one keeps what was made in it.
"""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from tabs.notices import inform
from tabs.shell import in_words
from tabs.widgets import asset

NEEDED = ("SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
RETURNED = "logged-in"  # in the address of the tab that comes back from the Hub

# The tab is not needed any more; a browser that does not let it close shows the app, and a notice.
CLOSE = f'<script>if (new URLSearchParams(location.search).has("{RETURNED}")) window.close();</script>'


def offered() -> bool:
    """Whether visitors can log in: Gradio's conditions for doing so at the real Hub."""
    return os.environ.get("SYSTEM") == "spaces" and all(os.environ.get(name) for name in NEEDED)


class Login(gr.HTML):
    """A way to log in and out; `.release` reports that either may have happened. The value is a dictionary: name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            value={},
            html_template=(
                f'<div class="login"><a target="_blank" href="/login/huggingface?_target_url=%2F%3F{RETURNED}%3D1">'
                'Log in with Hugging Face</a><span></span><button type="button">Log out</button></div>'
            ),
            js_on_load=asset("login.js"),
            apply_default_css=False,
            **settings,
        )
        gr.LoginButton(visible=False)  # makes Gradio serve the addresses


@in_words
def who(profile: gr.OAuthProfile | None) -> dict[str, str]:
    """Value of `Login`."""
    return {"name": profile.username if profile else ""}


@in_words
def welcome(request: gr.Request) -> None:
    """For the tab that comes back from the Hub and could not be closed."""
    if RETURNED in request.query_params:
        inform("You can close this tab, and publish in the one that you came from.", "Logged in")
