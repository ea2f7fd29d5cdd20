"""Money as integer micro-units (a millionth of the currency's unit), and the one rounding rule.

Rates may be finer than a micro-unit (``0.000015 USD`` per millisecond is 15 millionths, a byte costs far less), so a
rate is an exact fraction, and only the sum for one call is rounded: half to even, so that a million calls do not drift.
"""

from dataclasses import dataclass
from fractions import Fraction

MICROS = 1_000_000
CURRENCIES = frozenset(
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW KZT MAD MXN "
    "MYR NGN NOK NZD PEN PHP PKR PLN QAR RON RSD SAR SEK SGD THB TRY TWD UAH USD UYU VND ZAR".split()
)

# Decimals of the smallest unit in which Stripe takes amounts, where they are not two. ISK and UGX have none, but are
# written there with two.
MINOR_DIGITS = dict.fromkeys("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split(), 0)
MINOR_DIGITS |= dict.fromkeys("BHD JOD KWD OMR TND".split(), 3)


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount: ``amount`` in units of ``currency`` (ISO 4217). Never made from a float."""

    amount: Fraction
    currency: str

    @property
    def micros(self) -> int:
        """The amount rounded to integer micro-units."""
        return round_micros(self.amount * MICROS)

    @property
    def minor(self) -> Fraction:
        """The exact amount in the currency's smallest unit: cents of a dollar, yen, thousandths of a dinar."""
        scale: int = 10 ** MINOR_DIGITS.get(self.currency, 2)
        return self.amount * scale

    def __str__(self) -> str:
        return f"{format_amount(self.amount)} {self.currency}"

    def __reduce__(self) -> tuple[type["Money"], tuple[Fraction, str]]:
        # Workers get their policies pickled, and what pickle does by itself assigns to fields, which a compiled frozen
        # class refuses.
        return Money, (self.amount, self.currency)


def round_micros(value: Fraction) -> int:
    """The project's only rounding of money: to the nearest integer, halves to even (IEEE 754 roundTiesToEven)."""
    return round(value)


def round_div(numerator: int, denominator: int) -> int:
    """``round_micros(Fraction(numerator, denominator))`` without making the fraction. The denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    twice = rest << 1
    return quotient + 1 if twice > denominator or (twice == denominator and quotient & 1) else quotient


def format_micros(micros: int, currency: str) -> str:
    """Micro-units for people: ``format_micros(15_500_000, "USD") == "15.50 USD"``."""
    return f"{format_amount(Fraction(micros, MICROS))} {currency}"


def format_amount(amount: Fraction) -> str:
    """An exact decimal with at least two places and no trailing zeros after them; non-terminating ones stop at 12."""
    sign = "-" if amount < 0 else ""
    scaled = round(abs(amount) * 10**12)
    whole, part = divmod(scaled, 10**12)
    places = f"{part:012d}".rstrip("0")
    return f"{sign}{whole}.{places:0<2}"
