"""OpenAI's own client through the sidecar: whole and streamed replies pass untouched, and their tokens are metered."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, AuthenticationError, OpenAI

from tests.e2e.completions import Completions
from tests.e2e.process import Sidecar, write_config

POLICIES = """
meters:
  tokens: {from: [response.json, response.sse], path: $.usage.total_tokens}
  weighted:
    from: [response.json, response.sse]
    path: $.usage.total_tokens
    multiply: {path: $.model, by: {gpt-large: 10, gpt-small: 1}}
routes:
  - {name: chat, match: {methods: [POST], path: "/v1/chat/completions"}, upstream: api, on_disconnect: drain}
plans:
  scale:
    quotas:
      - {name: tokens, meter: tokens, limit: 1_000_000, period: month, overage: block}
      - {name: weighted, meter: weighted, limit: 1_000_000, period: month, overage: block}
"""


@pytest.fixture(scope="module")
def completions() -> Iterator[Completions]:
    server = Completions()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def front(completions: Completions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder: Path = tmp_path_factory.mktemp("openai")
    sidecar = Sidecar(folder, *write_config(folder, completions.url, POLICIES)).start()
    yield sidecar
    sidecar.close()


def client(front: Sidecar, key: str) -> OpenAI:
    return OpenAI(api_key=key, base_url=f"{front.base}/v1", max_retries=0, timeout=20)


def test_whole_and_streamed_completions_are_metered_by_model(front: Sidecar) -> None:
    openai = client(front, front.key("acme"))
    whole = openai.chat.completions.create(model="gpt-large", messages=[{"role": "user", "content": "say it in words"}])
    assert whole.choices[0].message.content == "one two three"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 7
    stream = openai.chat.completions.create(
        model="gpt-small",
        messages=[{"role": "user", "content": "again please"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    text, usage = "", None
    for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert text == "one two three"
    assert usage is not None
    assert usage.total_tokens == 5
    report = front.usage("acme", 2)
    assert report["meters"] == {"tokens": 12, "weighted": 75}
    assert report["anomalies"] == {}


async def test_a_client_that_leaves_its_stream_has_used_all_of_it(front: Sidecar) -> None:
    """``on_disconnect: drain``: the usage comes in the last event, which nobody waits for any more."""
    key = await asyncio.to_thread(front.key, "leaver")
    async with AsyncOpenAI(api_key=key, base_url=f"{front.base}/v1", max_retries=0, timeout=20) as openai:
        stream = await openai.chat.completions.create(
            model="gpt-small",
            messages=[{"role": "user", "content": "say it in words"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        first = await anext(aiter(stream))
        assert first.choices[0].delta.content == "one "
        await stream.close()
    report = await asyncio.to_thread(front.usage, "leaver", 1)
    assert report["meters"] == {"tokens": 7, "weighted": 7}


def test_a_stream_that_does_not_say_its_usage_is_an_anomaly_and_not_free_tokens(front: Sidecar) -> None:
    """field-bugs 20: a missing value is not zero (apache/apisix#13662; BerriAI/litellm#37992)."""
    openai = client(front, front.key("silent"))
    list(
        openai.chat.completions.create(
            model="gpt-small", messages=[{"role": "user", "content": "say nothing of it"}], stream=True
        )
    )
    report = front.usage("silent", 1)
    assert report["meters"] == {}
    assert report["anomalies"] == {"tokens": 1, "weighted": 1}


def test_a_model_without_a_factor_is_an_anomaly_of_that_meter_alone(front: Sidecar) -> None:
    openai = client(front, front.key("unknown"))
    openai.chat.completions.create(model="gpt-other", messages=[{"role": "user", "content": "hello"}])
    report = front.usage("unknown", 1)
    assert report["meters"] == {"tokens": 4}
    assert report["anomalies"] == {"weighted": 1}


def test_the_client_understands_a_refusal(front: Sidecar, completions: Completions) -> None:
    """field-bugs 18: a blocked request is never billed (Kong/developer.konghq.com#6691)."""
    before = len(completions.asked)
    with pytest.raises(AuthenticationError) as refused:
        client(front, "sk-nothing").chat.completions.create(
            model="gpt-small", messages=[{"role": "user", "content": "hello"}]
        )
    assert refused.value.response.json()["code"] == "key_missing"
    assert len(completions.asked) == before
