"""Null-text inversion done plainly: the loop of its authors' notebook (google/prompt-to-prompt, null_text_w_ptp.ipynb,
`NullInversion.null_optimization`), which `race` of `benchmarks.inversion` runs against.

It updates before it looks whether that is needed, keeps the last embedding and not the best, and computes both
predictions again for the step. `core.inversion.null_text` is the same method with that mended.
"""

import torch
from torch.nn import functional as F

from core.inversion.solution import InversionMethod, Solution, Task
from core.inversion.trajectory import ddim_trajectory, reverse_steps
from core.progress import Job

EPSILON = 1e-5


def invert(task: Task) -> Job[Solution]:
    """Their names; i counts from T down."""
    model, steps, guidance = task.model, task.settings.steps, task.settings.guidance
    latents = yield from ddim_trajectory(task)
    latent_cur, uncond_embeddings = latents[-1:], task.empty
    trajectory, uncond_embeddings_list = [latent_cur], []
    for i in range(steps):
        level = steps - 1 - i
        t, latent_prev = task.levels[level + 1], latents[level : level + 1]
        uncond_embeddings = uncond_embeddings.clone().detach().requires_grad_(True)
        optimizer = torch.optim.Adam([uncond_embeddings], lr=1e-2 * (1.0 - i / 100.0))
        with torch.no_grad():
            noise_pred_cond = model.eps(latent_cur, t, task.text)
        for _ in range(task.settings.iterations):
            with torch.enable_grad():
                noise_pred_uncond = model.eps(latent_cur, t, uncond_embeddings)
                noise_pred = noise_pred_uncond + guidance * (noise_pred_cond - noise_pred_uncond)
                loss = F.mse_loss(reverse_steps(task, latent_cur, noise_pred, [level]), latent_prev)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            if loss.item() < EPSILON + i * 2e-5:
                break
        uncond_embeddings = uncond_embeddings.detach()
        with torch.no_grad():
            noise_pred = model.guided(latent_cur, t, task.text, uncond_embeddings, guidance)
            latent_cur = reverse_steps(task, latent_cur, noise_pred, [level])
        trajectory.append(latent_cur)
        uncond_embeddings_list.append(uncond_embeddings)
        yield task.event(i + 1, steps, "optimising", latent_cur, loss.item())
    return Solution(torch.cat(trajectory[::-1]), guidance, torch.cat(uncond_embeddings_list[::-1]))


METHOD = InversionMethod("null-text as released", "Null-text as released", "Null-text as its authors wrote it.", invert)
