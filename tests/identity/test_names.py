import pytest

from sidecar.core.names import check_key_name, check_scope, check_tenant_name


@pytest.mark.parametrize("name", ["a", "Acme", "0", "acme-corp.eu_1", "a" * 64])
def test_a_good_tenant_name_comes_back(name: str) -> None:
    assert check_tenant_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a\n", "a/b", "é", "a:b", "a" * 65, "a\r\nX: y"])
def test_a_wrong_tenant_name_is_explained(name: str) -> None:
    with pytest.raises(ValueError, match="is not a tenant's name; write") as refusal:
        check_tenant_name(name)
    assert str(refusal.value).isascii()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["ci", "web 1", "Zoë's laptop", "x" * 64])
def test_a_good_key_name_comes_back(name: str) -> None:
    assert check_key_name(name) == name


@pytest.mark.parametrize("name", ["", " ", " ci", "ci ", "a\tb", "a\x00", "a\x1b[0m", "x" * 65, "\u202eevil"])
def test_a_wrong_key_name_is_explained(name: str) -> None:
    with pytest.raises(ValueError, match="is not a key's name; write"):
        check_key_name(name)


@pytest.mark.parametrize("scope", ["read", "orders:write", "https://api.example/read", "a.b-c_d*", "x" * 128])
def test_a_good_scope_comes_back(scope: str) -> None:
    assert check_scope(scope) == scope


@pytest.mark.parametrize("scope", ["", "a b", "a,b", 'a"b', "a\\b", "é", "a\n", "x" * 129])
def test_a_wrong_scope_is_explained(scope: str) -> None:
    with pytest.raises(ValueError, match="is not a scope; write"):
        check_scope(scope)
