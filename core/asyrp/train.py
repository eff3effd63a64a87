"""Training a direction from a text pair (Asyrp, Algorithm 2), implicit or global.

Everything that does not depend on the direction is computed once: the source trajectory's predicted images and their
CLIP embeddings. `Sources` can be shared by many trainings. A `Training` can be stopped, asked for its direction,
saved, and run on.
"""

from collections.abc import Sequence
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


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. The defaults are the paper's, except for those marked *.

    form: "implicit" (f_t) or "global" (one delta_h, optimised directly; the fast way). steps: S. samples, epochs: how
    many latents, how often. l_clip, l_recon: coefficients of Eq. 7, by default Table 3's. t_edit: last timestep that is
    edited, by default from the model's curves (section 4.1). t_start*: the first, by default T; a part that takes shape
    late is better left alone while hair and colours do. batch*: latents per optimiser step. rate*: of Adam, for a
    global direction in units of the RMS of h. loss: Eq. 4 or the released code's. augment*: amount of shift (pixels at
    128) and noise of the view that CLIP gets, 0 for none; it makes the direction of dI meaningful when dI is small.
    strengths*: of which every batch gets one in turn, a negative one with the text direction reversed. The paper trains
    at 1 alone and extrapolates; a direction that has seen -1 and 2 stays among the faces there.
    """

    form: Literal["implicit", "global"] = "implicit"
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


MAX_HALF = torch.finfo(torch.float16).max
RATE = {"implicit": 1e-3, "global": 2e-2}


@dataclass(frozen=True)
class Sources:
    """Latents and what their unedited trajectories look like from T down to t_edit.

    x_T: (N, C, h, w). timesteps: (K,), descending. P: (K, N, 3, H, W) float16, predicted images at each timestep.
    h_rms: (K,), root mean square of h at each timestep.
    """

    x_T: Tensor
    steps: int
    timesteps: list[int]
    P: Tensor
    h_rms: list[float]


CHUNK = 8  # latents whose trajectories are computed together

# Of a chunk of n latents: predicted images (K, n, 3, H, W) float16, and the mean squares of h (K, n).
Part = tuple[Tensor, Tensor]


def source_trajectories(
    model: DiffusionModel,
    x_T: Tensor,
    steps: int,
    t_edit: int,
    chunk: int | None = None,
    begun: list[Part] | None = None,
) -> Job[Sources]:
    """The unedited half of Algorithm 2 (lines 14 and 16), for x_T (N, C, h, w) at S = steps.

    begun: the chunks that are done, to which the others are added; with them it goes on from where it was stopped.
    """
    chunk, parts = chunk or CHUNK, [] if begun is None else begun
    timesteps = [t for t in reversed(model.schedule.timesteps(steps)) if t >= t_edit]
    for start in range(chunk * len(parts), len(x_T), chunk):
        x, P, squares = x_T[start : start + chunk].to(model.device), [], []
        for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
            with torch.no_grad():
                features = model.features(x, t)
                squares.append(features.h.float().square().mean((1, 2, 3)).cpu())
                eps = model.eps(features, x, t)
                require_finite(eps)
                P_t = model.codec.decode(model.schedule.predicted_x0(x, eps, t))
                P.append(P_t.clamp(-MAX_HALF, MAX_HALF).half().cpu())  # next to noise alone 1 / sqrt(a_t) is in the 1e4
                x = model.schedule.reverse_step(x, eps, eps, t, t_prev)
            if k + 1 < len(timesteps):
                yield Progress(start, len(x_T), "preparing")
        parts.append((torch.stack(P), torch.stack(squares)))
        done = min(start + chunk, len(x_T))
        if done < len(x_T):
            yield Progress(done, len(x_T), "preparing", P[-1].float(), kept=True)
    yield Progress(len(x_T), len(x_T), "preparing")
    return joined_sources(x_T, steps, timesteps, parts)


def joined_sources(x_T: Tensor, steps: int, timesteps: list[int], parts: Sequence[Part]) -> Sources:
    """The trajectories of x_T (N, C, h, w) from those of its chunks, which may go on further down."""
    K = len(timesteps)
    P = torch.cat([P[:K] for P, _ in parts], 1)
    h_rms = torch.cat([squares[:K] for _, squares in parts], 1).mean(1).sqrt().tolist()
    return Sources(x_T, steps, timesteps, P, h_rms)


_BEGUN = ("model", "image_text", "source", "target", "settings", "x_T", "sources", "wide")  # what a training is


@dataclass
class Training:
    """One training run: `run()` goes on from where it is, within its preparation too; `direction()` is what it has
    learned so far.

    pixels-space previews show the first latents edited at full strength. `x_T`: latents to train on (inverted pictures,
    or None for random ones). `sources`: their trajectories, if already computed; `begun`: the first of them, until all
    are. `wide`: the network computes in float32, as half precision could not hold something.
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
            self.delta: Tensor | None = None
            self.parameters: list[Tensor] = list(self.f_t.parameters())
        else:
            delta = torch.zeros(1, channels, height, width, device=device, requires_grad=True)
            self.f_t, self.delta, self.parameters = None, delta, [delta]
        self.optimiser = torch.optim.Adam(self.parameters, lr=s.rate or RATE[s.form], betas=(0.9, 0.99))
        self.E_source: Tensor | None = None
        self.E_rows: list[Tensor] = []  # of the first timesteps, until all are there
        self.x_start: Tensor | None = None

    @property
    def unprepared(self) -> int:
        """Latents whose trajectories are still to be computed."""
        n = self.settings.samples if self.x_T is None else len(self.x_T)
        return 0 if self.sources is not None else n - sum(P.shape[1] for P, _ in self.begun)

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run."""
        s = self.settings
        x_T = self.x_T if self.sources is None else self.sources.x_T
        n = s.samples if x_T is None else len(x_T)
        return s.epochs * -(-n // s.batch) * len(self.timesteps)

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
        assert self.delta is not None
        return GlobalDirection(self.delta.detach().cpu().clone(), steps, self.settings.t_start)

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
            "prepared": (self.E_source, self.x_start, self.begun, self.E_rows),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(zip(_BEGUN, state["begun"], strict=True))
        self.__post_init__()
        self.load_state_dict(state["learned"])
        self.E_source, self.x_start, self.begun, self.E_rows = state["prepared"]

    def prepare(self) -> Job[Sources]:
        """Source trajectories and their embeddings, if they are not there yet; what is there of them is used."""
        s = self.settings
        if self.sources is None:
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
        if s.form == "global":  # the rate is relative to the size of what is shifted
            rms = sum(self.sources.h_rms[first : first + count]) / count
            self.optimiser.param_groups[0]["lr"] = (s.rate or RATE[s.form]) * rms
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
        delta_h = self.delta if self.f_t is None else self.f_t(features.h.to(dtype), features.emb.to(dtype))
        strength, sources, E_source = self.strength, self.sources, self.E_source
        assert delta_h is not None and sources is not None and E_source is not None  # it is prepared  # noqa: PT018
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


def mean_direction(
    model: DiffusionModel, direction: ImplicitDirection, x_T: Tensor, t_edit: int
) -> PerTimestepDirection:
    """dh_mean (Appendix L.1): the mean of delta_h_t over the latents x_T (N, C, h, w) along their edited trajectories,
    at every timestep of the direction's S >= t_edit. 20 latents suffice according to the paper."""
    schedule = model.schedule
    timesteps = [t for t in reversed(schedule.timesteps(direction.steps)) if t >= t_edit]
    known = [t for t in timesteps if direction.acts_at(t)]
    if not known:
        raise RequestError(
            f"This direction does nothing at noise levels from {t_edit} up. Let it act further down: a smaller end of "
            "the editing interval (t_edit)."
        )
    there = direction.to(model.device)
    x, means = x_T.to(model.device), []
    with torch.no_grad():
        for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
            features = model.features(x, t)
            eps_P = eps = model.eps(features, x, t)
            if direction.acts_at(t):
                delta_h = there.delta_h(features.h.float(), features.emb.float(), t)
                means.append(delta_h.mean(0).cpu())
                eps_P = model.eps(features, x, t, delta_h)
            x = schedule.reverse_step(x, eps_P, eps, t, t_prev)
    return PerTimestepDirection(torch.tensor(known[::-1]), torch.stack(means[::-1]), direction.steps, direction.t_start)


def global_direction(mean: PerTimestepDirection) -> GlobalDirection:
    """dh_global (Appendix L.1): the mean of dh_mean over the timesteps of the editing interval."""
    return GlobalDirection(mean.deltas.mean(0, keepdim=True), mean.steps, mean.t_start)


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
