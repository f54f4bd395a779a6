"""About what machines cost an hour: a small table of our own, typed by hand and never fetched.

It was not checked against the providers' lists, and prices change: it says of what order a bill is.
A machine that the table does not hold has no price.
"""

from __future__ import annotations

from dataclasses import dataclass

AS_OF = "2025"
REGIONS = {"aws": "us-west-2", "gcp": "us-central1", "azure": "West US 2"}
"""Whose prices the table holds; other regions cost up to a half more."""


@dataclass(frozen=True)
class Price:
    """About so many US dollars an hour, on demand and on the spot market.

    ``spot`` is None where it varies too much to say, or there is none.
    """

    on_demand: float
    spot: float | None = None

    def of(self, spot: bool) -> float | None:
        """Return the price of one machine; None if it is not known."""
        return self.spot if spot else self.on_demand


# Typed by hand, of about the year above; Linux, without disks and traffic.
_PRICES = {
    "aws": {
        "m5.large": Price(0.096, 0.04),
        "m5.xlarge": Price(0.192, 0.08),
        "m5.2xlarge": Price(0.384, 0.16),
        "m6i.large": Price(0.096, 0.04),
        "m6i.xlarge": Price(0.192, 0.08),
        "m6i.2xlarge": Price(0.384, 0.16),
        "g4dn.xlarge": Price(0.526, 0.21),
        "g4dn.2xlarge": Price(0.752, 0.30),
        "g4dn.12xlarge": Price(3.912),
        "g5.xlarge": Price(1.006, 0.42),
        "g5.2xlarge": Price(1.212, 0.50),
        "g5.4xlarge": Price(1.624, 0.68),
        "g5.12xlarge": Price(5.672),
        "g5.48xlarge": Price(16.288),
        "g6.xlarge": Price(0.805, 0.33),
        "g6.2xlarge": Price(0.978, 0.40),
        "g6.4xlarge": Price(1.323, 0.55),
        "g6.12xlarge": Price(4.602),
        "g6.48xlarge": Price(13.350),
        "g6e.xlarge": Price(1.861),
        "g6e.2xlarge": Price(2.242),
        "p4d.24xlarge": Price(21.96),
        "p5.48xlarge": Price(55.04),
    },
    "gcp": {
        "e2-standard-4": Price(0.134, 0.054),
        "e2-standard-8": Price(0.268, 0.107),
        "n2-standard-4": Price(0.194),
        "n2-standard-8": Price(0.388),
        "g2-standard-4": Price(0.707, 0.28),
        "g2-standard-8": Price(0.854, 0.34),
        "g2-standard-12": Price(1.001, 0.40),
        "g2-standard-24": Price(2.001, 0.80),
        "g2-standard-48": Price(4.002, 1.60),
        "a2-highgpu-1g": Price(3.673),
        "a2-highgpu-8g": Price(29.39),
        "a3-highgpu-8g": Price(88.49),
    },
    "azure": {
        "Standard_D4s_v5": Price(0.192),
        "Standard_D8s_v5": Price(0.384),
        "Standard_NC4as_T4_v3": Price(0.526, 0.16),
        "Standard_NC8as_T4_v3": Price(0.752, 0.23),
        "Standard_NC64as_T4_v3": Price(4.352),
        "Standard_NC24ads_A100_v4": Price(3.673),
        "Standard_NC48ads_A100_v4": Price(7.346),
        "Standard_NC96ads_A100_v4": Price(14.692),
        "Standard_NC40ads_H100_v5": Price(6.98),
    },
}


def price_of(provider: str, instance: str, spot: bool) -> float | None:
    """Return US dollars an hour of one machine; None if the table does not have it."""
    found = _PRICES.get(provider, {}).get(instance)
    return None if found is None else found.of(spot)


def note(provider: str) -> str:
    """Return where the prices of a provider are from, in a sentence."""
    return (
        f"Prices are rough ones of {REGIONS[provider]} in {AS_OF}, typed by hand and not checked "
        "against the provider's list, without disks, traffic and tax; those of spot machines "
        "change by the hour."
    )
