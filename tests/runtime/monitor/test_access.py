"""Who is let in, and in which words others are not."""

from __future__ import annotations

import pytest

from multires_edge.base.errors import InputError
from multires_edge.runtime.monitor.access import Gate, Refused, is_loopback

TOKEN = "correct horse"
NAME, VALUE = (Gate("0.0.0.0", TOKEN).cookie_for("/?token=correct+horse") or "").split(";")[0].split("=")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "device.local", ""])
def test_other_machines_take_a_token(host: str) -> None:
    with pytest.raises(InputError, match=r"so it needs a --token"):
        Gate(host, None)
    Gate(host, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_takes_none(host: str) -> None:
    assert is_loopback(host)
    Gate(host, None).check_token({})


def test_a_short_token_is_none() -> None:
    with pytest.raises(InputError, match="has 3 characters, expected 8"):
        Gate("0.0.0.0", "abc")


class TestAddresses:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1:8077", "localhost", "LOCALHOST:1", "[::1]:8077", "192.168.1.5:80", "ward.example"]
    )
    def test_ours(self, host: str) -> None:
        Gate("127.0.0.1", None, ["ward.example"]).check_address({"Host": host})

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8077",
            "[::1",
            "a@localhost",
            "localhost;x",
        ],
    )
    def test_not_ours(self, host: str) -> None:
        """A name that an attacker points here: DNS rebinding."""
        with pytest.raises(Refused, match="does not answer to") as refused:
            Gate("127.0.0.1", None).check_address({"Host": host})
        assert refused.value.status == 421

    def test_pages_from_here(self) -> None:
        gate = Gate("127.0.0.1", None)
        gate.check_address({"Host": "127.0.0.1:8077", "Origin": "http://127.0.0.1:8077"})
        gate.check_address({"Host": "localhost", "Origin": "https://localhost"})  # behind a proxy

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.example", "http://127.0.0.1:9000", "null", "", "http://127.0.0.1:8077.evil.example"],
    )
    def test_pages_from_elsewhere(self, origin: str) -> None:
        with pytest.raises(Refused, match="Pages of other sites") as refused:
            Gate("127.0.0.1", None).check_address({"Host": "127.0.0.1:8077", "Origin": origin})
        assert refused.value.status == 403


class TestTokens:
    def test_once_in_the_address_then_as_a_cookie(self) -> None:
        gate = Gate("0.0.0.0", TOKEN)
        cookie = gate.cookie_for("/?token=correct+horse")
        assert cookie is not None and TOKEN not in cookie
        assert {"HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
        gate.check_token({"Cookie": f"other=1; {cookie.partition(';')[0]}"})

    def test_cookies_of_other_programs_do_not_matter(self) -> None:
        """The standard library would drop all of these, because of the second one."""
        gate = Gate("0.0.0.0", TOKEN)
        gate.check_token({"Cookie": f'a=1;  ,{{"b": [}}\x7f=; ;{NAME}={VALUE};c'})

    def test_as_a_bearer(self) -> None:
        Gate("0.0.0.0", TOKEN).check_token({"Authorization": f"Bearer {TOKEN}"})

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Cookie": f"{NAME}="},
            {"Cookie": NAME},
            {"Cookie": f"{NAME}={TOKEN}"},
            {"Cookie": f"other={VALUE}"},
            {"Cookie": f"{NAME}=\udce4; \x00"},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer correct hors\udce9"},
            {"Authorization": f"Basic {TOKEN}"},
        ],
    )
    def test_nothing_else(self, headers: dict[str, str]) -> None:
        with pytest.raises(Refused) as refused:
            Gate("0.0.0.0", TOKEN).check_token(headers)
        assert refused.value.status == 401

    @pytest.mark.parametrize("path", ["/?token=wrong", "/?token=correct+hors", "/?token=%ff", "/x?token=w"])
    def test_a_wrong_one_in_the_address(self, path: str) -> None:
        with pytest.raises(Refused, match="not the token"):
            Gate("0.0.0.0", TOKEN).cookie_for(path)

    def test_each_token_has_a_cookie_of_its_own(self) -> None:
        """All ports of a host share their cookies: another name keeps both."""
        cookies = [Gate("0.0.0.0", t).cookie_for(f"/?token={t}") or "" for t in ("12345678", "12345679")]
        names, values = zip(*(cookie.split(";")[0].split("=") for cookie in cookies), strict=True)
        assert names[0] != names[1] and values[0] != values[1]
        # Browsers keep 180 cookies of a host, and send them in a header of at most 8192 bytes.
        assert 180 * (len(names[0]) + len(values[0]) + len("=; ")) < 8192

    def test_an_address_with_very_many_fields(self) -> None:
        with pytest.raises(Refused, match="too many fields") as refused:
            Gate("0.0.0.0", TOKEN).cookie_for("/?" + "&".join(["token=correct+horse"] * 100))
        assert refused.value.status == 400
