"""The text half of the avatars' image-text model in transformers' form: the same numbers behind `CLIPTextModel`.

Stable Diffusion reads its prompts with CLIP's text encoder; `avatars-t2i` begins with that of `avatars`, which knows
the captions' words already. Layer for layer the two forms compute the same (pre-norm blocks, exact GELU, causal mask,
final norm), so the conversion only renames and splits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from open_clip import CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
_RENAMED = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def convert_tokenizer(merges: Path, context: int) -> CLIPTokenizer:
    """CLIP's tokenizer with the merges of an embedded image-text model, up to `context` tokens, padded with the end
    token as in Stable Diffusion 1."""
    source = SimpleTokenizer(bpe_path=str(merges))
    *pieces, _, _ = sorted(source.encoder, key=source.encoder.__getitem__)
    vocabulary = {piece: i for i, piece in enumerate([*pieces, BEGIN, END])}
    ranked = sorted(source.bpe_ranks, key=source.bpe_ranks.__getitem__)
    return CLIPTokenizer(vocab=vocabulary, merges=ranked, model_max_length=context)


def convert_text_model(clip: CustomTextCLIP) -> CLIPTextModel:
    """The text tower without its projection: `last_hidden_state` (B, L, width) is what a U-Net attends to.

    Raises:
        RuntimeError: a tower with parts that CLIP's does not have.
    """
    tower = clip.text
    width, layers = tower.width, len(tower.transformer.resblocks)
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tower.vocab_size,
            hidden_size=width,
            intermediate_size=tower.transformer.resblocks[0].mlp.c_fc.out_features,
            num_hidden_layers=layers,
            num_attention_heads=tower.heads,
            max_position_embeddings=tower.context_length,
            hidden_act="gelu",
            bos_token_id=tower.vocab_size - 2,
            eos_token_id=tower.vocab_size - 1,
            pad_token_id=tower.vocab_size - 1,
        )
    )
    state = {
        "embeddings.token_embedding.weight": tower.token_embedding.weight,
        "embeddings.position_embedding.weight": tower.positional_embedding,
        "final_layer_norm.weight": tower.ln_final.weight,
        "final_layer_norm.bias": tower.ln_final.bias,
    }
    for i, block in enumerate(tower.transformer.resblocks):
        for name, value in block.state_dict().items():
            state |= {f"encoder.layers.{i}.{n}": v for n, v in _converted(name, value).items()}
    model.load_state_dict({name: value.detach().float().clone() for name, value in state.items()})
    return model


def _converted(name: str, value: Tensor) -> dict[str, Tensor]:
    part, _, kind = name.rpartition(".")
    if part == "attn" and kind.startswith("in_proj_"):
        names = (f"self_attn.{p}_proj.{kind.removeprefix('in_proj_')}" for p in "qkv")
        return dict(zip(names, torch.chunk(value, 3), strict=True))
    return {f"{_RENAMED.get(part, part)}.{kind}": value}
