"""How the page is served: small, and with pictures that anybody may have by addresses of their own."""

import gzip
import re

import httpx

from core.studio import library

MAX_PAGE = 300_000  # bytes over the wire


def test_the_page_is_small_over_the_wire(served: str) -> None:
    with httpx.stream("GET", served, headers={"Accept-Encoding": "gzip"}) as answer:
        data = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
    assert len(data) < MAX_PAGE
    page = gzip.decompress(data).decode()
    addresses = set(re.findall(r"shown/[a-z]+/avatars/[a-z0-9-]+\?[0-9a-f]+", page))
    assert len(addresses) == len(library.examples("avatars")) + len(library.shipped("avatars"))
    for address in addresses:
        picture = httpx.get(f"{served.rstrip('/')}/{address}")
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
        assert "max-age" in picture.headers["cache-control"]


def test_no_other_file_is_shown(served: str) -> None:
    for address in ("example/avatars/..%2f..%2fapp.py", "example/nothing/portrait-1", "preset/avatars/smiling"):
        assert httpx.get(f"{served.rstrip('/')}/shown/{address}").status_code == 404
