"""The weights a run trains: loaded as its settings say, with an adapter or without, saved as the engine serves them.

A child of an adapter goes on training a copy of that adapter. Where all weights are trained, the parent's adapter is
first merged into a folder of its own, which TRL then loads as the reference: it is the parent, not the base.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)

from alignment.methods.base import ATTENTION, Inputs, TunedMethod
from alignment.methods.processes import everybody_is_here, first_process, sharded
from alignment.run_directory import MODEL
from labeling.engines.model_folder import write_base_mark
from storage.errors import RunFailed

MERGED = "merged_parent"


def load(method: TunedMethod, inputs: Inputs) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model to train, and the tokenizer with the version's own template."""
    tokenizer = load_tokenizer(inputs)
    model = AutoModelForCausalLM.from_pretrained(base_of(method, inputs), **loading(method))
    model = let_gradients_through(model)
    if inputs.parent.adapter_path and method.tuning != "full":
        model = PeftModel.from_pretrained(model, inputs.parent.adapter_path, is_trainable=True)
    return model, tokenizer


def load_tokenizer(inputs: Inputs) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(inputs.parent.base_path)
    tokenizer.chat_template = inputs.parent.template
    return tokenizer


def loading(method: TunedMethod) -> dict[str, Any]:
    """How the weights are held: halved where they are frozen on a GPU, squeezed to 4 bits for QLoRA, whole otherwise.

    All weights are trained in float32: the small steps of full fine-tuning are lost in half precision.
    """
    if method.tuning == "qlora":
        return _squeezed()
    halved = torch.cuda.is_available() and method.tuning != "full"
    return {"dtype": torch.bfloat16 if halved else torch.float32}


def _squeezed() -> dict[str, Any]:
    """Double quantisation to NormalFloat (arXiv:2305.14314)."""
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    place = int(os.environ.get("LOCAL_RANK", "0")) if on_gpu else "cpu"
    return {"dtype": dtype, "quantization_config": config, "device_map": {"": place}}


def let_gradients_through(model: Any) -> Any:
    """On a processor, bitsandbytes repacks squeezed weights at the first evaluation for a kernel without a gradient."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def base_of(method: TunedMethod, inputs: Inputs) -> str:
    """The folder whose weights are trained upon: the parent's base, or base and adapter merged for full fine-tuning."""
    if method.tuning != "full" or inputs.parent.adapter_path is None:
        return inputs.parent.base_path
    folder = inputs.folder / MERGED
    if first_process():
        base: Any = AutoModelForCausalLM.from_pretrained(inputs.parent.base_path, dtype=torch.float32)
        PeftModel.from_pretrained(base, inputs.parent.adapter_path).merge_and_unload().save_pretrained(folder)
    everybody_is_here()
    return str(folder)


def lora(method: TunedMethod, model: Any, **further: Any) -> LoraConfig:
    """Every linear layer but the head unless the settings say otherwise, no dropout: what vLLM serves as it is."""
    given = {"task_type": "CAUSAL_LM", "r": method.lora_rank, "lora_alpha": method.lora_alpha, "lora_dropout": 0.0}
    given |= further
    if method.target_modules == "all-linear" and method.layers == "all":
        return LoraConfig(**given, target_modules="all-linear")
    layers = model.config.get_text_config().num_hidden_layers
    upper = list(range(layers // 2, layers)) if method.layers == "upper half" else None
    return LoraConfig(**given, target_modules=adapted(method, model), layers_to_transform=upper)


def adapted(method: TunedMethod, model: Any) -> list[str]:
    """The names of the matrices that get an adapter, without the layer they are in: q_proj, for instance."""
    linear = [name.split(".") for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    in_layers = [path for path in linear if any(part.isdigit() for part in path)]
    if method.target_modules == "attention":
        in_layers = [path for path in in_layers if any(word in part for part in path[:-1] for word in ATTENTION)]
    return sorted({path[-1] for path in in_layers})


def is_adapter(model: Any) -> bool:
    return isinstance(model, PeftModel)


def context_of(model: Any) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def save(trainer: Any, tokenizer: PreTrainedTokenizerBase, inputs: Inputs) -> None:
    """The trained adapter without its reference, or the whole model. Raises RunFailed where it holds no numbers."""
    refuse_no_numbers(trainer.model)
    model, folder = trainer.accelerator.unwrap_model(trainer.model), inputs.folder / MODEL
    weights = {"state_dict": trainer.accelerator.get_state_dict(trainer.model_wrapped)} if sharded() else {}
    if not first_process():
        return
    shutil.rmtree(folder, ignore_errors=True)
    if is_adapter(model):
        model.save_pretrained(str(folder), selected_adapters=["default"], **weights)
        write_base_mark(folder, inputs.parent.base_path)
    else:
        kept_as = AutoConfig.from_pretrained(inputs.parent.base_path).dtype
        model.to(kept_as or model.dtype).save_pretrained(str(folder), **weights)
        tokenizer.save_pretrained(str(folder))
    shutil.rmtree(inputs.folder / MERGED, ignore_errors=True)


def refuse_no_numbers(model: Any) -> None:
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    if not all(torch.isfinite(parameter).all() for parameter in trained):
        raise RunFailed(
            "The trained weights hold values that are not numbers: the model fell apart. Lower the learning rate and "
            "run again."
        )
