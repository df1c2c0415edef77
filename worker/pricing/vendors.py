"""A provider id of the proxy → whose price lists hold for what it serves (pure)."""

from __future__ import annotations

import re
from typing import NamedTuple

NATIVE = {
    "claude": "anthropic",
    "codex": "openai",
    "openai": "openai",
    "gemini": "google",
    "gemini-cli": "google",
    "gemini-interactions": "google",
    "interactions": "google",
    "aistudio": "google",
    "vertex": "google",
    "antigravity": "google",
    "kimi": "moonshotai",
    "xai": "x-ai",
    "grok": "x-ai",
}
"""Providers that the proxy speaks to in their own protocol, and whose list of the dataset is theirs."""

COMPATIBLE = re.compile(r"openai-compatible-(.+)", re.DOTALL)

MAKERS = ("anthropic", "openai", "google", "x-ai", "moonshotai", "deepseek", "zai", "zhipuai", "minimax", "mistral",
          "meta", "cohere", "perplexity", "cursor")  # fmt: skip
"""Vendors that price the models they make: where the provider has no list, its model's maker has one."""

LISTED = (
    *MAKERS, "arcee", "avian", "aws", "azure", "baseten", "cerebras", "cloudflare", "databricks",
    "doubleword", "elevenlabs", "fireworks", "github-copilot", "groq", "modal", "novita", "openrouter", "ovhcloud",
    "openai-decisions", "quicksilverpro", "together", "typesafe", "voyageai", "huggingface_cerebras",
    "huggingface_fireworks-ai", "huggingface_groq", "huggingface_hyperbolic", "huggingface_nebius",
    "huggingface_novita", "huggingface_nscale", "huggingface_ovhcloud", "huggingface_publicai",
    "huggingface_sambanova", "huggingface_together",
)  # fmt: skip
"""Vendors that have a list of their own: what it lacks, they do not serve at another's price."""

ALSO_CALLED = {
    "amazonbedrock": "aws", "awsbedrock": "aws", "bedrock": "aws", "azureopenai": "azure", "copilot": "github-copilot",
    "fireworksai": "fireworks", "togetherai": "together", "moonshot": "moonshotai", "mistralai": "mistral",
    "bigmodel": "zhipuai", "zhipu": "zhipuai", "vertexai": "google", "novitaai": "novita", "workersai": "cloudflare",
}  # fmt: skip

LOCAL = re.compile(
    r"local|ollama|vllm|lmstudio|llamacpp|llamafile|sglang|koboldcpp|tabbyapi|textgeneration|oobabooga|gpt4all|mlx"
    r"|loopback|12700\d|selfhost"
)
"""Names of servers that run on a machine of one's own. Nobody has a price list for these."""

SEPARATORS = re.compile(r"[\W_]+")


class Lists(NamedTuple):
    """Whose lists of the dataset hold, the first that has the model; beyond the first they are a guess."""

    vendor: str
    """Whose list it is that serves the model; empty where nobody knows."""
    others: tuple[str, ...]
    """Whose may stand in for it: the makers of models."""


NONE = Lists("", ())


def lists(provider: str) -> Lists:
    """Return whose lists hold for a provider id of the proxy; empty in a snapshot, where it is not told.

    A provider of the proxy's own protocols may be pointed at another address, so that the makers' lists stand in. A
    relay that is named like a vendor with a list has that one and no other; one that is named like a local server has
    none.
    """
    provider = provider.lower().strip()
    native = NATIVE.get(provider)
    if native is not None:
        return Lists(native, tuple(maker for maker in MAKERS if maker != native))
    compatible = COMPATIBLE.fullmatch(provider)
    name = SEPARATORS.sub("", compatible[1] if compatible else provider)
    own = _BY_NAME.get(name)
    if own is not None:
        return Lists(own, ())
    return NONE if LOCAL.search(name) else Lists("", MAKERS)


def is_router(vendor: str) -> bool:
    """Say whether a vendor's free models are marked by their names."""
    return vendor == "openrouter"


_BY_NAME = ALSO_CALLED | {SEPARATORS.sub("", vendor): vendor for vendor in LISTED}
