"""Which profile a kernel's name means."""

import pytest

from asi_pa.kernel.versions import kernel_profile


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("7.2", "7.2"),
        ("7.2.13", "7.2"),
        ("Linux 7.2.13+deb14-cloud-amd64", "7.2"),
        ("Linux 7.3-cloud-amd64", "7.3"),
        ("7.3-rc7", "7.3"),
        ("7.3~rc7", "7.3"),
        ("Linux 6.18, x86-64 guest", "6.18"),
        ("Linux 6.12.117+deb12-cloud-amd64", "6.12"),
    ],
)
def test_a_kernel_is_known_by_its_first_two_numbers(name: str, version: str) -> None:
    assert kernel_profile(name).version == version


@pytest.mark.parametrize("name", ["6.1", "6.120", "6.1-7.2", "Linux 4.19.0-6.12-amd64", "7", ""])
def test_others_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="unknown kernel"):
        kernel_profile(name)
