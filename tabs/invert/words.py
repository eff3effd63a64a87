"""What the Invert tab says of methods and measures."""

from __future__ import annotations

# method -> its name on the page, and what it does
METHODS: dict[str, tuple[str, str]] = {
    "anchored": (
        "Anchored",
        "DDIM inversion, put back on its path at every step, and edits as much: the picture comes back exactly.",
    ),
    "latent-TOP": (
        "latent-TOP",
        "Learns a bias of the empty prompt and of the noise, so that the guided path follows that of guidance 1.",
    ),
    "teacher-forced": ("Teacher-forced", "The steps of latent-TOP, optimised side by side instead of in turn."),
    "fixed point": ("Fixed point", "Solves every DDIM step exactly, at the working guidance (AIDI)."),
    "direct": ("Direct", "DDIM inversion; what a step misses is added again while decoding."),
    "EDICT": ("EDICT", "Two coupled sequences that can be run backwards exactly."),
    "edit-friendly DDPM": (
        "Edit-friendly DDPM",
        "Noise maps of a DDPM that passes through noised copies of the picture.",
    ),
    "null-text": ("Null-text", "Optimises the empty prompt of each step, one after another."),
    "negative prompt": (
        "Negative prompt",
        "The source prompt in place of the empty one; guidance leaves that alone.",
    ),
    "CycleDiffusion": ("CycleDiffusion", "The noise of a stochastic sampler, computed from the picture."),
    "DDIB": ("DDIB", "Plain DDIM inversion at guidance 1, decoded at the working guidance."),
    "DDIM, guided": ("DDIM, guided", "Plain DDIM inversion and decoding, both at the working guidance."),
    "DDIM": ("DDIM", "Plain DDIM inversion and decoding at guidance 1."),
}
STEPS = [
    "Your picture and a prompt that describes it are put into a text-to-image model: each method finds noise, and what "
    "else it needs, from which the model makes this picture again.",
    "The better it comes back, the better an edit can keep what you do not want to change. The table says how well, "
    "and what it costs.",
    "Then change the words: under “Edit”, another prompt starts from the same noise.",
]
PSNR = "Peak signal-to-noise ratio of reconstruction and picture, in dB. More is closer."
SSIM = "Structural similarity of reconstruction and picture. 1 is the same."
DISTANCE = "Perceptual distance of reconstruction and picture. 0 is the same."
SECONDS = "Computing time of the inversion, without waiting for other visitors."
EVALUATIONS = "Network evaluations of the inversion, each of one latent with one prompt; and those also differentiated."
MEMORY = "The most memory that the whole app used while this ran (on a GPU: what was used there)."


def label(method: str) -> str:
    return METHODS[method][0] if method in METHODS else method
