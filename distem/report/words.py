"""Numbers and names as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LEAST, _MOST = 1e-4, 1e6


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, in powers of ten where it is very large or small."""
    value = float(value)
    if not math.isfinite(value):
        return "not known" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0.0:
        return "0"
    rounded = float(f"{value:.{max(digits, 1) - 1}e}")
    if _LEAST <= abs(rounded) < _MOST:
        exponent = math.floor(math.log10(abs(rounded)))
        text = f"{rounded:,.{max(0, digits - 1 - exponent)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa, _, power = f"{value:.{max(digits, 1) - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        scale = power_of_ten(int(power))
        text = scale if mantissa == "1" else f"−{scale}" if mantissa == "-1" else f"{mantissa} × {scale}"
    return text.replace("-", "−")


def criterion(value: float) -> str:
    """A large number that is compared with others of its kind: all digits before the point."""
    if not math.isfinite(value) or abs(value) >= 1e12:
        return number(value, 8)
    return f"{value:,.{0 if abs(value) >= 1e4 else 1}f}".replace("-", "−")


def power_of_ten(exponent: int) -> str:
    """10 to some power, e.g. 10⁻³."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def whole(value: float) -> str:
    """A count, with thousands separated."""
    return f"{round(value):,}"


def count(value: float, noun: str, plural: str | None = None) -> str:
    """A count and what is counted: 1 row, 2 rows."""
    return f"{whole(value)} {noun if round(value) == 1 else plural or noun + 's'}"


def share(value: float) -> str:
    """A fraction as a percentage that is never rounded to none or all of it."""
    if not math.isfinite(value):
        return "not known"
    if 0.0 < value < 0.001:
        return "<0.1%"
    if 0.999 < value < 1.0:
        return ">99.9%"
    return f"{100.0 * value:.1f}%"


def plus_minus(mean: float, sd: float) -> str:
    """A mean and a standard deviation, the latter with two digits."""
    if not (math.isfinite(mean) and math.isfinite(sd)):
        return f"{number(mean)} ± {number(sd)}"
    if sd == 0.0:
        return f"{number(mean, 6)} ± 0"
    size = max(abs(mean), sd)
    power = math.floor(math.log10(size))
    if (abs(power) < 6 and sd > 1e-6) or (0 < power < 12 and 1e-4 < sd < 1.0):
        power = 0  # written out
    places = 1 - math.floor(math.log10(sd)) + power
    if places > 12:  # a spike: the digits of the mean would not end
        return f"{number(mean, 8)} ± {number(sd, 2)}"
    scale = 10.0**power
    digits = max(0, places)
    at = round(mean / scale, digits) + 0.0  # no minus before a zero
    text = f"{at:,.{digits}f} ± {sd / scale:,.{digits}f}".replace("-", "−")
    return text if power == 0 else f"({text}) × {power_of_ten(power)}"


def seconds(value: float) -> str:
    """A duration."""
    if not math.isfinite(value):
        return "not known"
    if value < 1.0:
        return f"{number(1000.0 * value, 2)} ms"
    if value < 120.0:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def listed(items: Sequence[str], most: int = 12) -> str:
    """Some names: a, b and c."""
    shown = list(items[:most])
    if len(items) > most:
        return f"{', '.join(shown)} and {len(items) - most:,} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def plain(text: str) -> str:
    """Text that XML and HTML can hold: no control characters, no line ends."""
    return "".join(c if c.isprintable() else " " for c in text)


def short(text: str, most: int = 34) -> str:
    """Text cut to a length that fits a figure."""
    text = plain(text)
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
