"""Whether visitors can log in: on a Space that is set up for it, and nowhere else."""

import pytest

import app
from tabs import hub_login


@pytest.mark.parametrize("missing", [None, *hub_login.NEEDED, "SYSTEM"])
def test_a_space_with_oauth_offers_to_log_in(missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in hub_login.NEEDED:
        monkeypatch.setenv(name, "something")
    monkeypatch.setenv("SYSTEM", "spaces")
    if missing:
        monkeypatch.delenv(missing)
    assert hub_login.offered() is (missing is None)


def test_elsewhere_the_page_has_no_login() -> None:
    assert not hub_login.offered()
    assert not app.build().expects_oauth
