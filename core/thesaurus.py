"""Words of portraits that mean much the same, written by hand: what a visitor may write, and what captions call it.

An embedding cannot tell that of a word that its model has never read: to it that is a heap of letters.
"""

from __future__ import annotations

# What captions say, and what is offered it for. A word may stand in several rows.
_ROWS = """
smiling, grinning, cheerful: beaming smirk smirking
happy, cheerful, joyful: delighted ecstatic elated jolly jovial joyous merry pleased thrilled
laughing: amused chuckling giggling
sad, unhappy, sorrowful: crying cry heartbroken miserable mournful tearful tears upset weeping
angry, furious, enraged: cross hostile livid outraged rage raging
worried, startled: afraid anxious fear fearful frightened nervous scared terrified
surprised, astonished: amazement stunned
tired, sleepy: drowsy exhausted weary
calm, neutral: indifferent relaxed serene serious stern
old, elderly, senior: ancient elder grandad grandfather grandma grandmother grandpa granny pensioner
young, youthful: adolescent babies baby boy child childish children girl kid teen teenage teenager toddler
beard, bearded: goatee sideburns stubble stubbly unshaven whiskers
glasses, eyeglasses, spectacles: bifocals goggles lenses monocle shades specs sunglasses
bald, hairless: skinhead
blond, blonde, golden: flaxen
ginger, red: auburn redhead redheaded
curly, curls, frizzy: permed ringlets
brown, brunette, dark: chestnut
makeup, lipstick: cosmetics eyeliner eyeshadow mascara rouge
tanned, bronzed: sunburned sunburnt suntan swarthy
wrinkles, wrinkled, lines: creases crinkled furrows
thin, slim, narrow: gaunt lean skinny slender
round, full, broad: chubby fat fleshy plump
big, large: enormous giant huge
small, narrow: little tiny
face: human human humans lady man men people selfie woman women
clothes, shirt, collar: blouse coat dress jacket jumper pullover sweater suit
"""
MEANINGS: dict[str, tuple[str, ...]] = {}
for _row in _ROWS.strip().splitlines():
    _offered, _, _written = _row.partition(": ")
    for _word in _written.split():
        MEANINGS[_word] = (*MEANINGS.get(_word, ()), *_offered.split(", "))


def same_meaning(word: str) -> tuple[str, ...]:
    """Words of captions that mean much the same as a word in lower case; () where none is known."""
    return MEANINGS.get(word, ())
