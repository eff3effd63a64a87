"""The descriptions from which new portraits are drawn: true statements about rendered ones, as in the training of the
text-to-image model, so that what is drawn from them varies as those do.

python -m training.make_captions

(The most telling statements of each, as `core/studio/invert/captions.py` words them, would not do: to the model a
caption without glasses says nothing about glasses, and then there are too many of them.)
"""

import numpy as np

from core.models.cards import MODELS, PRESETS
from training.phrases import caption_rules, compose, truth_table
from training.portraits import sample, to_vector
from training.train_t2i import MAX_STATEMENTS

COUNT = 2000


def captions(count: int = COUNT) -> list[str]:
    """One of each of the portraits of the seeds from 0 on."""
    truth, rng = truth_table(np.stack([to_vector(sample(seed)) for seed in range(count)])), np.random.default_rng(0)
    texts = [compose(caption_rules(true, rng, MAX_STATEMENTS), rng, opening="", noun="face") for true in truth]
    return [f"{'an' if text[0] in 'aeiou' else 'a'} {text}" for text in texts]


def main() -> None:
    drawn = MODELS["avatars"].drawn
    assert drawn is not None
    (PRESETS / drawn.captions).write_text("\n".join(captions()) + "\n")


if __name__ == "__main__":
    main()
