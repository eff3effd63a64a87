"""What the page tells programs of its endpoints."""

from __future__ import annotations

from typing import Any, cast

from tabs.streaming import Page

FILES = {
    "filepath": "; given as handle_file(PATH or URL)",
    "list[filepath]": "; given as [handle_file(PATH or URL), ...]",
}


class DescribedPage(Page):
    """A page that describes every parameter of its endpoints.

    Of a parameter Gradio tells clients the component's label, which `Client.view_api()` does not print; it prints the
    description of the type, which most components lack. Here the label is that description, and the label the name:
    the panel "Use it from a program" shows both.
    """

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        info = cast(dict[str, Any], super().get_api_info(all_endpoints, page))
        for endpoint in info["named_endpoints"].values():
            for parameter in endpoint["parameters"]:
                given = parameter["python_type"]
                given["description"] = parameter["label"] + FILES.get(given["type"], "")
                parameter["label"] = parameter["parameter_name"]
        return info
