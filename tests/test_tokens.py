"""Reported token counts → counts that exclude one another: every convention, every era, and what contradicts itself."""

from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from worker.usage.tokens import NOTHING, Normalised, Reported, TokenConvention, convention, normalise

steady = settings(derandomize=True, deadline=None, max_examples=200)
FAMILIES = get_args(TokenConvention)
counts = st.integers(0, 100_000)
small = st.integers(0, 3)  # small numbers agree by chance often enough


def reported(input=0, output=0, reasoning=0, cached=0, total=0, read=None, write=None):  # noqa: A002  # as in a payload
    return Reported(input, output, reasoning, cached, total, read, write)


def any_report(numbers):
    return st.builds(
        Reported, numbers, numbers, numbers, numbers, numbers, st.none() | numbers, st.none() | numbers
    )  # fmt: skip


# -- each row of the table, before and after the versions that changed it ------------------------------------------


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        pytest.param(
            reported(5800, 414, 256, 4096, 6214), Normalised(1704, 4096, 0, 414, 0), id="before v7.0.3: only `cached`"
        ),
        pytest.param(
            reported(5800, 414, 256, 4096, 6214, 0, 0),
            Normalised(1704, 4096, 0, 414, 0),
            id="v7.0.3 to v7.2.66: the count of reads is there and stays 0",
        ),
        pytest.param(
            reported(5800, 414, 256, 4096, 6214, 0, 700),
            Normalised(1004, 4096, 700, 414, 0),
            id="v7.2.56: writes are told, within input",
        ),
        pytest.param(
            reported(5800, 414, 256, 4096, 6214, 4096, 700),
            Normalised(1004, 4096, 700, 414, 0),
            id="v7.2.67: reads are told too",
        ),
        pytest.param(
            reported(100, 50, 20, 0, 170), Normalised(100, 0, 0, 50, 0), id="a total that counts reasoning again"
        ),
        pytest.param(reported(100, 50, 20, 40, 0), Normalised(60, 40, 0, 50, 0), id="no total"),
        pytest.param(reported(total=512), Normalised(0, 0, 0, 0, 512), id="nothing but a total"),
        pytest.param(reported(input=100, total=160), Normalised(100, 0, 0, 0, 60), id="input and a larger total"),
        pytest.param(reported(output=30, total=160), Normalised(0, 0, 0, 30, 130), id="output and a larger total"),
        pytest.param(reported(100, 100, 100, 100, 200), Normalised(0, 100, 0, 100, 0), id="all of it from the cache"),
    ],
)
def test_openai_input_holds_the_cache_and_output_holds_reasoning(told, meant):
    assert normalise(told, "subset") == meant


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        pytest.param(
            reported(12, 1000, 0, 48213, 1012),
            Normalised(12, 48213, 0, 1000, 0),
            id="before v7.0.3: `cached` stands for reads",
        ),
        pytest.param(
            reported(12, 1000, 0, 48213, 1012, 48213, 2048),
            Normalised(12, 48213, 2048, 1000, 0),
            id="v7.0.3 to v7.1.25: both are told, the total leaves them out",
        ),
        pytest.param(
            reported(12, 1000, 0, 2048, 1012, 0, 2048),
            Normalised(12, 0, 2048, 1000, 0),
            id="v7.0.3: `cached` repeats the writes where nothing was read",
        ),
        pytest.param(
            reported(12, 1000, 0, 48213, 51273, 48213, 2048),
            Normalised(12, 48213, 2048, 1000, 0),
            id="v7.1.26: the total holds them",
        ),
        pytest.param(
            reported(12, 1000, 300, 48213, 51273, 48213, 2048),
            Normalised(12, 48213, 2048, 1000, 0),
            id="v7.2.117: thinking is told, within output",
        ),
        pytest.param(reported(12, 1000, 0, 48213), Normalised(12, 48213, 0, 1000, 0), id="no total"),
    ],
)
def test_claude_input_leaves_the_cache_out(told, meant):
    assert normalise(told, "independent") == meant


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        pytest.param(reported(2500, 300, 500, 0, 3300), Normalised(2500, 0, 0, 800, 0), id="before v6.6.52: no cache"),
        pytest.param(reported(2500, 300, 500, 1000, 3300), Normalised(1500, 1000, 0, 800, 0), id="before v7.0.3"),
        pytest.param(
            reported(2500, 300, 500, 1000, 3300, 0, 0), Normalised(1500, 1000, 0, 800, 0), id="v7.0.3 to v7.2.66"
        ),
        pytest.param(reported(2500, 300, 500, 1000, 3300, 1000, 0), Normalised(1500, 1000, 0, 800, 0), id="v7.2.67"),
        pytest.param(
            reported(2500, 300, 500, 1000, 3300, 1000, 200), Normalised(1300, 1000, 200, 800, 0), id="with writes"
        ),
        pytest.param(reported(2500, 300, 500, 1000), Normalised(1500, 1000, 0, 800, 0), id="no total"),
    ],
)
def test_gemini_output_leaves_reasoning_out(told, meant):
    assert normalise(told, "separate_reasoning") == meant


@pytest.mark.parametrize("total", [150, 0])
def test_an_unknown_family_is_read_where_every_family_would_say_the_same(total):
    assert normalise(reported(100, 50, total=total), "unknown") == Normalised(100, 0, 0, 50, 0)


@pytest.mark.parametrize(
    "told",
    [
        reported(100, 50, 20),
        reported(100, 50, 20, 0, 170),
        reported(100, 50, 0, 30, 150),
        reported(100, 50, 0, 0, 150, 30, 0),
        reported(100, 50, 0, 0, 150, 0, 30),
        reported(100, 50, 0, 0, 151),
    ],
    ids=[
        "reasoning without a total",
        "reasoning that a proxy may have counted again",
        "cached",
        "reads",
        "writes",
        "another total",
    ],
)
def test_an_unknown_family_is_not_guessed(told):
    assert normalise(told, "unknown") == Normalised(0, 0, 0, 0, told.total or 150)


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        pytest.param(reported(100, 50, 20, 0, 150), Normalised(100, 0, 0, 50, 0), id="reasoning inside output"),
        pytest.param(reported(100, 50, 20, 0, 170), Normalised(100, 0, 0, 70, 0), id="reasoning beside output"),
        pytest.param(reported(100, 50, 0, 0, 180, 20, 10), Normalised(100, 20, 10, 50, 0), id="cache beside input"),
    ],
)
def test_an_unknown_family_is_read_where_its_total_leaves_one_reading(told, meant):
    assert normalise(told, "unknown", filled_in=False) == meant


GROK = reported(10120, 1499, 2809, 128, 14428, 128, 0)
IN_AND_BESIDE = reported(500, 300, 200, 0, 1000, 0, 0)


@pytest.mark.parametrize(
    ("of", "told", "filled_in", "meant"),
    [
        pytest.param("beside", GROK, False, Normalised(9992, 128, 0, 4308, 0), id="xAI: chat completions"),
        pytest.param("beside", GROK, True, Normalised(9992, 128, 0, 4308, 0), id="xAI: by an older proxy"),
        pytest.param("beside", IN_AND_BESIDE, True, Normalised(500, 0, 0, 500, 0), id="xAI: a total is always told"),
        pytest.param("beside", reported(500, 300, 200, 0, 800), False, Normalised(500, 0, 0, 300, 0),
                     id="xAI: responses, where reasoning is in output"),
        pytest.param("beside", reported(500, 300, 200), True, Normalised(0, 0, 0, 0, 800), id="xAI: no total"),
        pytest.param("subset", IN_AND_BESIDE, False, Normalised(500, 0, 0, 500, 0), id="the vendor's own total"),
        pytest.param("subset", IN_AND_BESIDE, True, Normalised(500, 0, 0, 300, 0), id="OpenAI: the proxy's total"),
        pytest.param("subset", GROK, True, Normalised(9992, 128, 0, 4308, 0), id="more reasoning than output holds"),
        pytest.param("compatible", IN_AND_BESIDE, False, Normalised(500, 0, 0, 500, 0), id="anyone's own total"),
        pytest.param("compatible", IN_AND_BESIDE, True, Normalised(0, 0, 0, 0, 1000), id="anyone's or the proxy's"),
        pytest.param("compatible", GROK, True, Normalised(9992, 128, 0, 4308, 0), id="cannot be in output"),
        pytest.param("hidden", reported(9, 3, 0, 0, 105), True, Normalised(9, 0, 0, 96, 0), id="Gemini: untold"),
        pytest.param("hidden", reported(21, 0, 60, 0, 81), False, Normalised(21, 0, 0, 60, 0), id="Gemini: told"),
        pytest.param("hidden", reported(9, 3, 0, 0, 12), False, Normalised(9, 0, 0, 3, 0), id="Gemini: no thinking"),
        pytest.param("hidden", reported(total=105), False, Normalised(0, 0, 0, 0, 105), id="Gemini: only a total"),
        pytest.param("compatible", reported(9, 3, 0, 0, 105), False, Normalised(0, 0, 0, 0, 105), id="who knows what"),
        pytest.param("beside", reported(500, 300, 200, 0, 900), False, Normalised(0, 0, 0, 0, 900), id="neither"),
    ],
)  # fmt: skip
def test_over_openais_protocol_the_total_tells_where_reasoning_stands(of, told, filled_in, meant):
    assert normalise(told, of, filled_in=filled_in) == meant


@steady
@given(any_report(small), st.sampled_from(FAMILIES), st.booleans())
def test_no_reported_output_is_dropped_without_a_mark(told, of, filled_in):
    parts = normalise(told, of, filled_in=filled_in)
    assert parts.unclassified or parts.billed_output >= max(told.output, told.reasoning)
    inside = told.total == told.input + told.output
    once = of in {"subset", "independent", "unknown"} and (filled_in or told.total == 0 or of == "independent")
    if not parts.unclassified and told.reasoning and not inside and not once:
        assert parts.billed_output >= told.output + told.reasoning


# -- contradictions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "told", "everything"),
    [
        pytest.param("subset", reported(100, 50, 0, 101, 150), 150, id="subset: more cached than input"),
        pytest.param("subset", reported(100, 50, 0, 60, 150, 60, 41), 150, id="subset: more cached and written"),
        pytest.param("subset", reported(100, 50, 51, 0, 150), 150, id="subset: more reasoning than output"),
        pytest.param("subset", reported(100, 50, 0, 0, 149), 149, id="subset: a smaller total"),
        pytest.param("subset", reported(100, 50, 0, 0, 151), 151, id="subset: a larger total"),
        pytest.param("subset", reported(100, 0, 0, 0, 99), 99, id="subset: a total below the one side there is"),
        pytest.param("independent", reported(12, 50, 51, 0, 62), 62, id="independent: more thinking than output"),
        pytest.param("independent", reported(12, 50, 0, 30, 63, 30, 0), 63, id="independent: half of the cache in"),
        pytest.param("separate_reasoning", reported(10, 5, 5, 11, 20), 20, id="separate: more cached than input"),
        pytest.param("separate_reasoning", reported(10, 5, 5, 0, 15), 15, id="separate: a total without reasoning"),
    ],
)
def test_where_counts_contradict_each_other_the_whole_total_is_unclassified(of, told, everything):
    assert normalise(told, of) == Normalised(0, 0, 0, 0, everything)


@pytest.mark.parametrize(
    ("told", "least"),
    [
        (reported(100, 50, 60), 160),
        (reported(100, 50, 0, 130), 180),
        (reported(100, 50, 60, 130), 190),
        (reported(100, 50, 0, 0, 0, 60, 80), 190),
    ],
    ids=["more reasoning than output", "more cached than input", "both", "more read and written"],
)
def test_a_contradiction_without_a_total_counts_the_least_there_must_have_been(told, least):
    assert normalise(told, "subset") == Normalised(0, 0, 0, 0, least)


# -- what holds for all --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", FAMILIES)
def test_no_tokens_are_no_tokens(of):
    assert normalise(reported(), of) == NOTHING
    assert normalise(reported(read=0, write=0), of) == NOTHING


@steady
@given(any_report(counts) | any_report(small), st.sampled_from(FAMILIES))
def test_no_part_is_ever_negative_and_only_no_tokens_give_nothing(told, of):
    parts = normalise(told, of)
    assert all(part >= 0 for part in parts)
    assert (parts == NOTHING) == (not any(told))


@steady
@given(any_report(small), st.sampled_from(FAMILIES))
def test_either_every_part_is_told_or_everything_is_unclassified(told, of):
    parts = normalise(told, of)
    assume(parts.unclassified)
    whole = parts == Normalised(0, 0, 0, 0, parts.unclassified)
    one_side = (
        of in {"subset", "beside", "hidden", "compatible"}
        and not (told.input and told.output)
        and sum(parts) == told.total
    )
    assert whole or one_side
    if told.total:
        assert sum(parts) == told.total


@steady
@given(counts, counts, counts, counts, st.integers(0, 100_000), st.booleans(), st.booleans())
def test_a_consistent_subset_report_is_split_and_its_parts_sum_to_the_total(
    uncached, read, write, visible, reasoning, split, total
):
    output = visible + reasoning
    told = Reported(
        uncached + read + write, output, reasoning, read, (uncached + read + write + output) * total,
        read if split else None, write if split else None,
    )  # fmt: skip
    known_write = write if split else 0  # before the split, writes pass for plain input
    expected = Normalised(uncached + write - known_write, read, known_write, output, 0)
    assert normalise(told, "subset") == expected
    assert sum(expected) == told.input + told.output


@steady
@given(counts, counts, counts, counts, st.booleans())
def test_a_consistent_claude_report_means_the_same_before_and_after_its_total_held_the_cache(
    uncached, read, write, output, with_reasoning
):
    reasoning = output // 2 if with_reasoning else 0
    cached = read or write
    before = Reported(uncached, output, reasoning, cached, uncached + output, read, write)
    after = before._replace(total=uncached + output + read + write)
    expected = Normalised(uncached, read, write, output, 0)
    assert normalise(before, "independent") == expected
    assert normalise(after, "independent") == expected
    assert sum(expected) == after.total


@steady
@given(counts, counts, counts, counts, st.sampled_from([None, 0, 1]))
def test_a_consistent_gemini_report_is_split_and_its_parts_sum_to_the_total(uncached, read, visible, reasoning, era):
    told = Reported(
        uncached + read, visible, reasoning, read, uncached + read + visible + reasoning,
        read if era == 1 else era, None if era is None else 0,
    )  # fmt: skip
    expected = Normalised(uncached, read, 0, visible + reasoning, 0)
    assert normalise(told, "separate_reasoning") == expected
    assert sum(expected) == told.total


@steady
@given(counts, counts, st.booleans(), st.sampled_from(FAMILIES))
def test_without_cache_and_reasoning_every_family_says_the_same(prompt, output, total, of):
    told = reported(prompt, output, total=(prompt + output) * total)
    assert normalise(told, of) == Normalised(prompt, 0, 0, output, 0)


# -- which family --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "executor", "model", "of"),
    [
        ("claude", "ClaudeExecutor", "claude-sonnet-4-6", "independent"),
        ("anthropic", "", "", "independent"),
        ("gemini", "GeminiExecutor", "", "separate_reasoning"),
        ("gemini-cli", "", "", "separate_reasoning"),
        ("gemini-interactions", "", "", "separate_reasoning"),
        ("vertex", "GeminiVertexExecutor", "", "separate_reasoning"),
        ("aistudio", "AIStudioExecutor", "", "separate_reasoning"),
        ("antigravity", "AntigravityExecutor", "claude-opus-4-6", "separate_reasoning"),
        ("codex", "CodexWebsocketsExecutor", "", "subset"),
        ("openai", "", "", "subset"),
        ("xai", "XAIExecutor", "", "beside"),
        ("grok", "", "", "beside"),
        ("kimi", "KimiExecutor", "", "subset"),
        ("qwen", "", "", "subset"),
        ("openrouter", "", "anthropic/claude-sonnet-4-6", "subset"),
        ("deepseek", "", "", "subset"),
        ("Claude", "", "", "independent"),
        ("  CODEX ", "", "", "subset"),
    ],
)
def test_a_provider_names_its_family(provider, executor, model, of):
    assert convention(provider, executor, model) == of


@pytest.mark.parametrize(
    ("provider", "executor"),
    [
        ("openai-compatible-claude-relay", ""),
        ("openai-compatible-gemini-pool", ""),
        ("openai-compatibility", ""),
        ("OpenAI-Compatible-Claude", "OpenAICompatExecutor"),
        ("claude", "OpenAICompatExecutor"),
        ("gemini-relay", "openaicompatexecutor"),
        ("unknown", "OpenAICompatExecutor"),
    ],
)
def test_an_openai_compatible_provider_counts_as_openai_does_whatever_it_is_called(provider, executor):
    assert convention(provider, executor, "claude-sonnet-4-6") == "subset"


@pytest.mark.parametrize(
    ("model", "of"),
    [
        ("grok-4.5", "beside"),
        ("x-ai/grok-4.5", "beside"),
        ("gemini-2.5-pro", "hidden"),
        ("google/gemini-2.5-pro", "hidden"),
        ("gpt-5", "subset"),
        ("deepseek/deepseek-r1", "subset"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "subset"),
        ("sonar-reasoning-pro", "compatible"),
        ("magistral-medium", "compatible"),
        ("my-own", "compatible"),
        ("unknown", "compatible"),
    ],
)
def test_over_openais_protocol_the_models_maker_names_the_arithmetic(model, of):
    assert convention("openai-compatible-relay", "OpenAICompatExecutor", model) == of


@pytest.mark.parametrize(
    ("provider", "executor", "of"),
    [
        ("my-plugin", "ClaudeExecutor", "independent"),
        ("my-plugin", "AntigravityExecutor", "separate_reasoning"),
        ("my-plugin", "CodexAutoExecutor", "subset"),
        ("unknown", "GeminiExecutor", "separate_reasoning"),
        ("claude", "unknown", "independent"),
    ],
)
def test_an_executor_names_the_family_where_the_provider_does_not(provider, executor, of):
    assert convention(provider, executor, "gpt-5.4") == of


@pytest.mark.parametrize(
    ("model", "of"),
    [
        ("claude-sonnet-4-6", "independent"),
        ("gemini-2.5-pro", "separate_reasoning"),
        ("gpt-5.4", "subset"),
        ("openai/gpt-5.4", "subset"),
        ("chatgpt-4o-latest", "subset"),
        ("gpt-image-2", "subset"),
        ("codex-mini-latest", "subset"),
        ("o3", "subset"),
        ("o4-mini", "subset"),
        ("grok-4", "beside"),
        ("x-ai/grok-4", "beside"),
        ("moonshotai/kimi-k2", "subset"),
        ("qwen3-coder-plus", "subset"),
        ("deepseek/deepseek-v3.2", "subset"),
        ("llama-4-scout", "unknown"),
        ("o365-helper", "unknown"),
        ("my-gpt-", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
    ],
)
@pytest.mark.parametrize("unnamed", ["", "unknown", " Unknown "])
def test_a_model_is_evidence_where_provider_and_executor_say_nothing(model, of, unnamed):
    assert convention(unnamed, "", model) == of
    assert convention("", unnamed, model) == of
    assert convention(unnamed, unnamed, model) == of


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "gemini-2.5-pro", "gpt-5.4"])
@pytest.mark.parametrize(("provider", "executor"), [("local-vllm", ""), ("", "PluginExecutor"), ("iflow", "unknown")])
def test_a_model_is_no_evidence_against_a_named_provider(provider, executor, model):
    assert convention(provider, executor, model) == "unknown"
