"""A text-to-image model from the first choice to the composition with a changed word, and after a reload."""

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

Visit = Callable[..., Page]
PROMPT = "a sad face"


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def prompt_of(page: Page, root: str) -> Locator:
    return page.locator(f"{root} .shows textarea")


def unfold(page: Page, accordion: str) -> None:
    page.locator(f"{accordion} > button").click()
    page.wait_for_timeout(600)  # Gradio makes what is inside only now, and gives it its first values after it


def composed(page: Page) -> str:
    stage = page.locator("#compose-stage .stage")
    expect(stage).to_have_attribute("data-frames", "1")
    expect(stage).to_have_attribute("aria-busy", "false")
    return page.locator("#compose-stage [data-part=after]").get_attribute("src") or ""


def test_from_a_prompt_to_a_composition_with_a_changed_word(page: Page) -> None:
    expect(prompt_of(page, "#text-edit")).to_be_hidden()
    page.locator("#model input").click()
    page.get_by_role("option", name="Stand-in", exact=True).click()
    expect(prompt_of(page, "#text-edit")).to_have_value(re.compile(r"\bface\b"))
    expect(page.locator("#shelf:visible")).to_contain_text("what two prompts differ in")

    # The picture's prompt: an empty one is refused and the former one stays; another one is there in every tab.
    tab(page, "Discover")
    written, suggested = prompt_of(page, "#discover"), prompt_of(page, "#discover").input_value()
    written.fill(" ")
    written.blur()
    expect(page.locator(".toast-body").first).to_contain_text("Say what the picture shows")
    expect(written).to_have_value(suggested)
    written.fill(PROMPT)
    written.blur()

    # A region, its directions, one of them large, kept and sent on.
    root = page.locator("#discover")
    root.get_by_role("button", name="Mouth", exact=True).click()
    unfold(page, "#discover-advanced")
    for label, value in (("How fine the search is", "16"), ("How many per region", "1")):
        number = page.get_by_label(f"number input for {label}")
        number.fill(value)
        number.press("Tab")
    root.locator("#find").click()
    expect(page.locator(".found")).to_have_attribute("data-drawn", "1")
    expect(root.locator("#find")).to_be_visible()
    row = page.locator(".found .row").first
    name = row.locator(".name").input_value()
    row.locator(".plus").click()
    stage = page.locator("#discover-stage")
    expect(stage.locator(".strip button[disabled]")).to_have_count(0)
    page.locator("#save-direction").click()
    expect(page.locator("#discover-said")).to_contain_text("among your presets")
    page.locator("#send-to-compose").click()
    expect(page.locator("#discover-said")).to_contain_text("in your composition")

    # The mixing desk, then a changed word in the same pass.
    tab(page, "Compose")
    expect(prompt_of(page, "#compose")).to_have_value(PROMPT)
    alone = composed(page)
    page.get_by_label(f"Strength of {name} as a number").fill("2")
    page.keyboard.press("Enter")
    expect(page.locator("#compose-stage [data-part=title]")).to_contain_text("+2")
    stronger = composed(page)
    assert stronger != alone
    unfold(page, "#compose-words")
    target = page.locator("#compose-target textarea")
    expect(target).to_have_value(PROMPT)
    page.locator("#apply-words").click()
    expect(page.locator(".toast-body").first).to_contain_text("Change, add or take out a word")
    target.fill(f"{PROMPT} with glasses")
    page.locator("#apply-words").click()
    expect(page.locator("#compose-stage [data-part=title]")).to_contain_text("+ glasses")
    both = composed(page)
    assert both not in (alone, stronger)
    assert name in page.locator("#compose-stage [data-part=title]").inner_text()

    # Everything is there again after a reload: model, prompt, preset, composition, words.
    page.reload()
    expect(page.locator("#model input")).to_have_value("Stand-in")
    expect(page.get_by_role("tab", name="Compose", exact=True)).to_have_attribute("aria-selected", "true")
    expect(prompt_of(page, "#compose")).to_have_value(PROMPT)
    expect(page.locator("#compose-stage [data-part=title]")).to_contain_text("+ glasses")
    assert composed(page) == both
    tab(page, "Text edit")
    expect(page.locator("#presets .own")).to_have_count(1)
    expect(prompt_of(page, "#text-edit")).to_have_value(PROMPT)

    # The other family has nothing of it, and says so.
    page.locator("#model input").click()
    page.get_by_role("option", name="Avatars", exact=True).click()
    expect(prompt_of(page, "#text-edit")).to_be_hidden()
    expect(page.locator("#presets .own")).to_have_count(0)
    tab(page, "Compose")
    expect(page.locator("#palette-others")).to_contain_text("1 more of your directions is for other models: Stand-in")


def test_a_direction_fitted_to_what_two_prompts_differ_in(page: Page) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name="Stand-in", exact=True).click()
    page.get_by_role("tab", name="From words").click()
    expect(page.locator("#train")).to_have_text("Make this direction")
    page.locator("#target-text textarea, #target-text input").fill("a smiling face")
    unfold(page, "#training-settings")
    settings = page.locator("#training-settings")
    expect(settings.get_by_label("number input for Samples")).to_be_hidden()  # it is fitted to the picture
    settings.get_by_label("number input for Steps").fill("60")
    page.locator("#train").click()
    expect(page.locator("#stop")).to_be_hidden()  # nothing is there before all of it is
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#train")).to_be_visible()
    expect(page.locator("#training")).to_have_text("")
    expect(page.locator("#presets .own")).to_have_count(0)

    settings.get_by_label("number input for Steps").fill("10")
    page.locator("#train").click()
    expect(page.locator("#training")).to_contain_text("Done: “Smiling” is among your presets. It explains")
    expect(page.locator("#presets .own")).to_have_count(1)
    # It is for this picture, and says so on another one.
    elsewhere = "This direction was fitted to another picture"
    expect(page.locator("#stage [data-part=controls]")).to_be_visible()
    expect(page.locator("#stage")).not_to_contain_text(elsewhere)
    page.locator("#text-edit .examples [data-id]").nth(1).click()
    expect(page.locator("#stage [data-part=note]")).to_contain_text(elsewhere)
    page.locator("#text-edit .examples [data-id]").nth(0).click()
    expect(page.locator("#stage [data-part=note]")).to_have_text("")


def test_the_words_to_change_are_those_of_the_picture(page: Page) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name="Stand-in", exact=True).click()
    expect(prompt_of(page, "#text-edit")).to_have_value(re.compile(r"\bface\b"))
    tab(page, "Compose")
    unfold(page, "#compose-words")
    shown, target = prompt_of(page, "#compose"), page.locator("#compose-target textarea")
    first = shown.input_value()
    expect(target).to_have_value(first)
    page.locator("#compose .examples [data-id]").nth(1).click()
    expect(shown).not_to_have_value(first)
    expect(target).to_have_value(shown.input_value())

    # What was written by hand stays.
    target.fill("a face with glasses")
    target.blur()
    page.locator("#compose .examples [data-id]").nth(0).click()
    expect(shown).to_have_value(first)
    expect(target).to_have_value("a face with glasses")

    # What was applied goes along, as the same change of what the other picture shows.
    title, pictures = page.locator("#compose-stage [data-part=title]"), page.locator("#compose .examples [data-id]")
    target.fill(f"{first} and glasses")
    page.locator("#apply-words").click()
    expect(title).to_contain_text("+ glasses")
    pictures.nth(1).click()
    expect(shown).not_to_have_value(first)
    second = shown.input_value()
    expect(target).to_have_value(re.compile(rf"^{re.escape(second)} (and|with) glasses$"))
    expect(title).to_contain_text("+ glasses")

    # Where there is no place for it, it is said, and it is back with the first picture.
    word = second.split()[1]
    assert word not in first
    target.fill(second.replace(word, "pink"))
    page.locator("#apply-words").click()
    expect(title).to_contain_text(f"{word} → pink")
    pictures.nth(0).click()
    expect(page.locator("#compose-stage [data-part=note]")).to_contain_text(f"{word} → pink” is not applied here")
    expect(target).to_have_value(first)
    pictures.nth(1).click()
    expect(target).to_have_value(second.replace(word, "pink"))
    expect(title).to_contain_text(f"{word} → pink")

    # Given up where it has no place, it is not spoken of any more.
    pictures.nth(0).click()
    told = page.locator("#words-told")
    expect(told).to_contain_text("is not applied here")
    page.locator("#leave-words").click()
    expect(told).not_to_contain_text("is not applied here")
    expect(page.locator("#compose-stage [data-part=note]")).not_to_contain_text("is not applied here")

    # And an undo brings the words back.
    page.locator("#compose").get_by_role("button", name="Undo").click()
    expect(told).to_contain_text("is not applied here")
    pictures.nth(1).click()
    expect(title).to_contain_text(f"{word} → pink")
