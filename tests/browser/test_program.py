"""How a visitor learns to use the app from a program."""

from playwright.sync_api import Page, expect


def test_the_foot_leads_to_the_endpoints_at_this_address(page: Page, served: str) -> None:
    panel = page.locator(".api-docs")
    page.get_by_role("button", name="Use it from a program").click()
    expect(panel).to_contain_text(f'Client("{served.rstrip("/")}")')
    expect(panel).to_contain_text("/edit_text")
    expect(panel).to_contain_text("Strength, -100 to 100, in the direction's own unit")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    page.goto(f"{served}?view=api")  # the address that the panel has, and that Gradio's own documentation names
    expect(panel).to_contain_text("/edit_text")
