"""Small unconditional models with random weights in the layouts that are met on the Hub and on disks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, LDMPipeline, UNet2DModel, VQModel
from model_folders import names_of_2022
from openai_unet import Settings, random_weights
from safetensors.torch import save_file
from small_models import small_unet

from core.models.conversion import convert_file

STEM = "diffusion_pytorch_model"
ADM = Settings(model_channels=32, mult=(1, 1, 2), attention=(4,), head_channels=16)


def google_2022(folder: Path) -> None:
    """All files in one folder, weights as .bin under the names of 2022, a configuration that clips."""
    unet = small_unet(channels=3, size=32)
    unet.save_config(folder)
    DDPMScheduler(beta_schedule="linear", clip_sample=True).save_config(folder)
    torch.save(names_of_2022(unet.state_dict()), folder / f"{STEM}.bin")
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def subfolders(folder: Path) -> None:
    """As diffusers writes a pipeline today, with weights in half precision beside the others, and other files."""
    pipeline = DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler(prediction_type="epsilon"))
    pipeline.save_pretrained(folder)
    half = {name: value.half() for name, value in pipeline.unet.state_dict().items()}
    save_file(half, folder / "unet" / f"{STEM}.fp16.safetensors")
    torch.save(pipeline.unet.state_dict(), folder / "unet" / f"{STEM}.bin")
    (folder / "unet" / "optimizer.bin").write_bytes(b"\0" * 1000)
    (folder / "samples").mkdir()
    (folder / "samples" / "0000.png").write_bytes(b"\0" * 1000)


def only_half(folder: Path) -> None:
    """Subfolders, half precision and nothing else; predicts v."""
    pipeline = DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler(prediction_type="v_prediction"))
    pipeline.save_pretrained(folder, variant="fp16")
    file = folder / "unet" / f"{STEM}.fp16.safetensors"
    save_file({name: value.half() for name, value in pipeline.unet.state_dict().items()}, file)


def shards(folder: Path) -> None:
    """A network in several files; predicts the picture."""
    pipeline = DDPMPipeline(small_unet(channels=3, size=32), DDIMScheduler(beta_start=0.02, prediction_type="sample"))
    pipeline.save_pretrained(folder)
    (folder / "unet" / f"{STEM}.safetensors").unlink()
    pipeline.unet.save_pretrained(folder / "unet", max_shard_size="100KB")
    assert len(list((folder / "unet").glob(f"{STEM}-*.safetensors"))) > 1


def half_shards(folder: Path) -> None:
    """Half precision in several files and nothing else, as diffusers writes and calls them."""
    pipeline = DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler())
    pipeline.save_pretrained(folder)
    (folder / "unet" / f"{STEM}.safetensors").unlink()
    pipeline.unet.half().save_pretrained(folder / "unet", variant="fp16", max_shard_size="100KB")
    assert len(list((folder / "unet").glob(f"{STEM}.fp16-*.safetensors"))) > 1


def gray(folder: Path) -> None:
    """A network of pictures without colour, as of handwritten digits, whose size is a pair."""
    unet = small_unet(channels=1, size=(32, 32))
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)


def latent(folder: Path) -> None:
    """A latent diffusion model with a VQ autoencoder that halves pictures, attention under the names of 2022."""
    unet = small_unet(channels=3, size=16)
    scheduler = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False)
    LDMPipeline(small_vq(), unet, scheduler).save_pretrained(folder)
    for part, network in (("unet", unet), ("vqvae", small_vq())):
        (folder / part / f"{STEM}.safetensors").unlink()
        torch.save(names_of_2022(network.state_dict()), folder / part / f"{STEM}.bin")
    config = json.loads((folder / "vqvae" / "config.json").read_text())
    del config["scaling_factor"]  # the file of CompVis is older than that
    (folder / "vqvae" / "config.json").write_text(json.dumps(config))


def small_vq() -> VQModel:
    torch.manual_seed(1)
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        num_vq_embeddings=64,
        norm_num_groups=8,
    ).eval()


def converted(folder: Path) -> None:
    """An ADM checkpoint, converted by this app: a learned variance, scale-shift norms."""
    torch.save(random_weights(ADM), folder.parent / "adm.pt")
    shutil.rmtree(folder, ignore_errors=True)
    convert_file(folder.parent / "adm.pt", folder, head_channels=16, domain_word="dog", curves="AFHQ")


def wide_attention(folder: Path) -> None:
    """A community network: attention everywhere with many heads, centred input, 32 pixels."""
    torch.manual_seed(2)
    unet = UNet2DModel(
        sample_size=32,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D"),
        center_input_sample=True,
    )
    DDPMPipeline(unet, DDPMScheduler(beta_schedule="squaredcos_cap_v2")).save_pretrained(folder)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "flat, 2022": google_2022,
    "subfolders": subfolders,
    "only half precision": only_half,
    "shards": shards,
    "half precision in shards": half_shards,
    "gray": gray,
    "latent, VQ": latent,
    "converted ADM": converted,
    "attention everywhere": wide_attention,
}


def make(layout: str, folder: Path) -> Path:
    """The folder, filled."""
    folder.mkdir(parents=True)
    LAYOUTS[layout](folder)
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
