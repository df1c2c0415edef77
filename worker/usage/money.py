"""Money as whole numbers of 1e-12 US dollars, and back (pure)."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

PICO = Decimal("1e-12")
"""A cost's last decimal, in US dollars: one token at a rate of six decimals per million."""

WHOLE = Decimal(1)

EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
"""Arithmetic on money that rounds nowhere by itself."""


def usd(pico: int) -> Decimal:
    """Return units of 1e-12 US dollars as US dollars."""
    return EXACT.multiply(Decimal(pico), PICO)


def pico(cost_usd: Decimal) -> int:
    """Return US dollars as units of 1e-12, of which they are a whole number."""
    return int(cost_usd.scaleb(12, EXACT))


def times(cost_pico_usd: int, rate_multiplier: Decimal) -> int:
    """Return what a cost comes to over a channel with this rate multiplier, to twelve decimals."""
    return int(EXACT.quantize(EXACT.multiply(Decimal(cost_pico_usd), rate_multiplier), WHOLE))
