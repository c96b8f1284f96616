"""Tiny models with vision and random weights, of layouts that reading models have, and their export. Needs torch."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GemmaTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

# Weights of 4 bits come in groups of 128.
WIDTH, LAYERS, CONTEXT = 128, 2, 32_768
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
}
GEMMA_CONTROL = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
QWEN_CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT = (
    "{{% for m in messages %}}{start}{{{{ m.role }}}}\n{{% if m.content is string %}}{{{{ m.content }}}}{{% else %}}"
    "{{% for part in m.content %}}{{% if part.type == 'image' %}}{image}{{% else %}}{{{{ part.text }}}}{{% endif %}}"
    "{{% endfor %}}{{% endif %}}{end}\n{{% endfor %}}{{% if add_generation_prompt %}}{start}{model}\n{{% endif %}}"
)


def write_gemma3(folder: Path, lines: Sequence[str]) -> None:
    """Writes a checkpoint of a Gemma 3 with vision, MedGemma's layout. It writes these lines, each a token, without an end."""
    space = "\N{LOWER ONE EIGHTH BLOCK}"
    tokens = [
        *GEMMA_CONTROL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *(line.replace(" ", space) for line in lines),
    ]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    whole = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    whole.normalizer = normalizers.Replace(" ", space)
    whole.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = GemmaTokenizerFast(
        tokenizer_object=whole,
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
    )
    chat = "{{ bos_token }}" + CHAT.format(
        start="<start_of_turn>", image="<start_of_image>", end="<end_of_turn>", model="model"
    )
    config = Gemma3Config(
        text_config={**TEXT, "vocab_size": len(tokens), "head_dim": 64, "sliding_window": 1024},
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
        boi_token_index=GEMMA_CONTROL.index("<start_of_image>"),
        eoi_token_index=GEMMA_CONTROL.index("<end_of_image>"),
        image_token_index=GEMMA_CONTROL.index("<image_soft_token>"),
        bos_token_id=GEMMA_CONTROL.index("<bos>"),
        eos_token_id=GEMMA_CONTROL.index("<eos>"),
        pad_token_id=GEMMA_CONTROL.index("<pad>"),
    )
    torch.manual_seed(5)
    model = Gemma3ForConditionalGeneration(config).eval()
    _random(model, len(tokens) - len(lines))
    model.generation_config.eos_token_id = [
        GEMMA_CONTROL.index("<eos>"),
        GEMMA_CONTROL.index("<end_of_turn>"),
    ]
    # As MedGemma's: what an engine does if it does not ask for the likeliest token.
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    images = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=chat).save_pretrained(folder)


def write_qwen2_5_vl(folder: Path, lines: Sequence[str]) -> None:
    """Writes a checkpoint of a Qwen2.5-VL, as `write_gemma3`."""
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    coded = [letters.pre_tokenize_str(line)[0][0] for line in lines]
    tokens = [*QWEN_CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *coded]
    whole = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    whole.pre_tokenizer = letters
    whole.decoder = decoders.ByteLevel()
    tokenizer = Qwen2TokenizerFast(
        tokenizer_object=whole,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        additional_special_tokens=list(QWEN_CONTROL[1:]),
    )
    chat = CHAT.format(
        start="<|im_start|>", image="<|vision_start|><|image_pad|><|vision_end|>", end="<|im_end|>", model="assistant"
    )
    number = QWEN_CONTROL.index
    config = Qwen2_5_VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(tokens),
            "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
            "bos_token_id": number("<|endoftext|>"),
            "eos_token_id": number("<|im_end|>"),
        },
        vision_config={
            "depth": LAYERS,
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_heads": 4,
            "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [1],
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(7)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    _random(model, len(tokens) - len(lines))
    model.generation_config.eos_token_id = [number("<|im_end|>"), number("<|endoftext|>")]
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), chat_template=chat)
    processor.save_pretrained(folder)


def _random(model: Any, never: int) -> None:
    """Sharp enough for single tokens to matter, also those of the image. The first `never` tokens are not written."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1:
                # Words weigh little, so that a model does not only repeat the last one.
                weights.normal_(0, 0.05 if "embed_tokens" in name else 0.2)
            elif "q_norm" in name or "k_norm" in name:
                weights.fill_(2)
        model.get_output_embeddings().weight[:never] *= 0.05


def export(checkpoint: Path, folder: Path) -> None:
    """Exports a checkpoint as docs/read.md says."""
    command = [sys.executable, str(Path(sys.executable).with_name("optimum-cli")), "export", "openvino"]
    command += ["--model", str(checkpoint), "--task", "image-text-to-text", "--weight-format", "int4", str(folder)]
    subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=True, capture_output=True)
