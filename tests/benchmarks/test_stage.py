from pathlib import Path

import pytest

from benchmarks import lineup, nginx, seed, stage


def test_placeholders_are_replaced_and_dollars_stay(tmp_path: Path) -> None:
    template = tmp_path / "t"
    template.write_text("listen @PORT@; $host @type")
    assert stage.render(template, port=80) == "listen 80; $host @type"


def test_a_placeholder_without_a_value_is_an_error(tmp_path: Path) -> None:
    template = tmp_path / "t"
    template.write_text("@PORT@ @UPSTREAM@")
    with pytest.raises(KeyError, match="UPSTREAM"):
        stage.render(template, port=80)


def test_a_missing_program_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(stage.Missing, match="apt install it"):
        stage.program("no-such-program-here", "apt install it")
    monkeypatch.setenv("SOME_BIN", "/no/such/file")
    with pytest.raises(stage.Missing, match="SOME_BIN"):
        stage.program("sh", "", variable="SOME_BIN")


@pytest.mark.parametrize("size", [32, 400, 100_000])
def test_the_reply_has_the_size_asked_for(size: int) -> None:
    assert len(nginx.json_reply(size)) == size


def test_seeded_ids_differ_and_have_one_length() -> None:
    ids = {seed.key_id(number) for number in range(10_000)}
    assert len(ids) == 10_000
    assert {len(key_id) for key_id in ids} == {12}


def test_the_page_names_every_peer() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert [name for name in lineup.NAMES if f"`{name}`" not in page] == []
