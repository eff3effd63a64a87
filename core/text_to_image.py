"""A text-to-image model as every method sees it: eps(x, t, text), an autoencoder, and prompts to embeddings.

Any `StableDiffusionPipeline` of diffusers. The network may run in half precision; what goes in and comes out of `eps`
has the precision of the sampler (float32, or float64 where a method asks for it).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .attention_control import StepControl, control_attention
from .conditional_unet import SplitConditionalUNet
from .errors import ModelUnavailable, RequestError
from .finite import finite, require_finite
from .linearised import Linearisation
from .memory import explain_memory_errors
from .models.cards import Embedded
from .models.pipelines import pipelines
from .models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from .row_shifts import RowShifts
from .schedule import Schedule

log = logging.getLogger(__name__)

FEWER_PROMPTS = "Try fewer target prompts at once, or choose a smaller model."
MAX_DECODED, MAX_DECODED_PIXELS = 16, 2**20  # pictures and their pixels in one call of the autoencoder
MAX_PROMPT = 2000  # characters; models read far fewer (`TextToImage.words_cut`)


def read_prompt(text: str, request: str) -> str:
    """A prompt as one line of printable characters, without brackets.

    Raises:
        RequestError: there is nothing left of it (`request` says what to write), or it is too long.
    """
    kept = without_brackets(text[: MAX_PROMPT + 1])
    prompt = " ".join("".join(c if c.isprintable() else " " for c in kept).split())
    if not prompt:
        raise RequestError(request)
    if len(text) > MAX_PROMPT:
        raise RequestError(f"A prompt may have up to {MAX_PROMPT} characters. Shorten it.")
    return prompt


def without_brackets(text: str) -> str:
    """ "a slanted [rusty] bicycle", as PIE-Bench marks what changes, without the marks: to a tokenizer they are words,
    and so they would be to whatever aligns two prompts or compares one with a picture."""
    return text.replace("[", "").replace("]", "")


@dataclass
class Evaluations:
    """Network evaluations, each of one latent under one conditioning: all of them, and those also differentiated."""

    forward: int = 0
    backward: int = 0

    def count_backward(self, rows: int) -> None:
        self.backward += rows


@dataclass(frozen=True)
class Autoencoder:
    """A model's codec (`core.models.codec.Codec`): pixels (B, 3, H, W) in [-1, 1] <-> latents of about unit variance.

    Encoding takes the mode of the posterior, so that it is deterministic. What comes out is float32, or float64 of a
    network in float64.
    """

    vae: AutoencoderKL
    lossless: ClassVar[bool] = False

    @property
    def rows(self) -> int:
        """How many pictures it takes at once: 16 at 128x128, 4 at 512x512."""
        side = self.vae.config.sample_size
        return max(1, min(MAX_DECODED, MAX_DECODED_PIXELS // side**2))

    @property
    def nbytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.vae.parameters())

    def encode(self, pixels: Tensor) -> Tensor:
        parts = [self.vae.encode(part).latent_dist.mode() for part in self._given(pixels).split(self.rows)]
        return (torch.cat(parts).to(self._wide) - self._shift) * self.vae.config.scaling_factor

    def decode(self, x: Tensor) -> Tensor:
        x = x.to(self._wide) / self.vae.config.scaling_factor + self._shift
        return torch.cat([self._decoded(part) for part in x.split(self.rows)])

    def derivative(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Of `decode` at x (1, C, h, w): changes of x (n, C, h, w) to those of the pixels; see `core.linearised`. Its
        weights are shared with the autoencoder's where that works in float32."""
        dtype = self._wide
        same = self.vae.dtype == dtype
        shared: dict[int, Any] = {id(p): p for p in self.vae.parameters()} if same else {}
        decoder, post = copy.deepcopy((self.vae.decoder, self.vae.post_quant_conv), shared)
        for module in (decoder, post):
            if module is not None and not same:
                nn.Module.to(module, dtype)
        linear = Linearisation([module for module in (decoder, post) if module is not None])
        point = x.detach().to(self.vae.device, dtype) / self.vae.config.scaling_factor + self._shift

        def decoded(z: Tensor) -> Tensor:
            return decoder(z if post is None else post(z))

        def product(dx: Tensor) -> Tensor:
            changes = dx.to(dtype) / self.vae.config.scaling_factor
            made = [linear.apply(partial(decoded, part)) for part in changes.split(self.rows)]
            return torch.cat(made).to(dx.dtype)

        linear.record(partial(decoded, point))

        return product

    def _decoded(self, z: Tensor) -> Tensor:
        pixels = self.vae.decode(self._given(z)).sample.to(self._wide)
        if self.vae.dtype == torch.float16 and not finite(pixels):
            nn.Module.to(self.vae, torch.float32)  # it may overflow in half precision where the U-Net does not
            pixels = self.vae.decode(z.to(self.vae.device)).sample.float()
        require_finite(pixels, dtype=self.vae.dtype)
        return pixels

    def _given(self, values: Tensor) -> Tensor:
        return values.to(self.vae.device, self.vae.dtype)

    @property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self.vae.dtype, torch.float32)

    @property
    def _shift(self) -> float:
        return self.vae.config.shift_factor or 0.0


@dataclass(frozen=True)
class TextToImage:
    """A frozen text-to-image model. The network runs in `dtype`, the sampler around it in the latents' own precision.

    fingerprint: of the network's weights; tells whether a saved inversion was made with them. rows: latents per network
    call, at most. evaluations: of the network since this object was made (`counting` makes one that starts at zero).
    """

    id: str
    unet: UNet2DConditionModel
    codec: Autoencoder
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    schedule: Schedule
    fingerprint: str
    rows: int = 8
    evaluations: Evaluations = field(default_factory=Evaluations, compare=False)

    @classmethod
    def from_pipeline(
        cls, pipeline: StableDiffusionPipeline, model_id: str, fingerprint: str, rows: int = 8
    ) -> TextToImage:
        """The parts of a pipeline, frozen, with attention that prompt-to-prompt can take hold of."""
        for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            nn.Module.requires_grad_(module.eval(), False)
        control_attention(pipeline.unet)
        return cls(
            model_id,
            pipeline.unet,
            Autoencoder(pipeline.vae),
            pipeline.text_encoder,
            pipeline.tokenizer,
            Schedule.from_scheduler(pipeline.scheduler),
            fingerprint,
            rows,
        )

    def counting(self, evaluations: Evaluations | None = None) -> TextToImage:
        """The same model with another counter, which starts at zero unless one is given."""
        return replace(self, evaluations=evaluations or Evaluations())

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self.unet.config.in_channels, self.unet.config.sample_size, self.unet.config.sample_size

    @property
    def text_shape(self) -> tuple[int, int]:
        """(L, E)."""
        return self.length, self.unet.config.cross_attention_dim

    @property
    def resolution(self) -> int:
        """Side of its pictures in pixels."""
        return self.unet.config.sample_size * 2 ** (len(self.codec.vae.config.block_out_channels) - 1)

    # ------------------------------------------------------------------------------------------------------ network

    def eps(
        self,
        x: Tensor,
        t: int | Sequence[int],
        text: Tensor,
        control: StepControl | None = None,
        delta_h: Tensor | RowShifts | None = None,
    ) -> Tensor:
        """Predicted noise (B, C, h, w) in x's precision, differentiable in x, text and delta_h.

        x: (B, C, h, w). t: one timestep for all rows, or one per row. text: (B, L, E), or (1, L, E) for all rows.
        control: of attention maps; the rows then stay together in one call. delta_h: shift of h, of each row or (1,
        ...) for all of them; or directions, which may follow each row's own h, at one timestep for all rows.

        Raises:
            ResourceError: out of memory, even with one row per call.
        """
        text = text.expand(len(x), -1, -1)
        timesteps = [t] * len(x) if isinstance(t, int) else list(t)
        with explain_memory_errors(FEWER_PROMPTS):
            if isinstance(delta_h, Tensor):
                delta_h = delta_h.expand(len(x), -1, -1, -1)
            if control is not None:
                return self._eps(x, timesteps, text, control, delta_h)
            parts = [slice(i, i + self.rows) for i in range(0, len(x), self.rows)]
            shifts = [_of_rows(delta_h, part) for part in parts]
            return torch.cat(
                [
                    self._fitting(x[part], timesteps[part], text[part], shift)
                    for part, shift in zip(parts, shifts, strict=True)
                ]
            )

    def guided(
        self,
        x: Tensor,
        t: int | Sequence[int],
        text: Tensor,
        unconditional: Tensor,
        guidance: float | Tensor,
        control: StepControl | None = None,
        strength: Tensor | None = None,
        shifts: RowShifts | None = None,
    ) -> Tensor:
        """Classifier-free guidance, eps(x, 0) + G (eps(x, C) - eps(x, 0)) (latent-TOP Eq. 6).

        One evaluation per row is enough with G = 1, or where the two texts are the same.

        t: one for all rows, or one per row. text, unconditional: (B or 1, L, E). guidance: one for all rows,
        or (B, 1, 1, 1). strength: (B, 1, 1, 1), how far eps(x, C) goes from that of the first row's text to that of the
        row's own, which takes one evaluation more of every row between them; None: all the way. shifts: of h. With
        guidance they act beside it, by what they change of eps(x, 0), which takes one evaluation more of every row that
        is shifted: guidance would multiply what they do to eps(x, C) and not to eps(x, 0), and break pictures.
        """
        text, unconditional = (value.expand(len(x), -1, -1) for value in (text, unconditional))
        if bool((torch.as_tensor(guidance) == 1).all()) or torch.equal(text, unconditional):
            return self._towards(self.eps(x, t, text, control, shifts), x, t, text[:1], strength, shifts)
        both = torch.cat((unconditional, text))
        twice = t if isinstance(t, int) else [*t, *t]
        eps_null, eps_text = self.eps(torch.cat((x, x)), twice, both, control).chunk(2)
        eps_source = eps_null if torch.equal(unconditional, text[:1].expand_as(text)) else None
        guided = eps_null + guidance * (self._towards(eps_text, x, t, text[:1], strength, None, eps_source) - eps_null)
        rows = [] if shifts is None else shifts.rows
        if shifts is None or not rows:
            return guided
        times = t if isinstance(t, int) else [t[row] for row in rows]
        shifted = self.eps(x[rows], times, unconditional[rows], None, shifts.select(rows))
        return guided.index_add(0, torch.tensor(rows, device=guided.device), shifted - eps_null[rows])

    def _towards(
        self,
        eps: Tensor,
        x: Tensor,
        t: int | Sequence[int],
        source: Tensor,
        strength: Tensor | None,
        shifts: RowShifts | None = None,
        eps_source: Tensor | None = None,
    ) -> Tensor:
        """eps(x, source) + s (eps - eps(x, source)). source: (1, L, E). shifts: of h, in all of them. eps_source:
        eps(x, source), if it is known."""
        if strength is None:
            return eps
        rows = ((strength != 0) & (strength != 1)).flatten().nonzero().flatten().tolist()
        if not rows:
            return eps
        times = t if isinstance(t, int) else [t[row] for row in rows]
        own = None if shifts is None else shifts.select(rows)
        start = self.eps(x[rows], times, source, None, own) if eps_source is None else eps_source[rows]
        eps = eps.clone()
        eps[rows] = start + strength[rows].to(eps) * (eps[rows] - start)
        return eps

    def _fitting(self, x: Tensor, timesteps: list[int], text: Tensor, delta_h: Tensor | RowShifts | None) -> Tensor:
        """Halves the batch for as long as it does not fit."""
        try:
            return self._eps(x, timesteps, text, None, delta_h)
        except (torch.OutOfMemoryError, MemoryError):
            if len(x) == 1:
                raise
        half = len(x) // 2
        parts = (slice(half), slice(half, None))
        return torch.cat(
            [self._fitting(x[part], timesteps[part], text[part], _of_rows(delta_h, part)) for part in parts]
        )

    def _eps(
        self,
        x: Tensor,
        timesteps: list[int],
        text: Tensor,
        control: StepControl | None,
        delta_h: Tensor | RowShifts | None = None,
    ) -> Tensor:
        arguments: dict[str, Any] = {} if control is None else {"cross_attention_kwargs": {"control": control}}

        def asked() -> Tensor:
            if delta_h is not None:
                split = SplitConditionalUNet(self.unet)
                features = split.encode(
                    x.to(self.device, self.dtype), timesteps, text.to(self.device, self.dtype), control
                )
                shift = delta_h.delta_h(features) if isinstance(delta_h, RowShifts) else delta_h
                return split.decode(features, None if shift is None else shift.to(features.h), control)
            return self.unet(
                x.to(self.device, self.dtype),
                torch.tensor(timesteps, device=self.device),
                encoder_hidden_states=text.to(self.device, self.dtype),
                **arguments,
            ).sample

        output = asked()
        half = self.dtype in (torch.float16, torch.bfloat16)
        if half and not finite(output):
            log.warning("%s computed values that are not numbers in %s: from here on float32", self.id, self.dtype)
            nn.Module.to(self.unet, torch.float32)
            output = asked()
        if not finite(output) and finite(x, text):  # else an optimiser tries what diverges, and takes it back
            require_finite(output, dtype=self.dtype)
        self.evaluations.forward += len(x)
        if output.requires_grad:
            output.register_hook(lambda gradient: self.evaluations.count_backward(len(gradient)))
        output = output.to(x.dtype)
        one = len(set(timesteps)) == 1
        return self.schedule.eps_from_output(output, x, timesteps[0] if one else timesteps)

    # ------------------------------------------------------------------------------------------ pictures and prompts

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, R, R) in [-1, 1] to latents (B, C, h, w), float32."""
        with explain_memory_errors(FEWER_PROMPTS):
            return self.codec.encode(pixels)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Latents (B, C, h, w) to pixels (B, 3, R, R) in [-1, 1], float32."""
        with explain_memory_errors(FEWER_PROMPTS):
            return torch.cat([self.codec.decode(part).clamp(-1, 1) for part in x.split(self.rows)])

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings (B, L, E) of prompts, float32. What does not fit in L tokens is cut off (see `words_cut`).

        What is written is words, whatever it looks like: where a tokenizer pads with "!", as that of Stable Diffusion
        2.1, an exclamation mark would otherwise become padding, which the network was not trained to read as one.
        """
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
            split_special_tokens=True,
        )
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0].to(self.device, torch.float32)

    @property
    def length(self) -> int:
        """L, tokens of a prompt with its beginning and end."""
        return self.tokenizer.model_max_length

    def token_counts(self, words: Sequence[str]) -> list[int]:
        """How many tokens each word has."""
        return [
            len(self.tokenizer(word, add_special_tokens=False, split_special_tokens=True).input_ids) for word in words
        ]

    def words_cut(self, prompt: str) -> str:
        """The words at the end of a prompt that the model does not read; "" if it reads all."""
        left = self.length - 2
        words = prompt.split()
        for i, count in enumerate(self.token_counts(words)):
            left -= count
            if left < 0:
                return " ".join(words[i:])
        return ""


def _of_rows(delta_h: Tensor | RowShifts | None, rows: slice) -> Tensor | RowShifts | None:
    return delta_h.select(rows) if isinstance(delta_h, RowShifts) else None if delta_h is None else delta_h[rows]


# --------------------------------------------------------------------------------------------------------- models by id


def text_to_image_card(model_id: str) -> TextToImageCard:
    """Raises RequestError: there is no such model."""
    if model_id not in TEXT_TO_IMAGE:
        raise RequestError(f"There is no model {model_id!r}. Choose one of: {', '.join(TEXT_TO_IMAGE)}.")
    return TEXT_TO_IMAGE[model_id]


def missing_words(card: TextToImageCard) -> str:
    """What to do about an embedded model that did not come with this copy; "" if it is there."""
    if not isinstance(card.source, Embedded) or (card.source.folder / "unet").is_dir():
        return ""
    others = " or ".join(other.title for other in TEXT_TO_IMAGE.values() if not isinstance(other.source, Embedded))
    return (
        f"“{card.title}” is not part of this copy: {card.source.path} has no network. Get a copy of the app that "
        f"has it, train it (the README says how), or choose {others}, which are downloaded on first use and need a GPU."
    )


def load_text_to_image(card: TextToImageCard) -> TextToImage:
    """A card's model, kept once loaded. Raises ModelUnavailable."""
    if words := missing_words(card):
        raise ModelUnavailable(words)
    loaded = pipelines.get(card.id)
    return TextToImage.from_pipeline(loaded.pipeline, card.id, loaded.fingerprint)
