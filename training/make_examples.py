"""The portraits that the app offers to start from: held-out ones with calm faces, so that every direction shows.

python -m training.make_examples
"""

from pathlib import Path

from training.portraits import HELD_OUT, render, sample

FOLDER = Path(__file__).resolve().parents[1] / "presets" / "examples" / "avatars"
SEEDS = [2559, 2547, 3893, 4006, 3829, 4252, 3284, 3404]
SIZE = 256


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("portrait-*.webp"):
        old.unlink()
    for number, seed in enumerate(SEEDS, start=1):
        render(sample(HELD_OUT + seed), SIZE).save(FOLDER / f"portrait-{number}.webp", quality=92, method=6)


if __name__ == "__main__":
    main()
