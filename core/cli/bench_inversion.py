"""Inversion methods on PIE-Bench, or on any folder of pictures, prompts and masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import RequestError, quoted
from .output import Commands, command, print_note
from .recipes import tell

METHODS = ("direct", "anchored")  # the one with a published figure to compare with, and ours


def add_to(commands: Commands) -> None:
    bench = command(
        commands,
        "bench-inversion",
        bench_inversion,
        "Inversion methods with prompt-to-prompt on PIE-Bench: its measures and its table. What is done stays, and the "
        "same command goes on. Several processes: accelerate launch -m hspace bench-inversion ...",
    )
    bench.add_argument("--data", type=Path, required=True, help="PIE-Bench's folder, or one with a CSV file")
    bench.add_argument("--out", type=Path, default=Path("pie-bench"), help="where results are kept (pie-bench)")
    bench.add_argument("--methods", nargs="*", metavar="METHOD", help=f"of inversion ({', '.join(METHODS)})")
    bench.add_argument("--model", help="a listed model, a repository on the Hub or a folder (Stable Diffusion 1.4)")
    bench.add_argument(
        "--results", nargs="+", default=[], metavar="NAME=FOLDER", help="results made elsewhere, measured as well"
    )
    bench.add_argument("--kinds", nargs="+", default=[], metavar="TYPE", help="of edits, 0 to 9 (all)")
    bench.add_argument("--limit", type=int, help="so many edits, the first")
    bench.add_argument("--steps", type=int, help="of inversion and of edits (50)")
    bench.add_argument("--guidance", type=float, help="of edits (7.5)")
    bench.add_argument("--seed", type=int, help="anew before each edit (1234)")
    bench.add_argument("--attention", choices=["refine", "swap", "none"], help="of prompt-to-prompt (refine)")
    bench.add_argument("--cross-steps", type=float, help="share of the steps with the source's cross-attention (0.4)")
    bench.add_argument("--self-steps", type=float, help="share of the steps with its self-attention (0.6)")
    bench.add_argument("--reweight", type=float, help="of the attention to the blended word (2)")
    bench.add_argument(
        "--jpeg", action="store_true", help="keep and measure results as JPEG, as PnPInversion's script does"
    )
    bench.add_argument("--dino", help="folder or repository of DINO ViT-B/8")
    bench.add_argument("--clip", help="folder or repository of CLIP ViT-L/14")
    bench.add_argument(
        "--share", metavar="K/N", help="only the K-th of N shares, for a job array; without it the shares are joined"
    )


def bench_inversion(options: argparse.Namespace) -> None:
    from ..models.placing import best_device
    from ..pie_bench import data, model, networks, running
    from ..recipes.team import join_team, read_share

    team = join_team(read_share(options.share))
    names = ("steps", "guidance", "seed", "attention", "cross_steps", "self_steps", "reweight", "jpeg")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    settings, results = running.EditSettings(**given), parsed_results(options.results)
    methods = options.methods if options.methods is not None else [] if results else list(METHODS)

    benchmark = data.read(options.data, options.kinds)
    if options.limit is not None:
        benchmark = data.Benchmark(benchmark.entries[: max(1, options.limit)], benchmark.left_out)
    if team.main:
        for id_, why in benchmark.left_out.items():
            print_note(f"{id_} is left out: {why}")
    running.require_known(methods)
    judges = networks.load(best_device(), options.dino or networks.DINO, options.clip or networks.CLIP)
    loaded = model.load(options.model or model.STABLE_DIFFUSION_1_4) if methods else None
    job = running.run(benchmark, options.out, methods, loaded, judges, settings, results, team)
    outcome = tell(job, team.main)
    if team.main:
        print((options.out / running.TABLE).read_text())
        print_note(f"One row per picture is in {options.out / running.CSV}.")
        outcome.require_complete()


def parsed_results(texts: list[str]) -> dict[str, Path]:
    """NAME=FOLDER as name -> folder. Raises RequestError."""
    found: dict[str, Path] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if not name or not folder or not Path(folder).is_dir():
            raise RequestError(f"--results {quoted(text)} is not understood: give a name and a folder, NAME=FOLDER.")
        found[name] = Path(folder)
    return found
