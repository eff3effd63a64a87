"""What the tests of a file open, those of the next one do not find."""

from collections.abc import Iterator

import pytest
from model_folders import opened_models_closed


@pytest.fixture(scope="module", autouse=True)
def registry_as_before() -> Iterator[None]:
    with opened_models_closed():
        yield
