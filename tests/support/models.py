"""Real, tiny transformers checkpoints, made on the spot and equal for equal arguments.

A downloaded model would need the internet, and a fake one would not show whether a checkpoint still
loads and computes the same after it has been through a store.

torch and transformers take seconds to import, so only the functions that need them do it. They go through
``import_module`` because their annotations are incomplete and cost a type checker a minute; what comes
from them is ``Any`` here.
"""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

LAYERS = 8
HEADS = 4
PROMPT = "the old captain reads"
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
WORDS = [
    *PROMPT.split(),
    *("a", "every", "one", "young", "keeper", "gardener", "sailor", "letter", "map", "lantern", "boat"),
    *("writes", "mends", "carries", "slowly", "gladly", "and", "then", "while", "at", "by", "under"),
    *("over", "night", "dawn", "hill", "sea", "rain", "wind", "."),
]
TENSOR = "model.layers.0.self_attn.v_proj.weight"


def tiny_llama(directory: Path, *, megabytes: int = 25, shards: int = 4, seed: int = 0) -> Path:
    """Write a complete float32 Llama checkpoint with a fast tokenizer to ``directory`` and return it.

    The size comes out within a few per cent. Shards are cut between tensors, so a large ``shards`` for a
    small model yields fewer than asked.
    """
    model = _llama(megabytes * 1_000_000, seed)
    total = model.num_parameters() * 4
    largest = max(parameter.numel() for parameter in model.parameters()) * 4
    # A shard is closed by the tensor that no longer fits. With room for one more than its fair share, no
    # shard falls short of that share, so there is no small remainder to spill into an extra one.
    model.save_pretrained(directory, max_shard_size=math.ceil(total / shards) + largest)
    _tokenizer().save_pretrained(directory)
    return directory


def _llama(size: int, seed: int) -> Any:
    torch, transformers = import_module("torch"), import_module("transformers")
    # A layer has four square projections and three to or from the doubled width: 10 * width**2 weights.
    width = round(math.sqrt(size / (4 * 10 * LAYERS)) / 8) * 8
    config = transformers.LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=128,
        # Far from the usual 0.02: near-uniform scores would make rounding, not weights, pick the words.
        initializer_range=0.5,
        bos_token_id=SPECIAL.index("<s>"),
        eos_token_id=SPECIAL.index("</s>"),
        pad_token_id=SPECIAL.index("<pad>"),
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config)


def _tokenizer() -> Any:
    transformers = import_module("transformers")
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=128,
    )


def text_pipeline(directory: Path) -> Any:
    """Load the checkpoint in ``directory`` as a text-generation pipeline on the CPU."""
    transformers = import_module("transformers")
    return transformers.pipeline("text-generation", model=str(directory), device="cpu")


def generate(subject: Any) -> str:
    """A short greedy continuation, to compare two copies of a model by what they compute.

    A pipeline yields words, which takes its tokenizer into account; a bare model yields token ids.
    """
    torch, transformers = import_module("torch"), import_module("transformers")
    greedy = transformers.GenerationConfig(
        do_sample=False, min_new_tokens=12, max_new_tokens=12, pad_token_id=SPECIAL.index("<pad>")
    )
    if isinstance(subject, transformers.Pipeline):
        return str(subject(PROMPT, generation_config=greedy)[0]["generated_text"])
    prompt = torch.tensor([[len(SPECIAL) + WORDS.index(word) for word in PROMPT.split()]])
    tokens = subject.generate(prompt, generation_config=greedy)[0]
    return " ".join(str(token) for token in tokens.tolist())


def change_one_tensor(directory: Path) -> Path:
    """Negate one tensor of the checkpoint in place, and return the only file that changed."""
    safetensors = import_module("safetensors.torch")
    index = directory / "model.safetensors.index.json"
    name = json.loads(index.read_text())["weight_map"][TENSOR] if index.exists() else "model.safetensors"
    tensors = safetensors.load_file(directory / name)
    changed = {**tensors, TENSOR: -tensors[TENSOR]}
    safetensors.save_file(changed, directory / name, metadata={"format": "pt"})
    return directory / name
