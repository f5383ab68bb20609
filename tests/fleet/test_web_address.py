"""Addresses that browsers are led to: what they may be, and that others end the start in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from skerry_fleet import config, web_address
from skerry_fleet.errors import InputError


@pytest.mark.parametrize(
    "address",
    ["", "http://127.0.0.1:8708", "https://cloud.example/", "https://cloud.example:444/a/b", "http://[::1]:80"],
)
def test_addresses_of_pages_are_taken(address: str, tmp_path: Path) -> None:
    assert config.load(tmp_path, {}, {"SKERRY_FLEET_CLOUD_URL": address}).cloud_url == address


@pytest.mark.parametrize(
    "address",
    [
        "cloud.example", "//cloud.example", "javascript:alert(1)", "javascript://cloud.example/%0aalert(1)", "https://",
        "ftp://cloud.example", "data:text/html,x", "https://ann:word@cloud.example", "https://cloud.example/?a=b",
        "https://cloud.example/#a", "https://cloud.example/a b", 'https://cloud.example/"', "https://cloud.example:99999",
        "https://cloud.example\\@elsewhere.example", "https://cl\u00f6ud.example", "https://cloud.example\n",
    ],
)  # fmt: skip
def test_others_are_refused_in_one_line(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cloud_url") as refused:
        config.load(tmp_path, {}, {"SKERRY_FLEET_CLOUD_URL": address})
    assert "\n" not in str(refused.value) and "https://cloud.example" in refused.value.hint


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://", "javascript:"]))
@hypothesis_settings(derandomize=True, deadline=None)
def test_whatever_is_taken_stays_an_address_in_a_page(text: str, scheme: str) -> None:
    try:
        web_address.check("cloud_url", scheme + text)
    except InputError:
        return
    assert not scheme + text or (scheme + text).lower().startswith(("http://", "https://"))
    assert not set(scheme + text) & set(" \t\r\n\"'<>\\?#")
