"""Training a direction from a text pair (Asyrp, Algorithm 2): implicit, global or one shift per timestep.

Everything that does not depend on the direction is computed once: the source trajectory's predicted images and their
CLIP embeddings. `Sources` can be shared by many trainings. A `Training` can be stopped, asked for its direction,
saved, and run on.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clip import ImageText
from ..delta_block import DeltaBlock
from ..directions import Direction, GlobalDirection, ImplicitDirection, PerTimestepDirection
from ..editing import sample_latent
from ..errors import RequestError
from ..finite import finite, require_finite
from ..group_norm import quick_group_norm
from ..models.loader import DiffusionModel
from ..progress import Job, Progress
from ..unet import Features
from .loss import LossForm, asyrp_loss, similarity, text_direction
from .prompts import coefficients, templates
from .sources import Part, Sources, inverted_latents, source_trajectories

TrainedForm = Literal["implicit", "global", "per_timestep"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. The defaults are the paper's, except for those marked *.

    form: "implicit" (f_t), "global" (one delta_h, optimised directly; the fast way) or "per_timestep" (a delta_h_t for
    each timestep, optimised directly: appendix L.2). steps: S. samples, epochs: how many latents, how often. l_clip,
    l_recon: coefficients of Eq. 7, by default Table 3's. t_edit: last timestep that is edited, by default from the
    model's curves (section 4.1). t_start*: the first, by default T; a part that takes shape late is better left alone
    while hair and colours do. batch*: latents per optimiser step. rate*: of Adam; of what is optimised directly in
    units of the RMS of h, for a delta_h_t at its own t (L.2: larger t need higher rates). loss: Eq. 4 or the released
    code's. augment*: amount of shift (pixels at 128) and noise of the view that CLIP gets, 0 for none; it makes the
    direction of dI meaningful when dI is small. strengths*: of which every batch gets one in turn, a negative one with
    the text direction reversed. The paper trains at 1 alone and extrapolates; a direction that has seen -1 and 2 stays
    among the faces there.
    """

    form: TrainedForm = "implicit"
    steps: int = 40
    samples: int = 1000
    epochs: int = 1
    batch: int = 4
    l_clip: float | None = None
    l_recon: float | None = None
    t_edit: int | None = None
    t_start: int | None = None
    rate: float | None = None
    loss: LossForm = "cosine"
    augment: float = 1.0
    strengths: tuple[float, ...] = (1.0,)
    first_seed: int = 10_000

    def __post_init__(self) -> None:
        for name, low, high in (("samples", 1, 100_000), ("epochs", 1, 1000), ("batch", 1, 256), ("steps", 2, 1000)):
            if not low <= getattr(self, name) <= high:
                raise RequestError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}.")
        if not self.strengths or not all(0 < abs(c) <= 10 for c in self.strengths):
            raise RequestError("Train at one strength at least, none of them 0 or beyond 10.")


RATE: dict[TrainedForm, float] = {"implicit": 1e-3, "global": 2e-2, "per_timestep": 1e-1}


# What a training is.
_BEGUN = ("model", "image_text", "source", "target", "settings", "x_T", "pixels", "sources", "wide")


@dataclass
class Training:
    """One training run: `run()` goes on from where it is, within its preparation too; `direction()` is what it has
    learned so far.

    pixels-space previews show the first latents edited at full strength. `x_T`: latents to train on; `pixels`: pictures
    (N, 3, R, R) to invert for them (`inverted`: the first ones, until all are); random ones if both are None.
    `sources`: their trajectories, if already computed; `begun`: the first of them, until all are. `wide`: the network
    computes in float32, as half precision could not hold something.
    """

    model: DiffusionModel
    image_text: ImageText
    source: str
    target: str
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    x_T: Tensor | None = None
    sources: Sources | None = None
    step: int = 0
    losses: list[float] = field(default_factory=list)
    begun: list[Part] = field(default_factory=list)
    wide: bool = False
    pixels: Tensor | None = None
    inverted: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        s, card = self.settings, self.model.card
        self.dT = text_direction(self.image_text, self.source, self.target, templates(card))
        paper = coefficients(self.source, self.target)
        self.similarity = similarity(self.image_text, self.source, self.target)
        self.l_clip = paper.l_clip if s.l_clip is None else s.l_clip
        recon = 3 * max(self.similarity, 0.0) if paper.l_recon is None else paper.l_recon
        self.l_recon = recon if s.l_recon is None else s.l_recon
        self.t_edit = card.known_or_typical().t_edit(self.similarity) if s.t_edit is None else s.t_edit
        down = [t for t in reversed(self.model.schedule.timesteps(s.steps)) if t >= self.t_edit]
        self.timesteps = [t for t in down if s.t_start is None or t <= s.t_start]
        self.before = down[: len(down) - len(self.timesteps)]  # where nothing is edited yet
        if not self.timesteps:
            raise RequestError(
                f"No step of the process lies where edits act, at noise levels from {self.t_edit} up. Let them act "
                "further down: a smaller end of the editing interval (t_edit)."
            )
        channels, height, width = card.h_shape
        device = self.model.device
        if s.form == "implicit":
            emb_width = self.model.unet.unet.time_embedding.linear_2.out_features
            self.f_t: DeltaBlock | None = DeltaBlock(channels, emb_width).to(device)
            self.parameters: list[Tensor] = list(self.f_t.parameters())
        else:
            shape, count = (1, channels, height, width), 1 if s.form == "global" else len(self.timesteps)
            self.f_t = None
            self.parameters = [torch.zeros(shape, device=device, requires_grad=True) for _ in range(count)]
        groups = [self.parameters] if s.form == "implicit" else [[delta] for delta in self.parameters]
        rate = s.rate or RATE[s.form]
        self.optimiser = torch.optim.Adam([{"params": group} for group in groups], lr=rate, betas=(0.9, 0.99))
        self.E_source: Tensor | None = None
        self.E_rows: list[Tensor] = []  # of the first timesteps, until all are there
        self.x_start: Tensor | None = None

    @property
    def unprepared(self) -> int:
        """Latents whose trajectories are still to be computed."""
        return 0 if self.sources is not None else self._latents - sum(P.shape[1] for P, _ in self.begun)

    @property
    def to_invert(self) -> int:
        """Pictures that are still to be inverted."""
        waits = self.pixels is not None and self.x_T is None and self.sources is None
        return self._latents - sum(map(len, self.inverted)) if waits else 0

    @property
    def _latents(self) -> int:
        known = (self.x_T if self.sources is None else self.sources.x_T, self.pixels)
        return next((len(some) for some in known if some is not None), self.settings.samples)

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run."""
        s = self.settings
        return s.epochs * -(-self._latents // s.batch) * len(self.timesteps)

    @property
    def delta(self) -> Tensor | None:
        """The one shift of a global direction."""
        return self.parameters[0] if self.settings.form == "global" else None

    @property
    def strength(self) -> float:
        """Of the current batch."""
        strengths = self.settings.strengths
        return strengths[self.step // len(self.timesteps) % len(strengths)]

    def direction(self) -> Direction:
        """What has been learned so far, as a copy."""
        steps = self.settings.steps
        if self.f_t is not None:
            f_t = DeltaBlock(self.f_t.conv1.in_channels, self.f_t.temb_proj.in_features)
            f_t.load_state_dict({name: value.detach().cpu().clone() for name, value in self.f_t.state_dict().items()})
            return ImplicitDirection(f_t.eval().requires_grad_(False), steps, self.settings.t_start)
        deltas = torch.cat([delta.detach().cpu() for delta in self.parameters])
        if self.settings.form == "global":
            return GlobalDirection(deltas, steps, self.settings.t_start)
        return PerTimestepDirection(torch.tensor(self.timesteps[::-1]), deltas.flip(0), steps, self.settings.t_start)

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs to run on; plain tensors and numbers."""
        parameters = [p.detach().clone() for p in self.parameters]
        return {
            "step": self.step,
            "losses": list(self.losses),
            "parameters": parameters,
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a run that was saved (same model, texts and settings)."""
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(saved)
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.losses = state["step"], list(state["losses"])

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which goes on from here, on whatever device it has."""
        return {
            "begun": tuple(getattr(self, name) for name in _BEGUN),
            "learned": self.state_dict(),
            "prepared": (self.E_source, self.x_start, self.begun, self.E_rows, self.inverted),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(zip(_BEGUN, state["begun"], strict=True))
        self.__post_init__()
        self.load_state_dict(state["learned"])
        self.E_source, self.x_start, self.begun, self.E_rows, self.inverted = state["prepared"]

    def prepare(self) -> Job[Sources]:
        """Source trajectories and their embeddings, if they are not there yet; what is there of them is used."""
        s = self.settings
        if self.sources is None:
            if self.x_T is None and self.pixels is not None:
                self.x_T = yield from inverted_latents(self.model, self.pixels, s.steps, self.inverted)
                self.inverted = []
            x_T = sample_latent(self.model, s.first_seed, s.samples).x_T if self.x_T is None else self.x_T
            self.sources = yield from source_trajectories(self.model, x_T, s.steps, self.t_edit, begun=self.begun)
            self.begun = []
        first, count = len(self.before), len(self.timesteps)
        if self.sources.steps != s.steps or len(self.sources.timesteps) < first + count:
            raise ValueError("the source trajectories were made with other steps or a higher t_edit")
        if self.E_source is None:
            n = len(self.sources.x_T)
            for P in self.sources.P[first + len(self.E_rows) : first + count]:
                with torch.no_grad():
                    row = torch.cat([self.image_text.embed_images(part.float()) for part in P.split(64)])
                self.E_rows.append(row)
                yield Progress(n, n, "preparing", kept=True)
            self.E_source, self.E_rows = torch.stack(self.E_rows), []
        if self.x_start is None:
            self.x_start = torch.cat([self.unedited(x) for x in self.sources.x_T.split(8)])
        if s.form != "implicit":  # the rate is relative to the size of what is shifted
            rms = self.sources.h_rms[first : first + count]
            sizes = [sum(rms) / count] if s.form == "global" else rms
            for group, size in zip(self.optimiser.param_groups, sizes, strict=True):
                group["lr"] = (s.rate or RATE[s.form]) * size
        return self.sources

    @torch.no_grad()
    def unedited(self, x: Tensor) -> Tensor:
        """x_T (B, C, h, w) at the first timestep of the editing interval."""
        x = x.to(self.model.device)
        for t, t_prev in pairwise([*self.before, self.timesteps[0]]):
            eps = self.model.eps(self.model.features(x, t), x, t)
            x = self.model.schedule.reverse_step(x, eps, eps, t, t_prev)
        return x

    def run(self) -> Job[Direction]:
        """Algorithm 2, one optimiser step per timestep and batch of latents. Returns the direction.

        Stop consuming to cancel; `direction()` has what was learned until then.
        """
        s = self.settings
        sources = yield from self.prepare()
        n, K = len(sources.x_T), len(self.timesteps)
        batches, total = -(-n // s.batch), self.total
        assert self.x_start is not None  # it is prepared
        while self.step < total:
            epoch, batch = divmod(self.step // K, batches)
            order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch))
            rows = order[batch * s.batch : (batch + 1) * s.batch]
            x = self.x_start[rows].to(self.model.device)
            for k, t_prev in enumerate([*self.timesteps[1:], -1]):
                x, P, loss = self.optimise(x, rows, k, t_prev)
                self.losses.append(loss)
                if k < K - 1:
                    yield Progress(self.step + k + 1, total, "training", loss=loss)
            self.step += K
            note = "training" if self.step < total else "done"
            yield Progress(self.step, total, note, P.clamp(-1, 1), loss, kept=True)
        return self.direction()

    def loss_at(self, x: Tensor, features: Features, rows: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Lines 13, 14 and 17 at timestep k of the editing interval: (loss, P in network space, P as pixels).

        x: the edited x_t (B, C, h, w) of the latents `rows`, `features` its encoding. Differentiable in `parameters`.
        """
        model, t = self.model, self.timesteps[k]
        dtype = self.parameters[0].dtype
        if self.f_t is not None:
            delta_h = self.f_t(features.h.to(dtype), features.emb.to(dtype))
        else:
            delta_h = self.parameters[k if self.settings.form == "per_timestep" else 0]
        strength, sources, E_source = self.strength, self.sources, self.E_source
        assert sources is not None and E_source is not None  # it is prepared  # noqa: PT018
        P_x = model.schedule.predicted_x0(x, model.eps(features, x, t, strength * delta_h), t)
        P_edit = model.codec.decode(P_x)
        loss = asyrp_loss(
            P_edit,
            sources.P[len(self.before) + k, rows].to(P_edit),
            E_source[k, rows].to(P_edit.device),
            self.dT if strength > 0 else -self.dT,
            self.image_text,
            self.l_clip,
            self.l_recon,
            self.settings.loss,
            seen=augmented(P_edit, self.settings.augment, self.step * 1000 + k),
        )
        return loss, P_x, P_edit

    def optimise(self, x: Tensor, rows: Tensor, k: int, t_prev: int) -> tuple[Tensor, Tensor, float]:
        """One gradient step at timestep k (lines 12 to 18), from the first one that half precision cannot hold on in
        float32. x: the edited x_t. Returns x_prev, P in pixels, loss.

        Raises:
            NumberError: it has values that are not numbers in float32 too.
        """
        model, schedule, t = self.model, self.model.schedule, self.timesteps[k]
        with torch.no_grad():
            features = model.features(x, t, self.wide)
            eps = model.eps(features, x, t)
        self.wide |= features.h.dtype != model.unet.dtype
        network = model.unet.in_float32() if self.wide else model.unet
        with quick_group_norm(network.unet):
            loss, P_x, P_edit = self.loss_at(x, features, rows, k)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if not finite(loss, norm) and network is not model.unet.in_float32():
            self.wide = True
            return self.optimise(x, rows, k, t_prev)
        require_finite(loss, norm)
        self.optimiser.step()
        x_prev = schedule.alpha(t_prev) ** 0.5 * P_x.detach() + schedule.direction_term(eps, t, t_prev)
        return x_prev, P_edit.detach(), float(loss.detach())


def augmented(pixels: Tensor, amount: float, seed: int) -> Tensor:
    """A view of pixels (B, 3, H, W): shifted by up to 4 x amount pixels of 128, in two of three cases blurred by
    averaging 2x2 or 3x3 pixels, with noise of standard deviation up to 0.15 x amount. A change that survives it is one
    that can be seen, not one that only the image-text model sees."""
    if amount <= 0:
        return pixels
    generator = torch.Generator().manual_seed(seed)
    scale = pixels.shape[-1] / 128
    reach = max(1, round(4 * amount * scale))
    ranges = ((-reach, reach + 1), (-reach, reach + 1), (1, 4))
    dx, dy, blur = (int(torch.randint(*bounds, (), generator=generator)) for bounds in ranges)
    padded = F.pad(pixels, (reach,) * 4, mode="replicate")
    height, width = pixels.shape[-2:]
    view = padded[..., reach + dy : reach + dy + height, reach + dx : reach + dx + width]
    if blur > 1:
        side = max(1, round(blur * scale))
        view = F.avg_pool2d(F.pad(view, (side // 2, (side - 1) // 2) * 2, mode="replicate"), side, stride=1)
    sigma = 0.15 * amount * float(torch.rand((), generator=generator))
    return view + sigma * torch.randn(view.shape, generator=generator).to(view)


def train_direction(
    model: DiffusionModel,
    image_text: ImageText,
    source: str,
    target: str,
    settings: TrainingSettings = TrainingSettings(),
    x_T: Tensor | None = None,
) -> Job[Direction]:
    """A whole training as one job. Keep a `Training` to cancel without losing the work."""
    return (yield from Training(model, image_text, source, target, settings, x_T).run())
